"""From a line of http-api.md to its test: LINES holds each line's short words and the tests that prove it.

A parameter of the table in datasets/query/parameters.py without a line here fails, and so does a line whose
test is gone.
"""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from datasets.query.parameters import IGNORED, PARAMETERS

TESTS = Path(__file__).resolve().parents[1]
READING, CLIENTS = "test_spec_reading.py", "test_spec_clients.py"

TOLERANCES = {
    "1 success is exactly 200 with a JSON body": "tolerance_1_success_is_200_with_a_json_body",
    "2 Content-Type to the letter": "tolerance_2_content_type_is_the_same_to_the_letter",
    "3 Connection: close is echoed": "tolerance_3_connection_close_is_echoed",
    "4 Content-Type: undefined": "tolerance_4_content_type_undefined_is_no_error",
    "4 its preflight": "tolerance_4_its_preflight_is_answered",
    "5 /openapi-doc and /status without a token": "tolerance_5_needs_no_token",
    "6 ?a=1&&b=2, ?&token=": "tolerance_6_stray_separators",
    "6 a trailing slash, never a redirect": "tolerance_6_a_trailing_slash_is_never_a_redirect",
    "6 undefined, null and empty as absent": "tolerance_6_undefined_null_and_empty_are_absent",
    "6 True/true/1": "tolerance_6_words_for_true",
    "6 upper- or lower-case enum values": "tolerance_6_enum_values_have_any_case",
    "6 unknown parameter names": "tolerance_6_unknown_names_are_ignored",
    "6 a bad value of a known name": "tolerance_6_a_bad_value_of_a_known_name_is_a_400_that_names_it",
    "6 a body labelled JSON that is CSV": "tolerance_6_csv_labelled_json_is_csv",
    "6 [object Object]": "tolerance_6_object_object_was_not_serialised",
    "7 DELETE of a dataset with a record-selecting parameter":
        "trap_7_a_dataset_is_not_deleted_when_records_are_meant",
    "7 deletes of records are recoverable": "trap_7_deleted_records_are_listed_and_come_back_for_24_hours",
    "7 deletes of datasets are recoverable": "trap_7_a_deleted_dataset_comes_back_for_24_hours",
}  # fmt: skip

# Parameters of reads that are not named test_parameter_<name>, and those of other operations.
ELSEWHERE = {
    "duplicateKeyHandling": "test_data_api.py::test_duplicates_are_ignored_or_replaced_and_counted",
    "overwrite": "test_data_api.py::test_duplicates_are_ignored_or_replaced_and_counted",
    "createDatasetOnDemand": "test_idempotency.py::test_create_dataset_on_demand_false_makes_nothing",
    "wait": "test_data_api.py::test_waiting_gives_the_count_whatever_the_label_says",
    "maximumValidationErrors": "test_data_api.py::test_more_invalid_lines_than_allowed_fail_the_upload",
    "totalMessages": "test_account_api.py::test_message_budget_and_pay_as_you_go_are_kept_and_told",
    "allow": "test_account_api.py::test_message_budget_and_pay_as_you_go_are_kept_and_told",
    "trash": "test_tokens_api.py::test_tokens_are_listed_oldest_first_and_in_pages",
    "by": "test_tokens_api.py::test_usage_is_told_by_day_and_one_thing_more",
    "period": "test_account_api.py::test_logs_tell_changes_and_failed_jobs_of_the_period",
} | dict.fromkeys(IGNORED - {"token"}, f"{READING}::test_parameter_accepted")

OTHERS = {
    "Token: ?token=, Bearer, X-API-Key": "test_access.py::test_the_value_is_taken_from",
    "Token: in a JSON body on /account/* POST":
        "test_account_api.py::test_the_token_of_an_account_call_may_stand_in_the_body",
    "Token: two values, or one place twice": "test_access.py::test_value_is_refused",
    "Token: secret-in-browser unless switched off":
        "test_access.py::test_secret_token_from_a_browser_is_refused",
    "Refusals: each code": "test_refusal_codes.py::test_each_code_is_answered_to_its_request",
    "Refusals: a body in chunks is read": "test_server.py::test_a_chunked_body_is_read",
    "on, from, to: every form": "test_query.py::test_dates_become_half_open_spans",
    "range: every word": "test_query.py::test_range_looks_back",
    "range with calendar=true": "test_query.py::test_range_looks_forward_with_calendar",
    "limit: cap 5,000 a response": f"{READING}::test_parameter_limit_is_at_most_5000_records_an_answer",
    "export: count and cost before the first byte":
        "test_export.py::test_an_export_that_does_not_fit_the_limit_sends_and_charges_nothing",
    "export: two at a time per token": "test_export.py::test_two_exports_at_a_time_per_token",
    "format: parquet": f"{READING}::test_parameter_format_parquet",
    "format: also by Accept": f"{READING}::test_format_by_accept",
    "queryId: 10 s overlap": "test_export.py::test_query_id_overlaps_by_ten_seconds",
    "queryId: forgotten after 24 h": "test_export.py::test_query_id_is_forgotten_after_24_hours_and_purged",
    "only index properties are searched by path":
        f"{READING}::test_only_index_properties_are_searched_by_path",
    "keys are case-sensitive and hold any character":
        f"{READING}::test_keys_are_case_sensitive_and_hold_any_character",
    "an unknown key is 200 []": f"{READING}::test_an_unknown_key_is_200_and_an_empty_array",
    "records have just the schema's properties":
        "test_read_parameters.py::test_records_of_a_workspace_have_their_own_properties_alone",
    "CORE and PREMIUM add id, key, subkey, date, updated":
        "test_read_parameters.py::test_records_of_core_carry_the_platforms_properties",
    "weak ETag, If-None-Match 304": f"{READING}::test_etag_is_weak_and_if_none_match_answers_304",
    "304 is free, after all checks":
        "test_delivery.py::test_304_is_free_and_head_costs_what_get_costs",
    "batch: records of A for K1, K2, then B":
        "test_batch.py::test_records_of_every_pair_are_in_the_order_of_the_path",
    "batch: at most 2,000 pairs or nothing runs": "test_batch.py::test_at_most_2000_pairs_or_nothing_runs",
    "batch: _system_error is the last element":
        "test_batch.py::test_a_failure_on_the_way_is_the_last_element",
    "batch: one ungranted dataset refuses all":
        "test_batch.py::test_one_dataset_that_is_not_granted_refuses_all",
    "7 what was deleted is gone after 24 hours":
        "test_dataset_api.py::test_what_was_deleted_a_day_ago_is_removed_for_good",
}  # fmt: skip


def of_parameter(name: str) -> str:
    """test_parameter_date_field for dateField, unless its test is elsewhere."""
    words = re.sub(r"(?=[A-Z])", "_", name).lower()
    return ELSEWHERE.get(name, f"{READING}::test_parameter_{words}")


PARAMETER_NAMES = sorted({found.name for found in PARAMETERS} | IGNORED - {"token"})
LINES = (
    {f"{name}=": of_parameter(name) for name in PARAMETER_NAMES}
    | {line: f"{CLIENTS}::test_{name}" for line, name in TOLERANCES.items()}
    | OTHERS
)


@cache
def names_in(file: str) -> frozenset[str]:
    tree = ast.parse(next(TESTS.rglob(file)).read_text())
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("line", LINES)
def test_each_line_has_its_test(line: str) -> None:
    file, name = LINES[line].split("::")

    assert name in names_in(file)


@pytest.mark.parametrize("file", [READING, CLIENTS])
def test_each_test_of_a_line_is_listed(file: str) -> None:
    named = {name for name in names_in(file) if name.startswith("test_")}

    assert {f"{file}::{name}" for name in named} <= set(LINES.values())


def test_no_name_is_listed_that_is_no_parameter() -> None:
    assert set(ELSEWHERE) <= set(PARAMETER_NAMES)
