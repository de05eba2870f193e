"""The list "What old clients need from every answer" of http-api.md: a test per line, named by its number.

The unmodified clients themselves are in tests/clients.
"""

from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from apperate.database.clock import database_now
from apperate.http.problems import JSON
from datasets.models import Dataset
from datasets.query.parameters import SELECTING
from datasets.services import editing, trash
from tests.support.data_plane_client import Reply
from tests.support.served import PRICES, SCHEMA, Served

pytestmark = pytest.mark.django_db
UNDEFINED = "undefined"
CSV = b"ticker,day\nCSV,2024-01-01\n"
RECORD = {"ticker": "ONE", "day": "2024-01-01"}


def good(reply: Reply) -> Any:
    assert reply.status == 200, reply.body
    assert reply.headers["content-type"] == "application/json; charset=utf-8"
    return reply.json()


def named(reply: Reply, *words: str) -> None:
    """It is a 400 that says these words."""
    assert (reply.status, reply.code) == (400, "invalid-values"), reply.body
    assert all(word in f"{reply.json()}" for word in words), reply.body


def test_tolerance_1_success_is_200_with_a_json_body(served: Served, tmp_path: Path) -> None:
    """Whatever is made, changed or deleted: never 201, 202, 204 or an empty body."""
    made = {"dataset": {"datasetId": "MADE", "schema": SCHEMA, "columnMapping": {"key": "ticker"}}}
    calls: list[tuple[str, str, Any]] = [
        ("GET", "status", None),
        ("GET", "data", None),
        ("POST", "datasets/ACME", made),
        ("PATCH", "datasets/ACME/MADE", {"dataset": {"title": "New"}}),
        ("POST", "record/ACME/MADE", [RECORD]),
        ("POST", "data/ACME/MADE", CSV),
        ("GET", "data/ACME/MADE/NONE", None),
        ("GET", "jobs/ACME/ingest", None),
        ("DELETE", "data/ACME/MADE/ONE", None),
        ("DELETE", "data/ACME/MADE/NONE", None),
        ("PUT", "datasets/ACME/MADE/RENAMED", None),
        ("DELETE", "datasets/ACME/RENAMED", None),
        ("POST", "account/messagebudget", None),
        ("GET", "account/usage", None),
    ]
    with override_settings(INGEST_DIR=tmp_path):
        for method, path, body in calls:
            query = "totalMessages=5" if "budget" in path else ""
            assert good(served.send(method, path, query, body)) is not None, path


def test_tolerance_2_content_type_is_the_same_to_the_letter(served: Served) -> None:
    assert JSON == served.get("PRICES").headers["content-type"] == "application/json; charset=utf-8"


def test_tolerance_3_connection_close_is_echoed(served: Served) -> None:
    assert served.get("PRICES", Connection="close").headers["connection"] == "close"
    assert "connection" not in served.get("PRICES").headers
    assert served.get("NONE", Connection="close").headers["connection"] == "close", "in refusals too"


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT"])
def test_tolerance_4_content_type_undefined_is_no_error(served: Served, method: str) -> None:
    path = {"GET": "data/ACME/PRICES", "DELETE": "data/ACME/PRICES/NONE", "PUT": "datasets/ACME/PLANS/PLANS2"}

    good(served.send(method, path[method], Content_Type=UNDEFINED))

    if method == "PUT":
        good(served.send("PUT", "datasets/ACME/PLANS2/PLANS", Content_Type=UNDEFINED))


def test_tolerance_4_its_preflight_is_answered(served: Served) -> None:
    asked = {"Origin": "https://x.example", "Access-Control-Request-Headers": "content-type"}

    reply = served.api.request("OPTIONS", "/v1/data/ACME/PRICES", headers=asked)

    assert (reply.status, reply.body) == (200, b"{}")
    assert reply.headers["access-control-allow-headers"] == "content-type"


@pytest.mark.parametrize("path", ["openapi-doc", "status"])
def test_tolerance_5_needs_no_token(served: Served, path: str) -> None:
    assert served.api.get(f"/v1/{path}").status == 200


@pytest.mark.parametrize("query", ["last=2&&sort=desc", "&last=2", "last=2&", "?=&last=2"])
def test_tolerance_6_stray_separators(served: Served, query: str) -> None:
    reply = served.api.get(f"/v1/data/ACME/PRICES/AAPL?&token={served.token}&{query}")

    assert len(good(reply)) == 2


def test_tolerance_6_a_trailing_slash_is_never_a_redirect(served: Served) -> None:
    """It would lose bodies."""
    assert len(good(served.get("PRICES/AAPL/", "last=2"))) == 2
    assert good(served.send("POST", "record/ACME/SCRATCH/", body=RECORD))["message"] == "wrote 1 messages"


@pytest.mark.parametrize("text", ["undefined", "null", ""])
def test_tolerance_6_undefined_null_and_empty_are_absent(served: Served, text: str) -> None:
    absent = "&".join(f"{name}={text}" for name in ("first", "limit", "from", "on", "filter", "format"))

    assert served.shown("PRICES/AAPL", f"last=2&{absent}") == ["A6", "A5"]


@pytest.mark.parametrize("text", ["True", "true", "1", "TRUE"])
def test_tolerance_6_words_for_true(served: Served, text: str) -> None:
    assert good(served.get("PRICES", f"schema={text}"))[0]["name"] == "ticker"


def test_tolerance_6_enum_values_have_any_case(served: Served) -> None:
    for query in ("sort=ASC&format=JSON", "sort=asc&format=json", "sort=Asc&format=Json"):
        assert served.shown("PRICES/AAPL", f"limit=2&{query}") == ["A1", "A2"]


def test_tolerance_6_unknown_names_are_ignored(served: Served) -> None:
    assert served.shown("PRICES/AAPL", "last=2&nonsense=1&Last=5") == ["A6", "A5"]


def test_tolerance_6_a_bad_value_of_a_known_name_is_a_400_that_names_it(served: Served) -> None:
    named(served.get("PRICES", "last=two"), "last=two", "a whole number")


def test_tolerance_6_csv_labelled_json_is_csv(served: Served, tmp_path: Path) -> None:
    """It is taken as a file of one line, whose columns are known before the job runs."""
    with override_settings(INGEST_DIR=tmp_path):
        said = good(served.send("POST", "data/ACME/SCRATCH", body=CSV, Content_Type="application/json"))
        other = served.send(
            "POST", "data/ACME/SCRATCH", body=b"colour\nred\n", Content_Type="application/json"
        )

    assert said["message"].startswith(f"Data upload of {len(CSV)}B for SCRATCH completed")
    named(other, "colour")


@pytest.mark.parametrize("path", ["record/ACME/SCRATCH", "data/ACME/SCRATCH", "datasets/ACME"])
def test_tolerance_6_object_object_was_not_serialised(served: Served, path: str) -> None:
    named(served.send("POST", path, body=b"[object Object]"), "forgot to serialise")


def test_trap_7_a_dataset_is_not_deleted_when_records_are_meant(served: Served) -> None:
    for name in sorted(SELECTING):
        named(served.send("DELETE", "datasets/ACME/PRICES", f"{name}=1"), name, "whole dataset")
        named(served.send("DELETE", "datasets/ACME/PRICES", f"{name}="), name)

    assert Dataset.objects.kept().filter(name="PRICES").exists()
    assert len(served.shown("PRICES", "limit=99")) == len(PRICES)


def test_trap_7_deleted_records_are_listed_and_come_back_for_24_hours(served: Served) -> None:
    """The range of this delete may have been dropped by the client."""
    served.write("SCRATCH", [{"ticker": "TRAP", "day": f"2024-01-0{day}"} for day in (1, 2, 3)])
    assert good(served.send("DELETE", "data/ACME/SCRATCH/TRAP"))["message"] == "deleted 3 records"
    assert served.shown("SCRATCH/TRAP", "limit=9") == []
    dataset = Dataset.objects.get(name="SCRATCH")

    (listed,) = trash.deletions_of(dataset, now=database_now())
    restored = trash.restore_deletion(deletion=listed, by=None, now=database_now())

    assert (listed.key, restored) == ("TRAP", trash.Restored(records=3, kept=0))


def test_trap_7_a_deleted_dataset_comes_back_for_24_hours(served: Served) -> None:
    good(served.send("DELETE", "datasets/ACME/PLANS"))
    dataset = Dataset.objects.get(name="PLANS")

    assert isinstance(editing.restore_dataset(dataset=dataset, by=None, now=database_now()), Dataset)
