"""The HTTP API on records: reading with every parameter, writing, deleting, uploading, and refusals."""

import json
import re
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from django.conf import LazySettings
from django.db import connection

from apperate.accounts.models import AuditEvent, Workspace
from apperate.database.clock import database_now
from apperate.kernel.refusals import Refusal
from datasets.models import Dataset, Deletion, IngestJob
from datasets.services import creating, editing, writing
from datasets.storage import writes
from datasets.storage.catalog import catalog
from tests.support.data_plane_client import DataPlaneClient, Reply
from tests.support.factories import LONG_AGO, DatasetFactory, RevisionFactory, TokenFactory
from tests.support.records_api import Caller, count, refused
from tokens.models import Token
from tokens.rules.token_format import TokenKind

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("ingest_dir", "empty_queue")]

RECORDS = [
    {"ticker": ticker, "date": f"2024-01-0{day}", "close": close, "volume": day * 100}
    for ticker, close in (("AAPL", 185.64), ("MSFT", 370.87))
    for day in (2, 3, 4)
]


@pytest.fixture
def options(workspace: Workspace) -> Dataset:
    """A dataset with a subkey and no date."""
    document = {
        "datasetId": "OPTIONS",
        "schema": {
            "properties": {
                "name": {"type": "string"},
                "strike": {"type": "number"},
                "note": {"type": "string"},
            }
        },
        "columnMapping": {"key": "name", "subkey": "strike"},
    }
    made = creating.create_from_document(
        workspace=workspace, document={"dataset": document}, by=None, now=datetime.now(UTC)
    )
    assert isinstance(made, Dataset), made
    return made


@pytest.fixture
def filled(call: Caller, prices: Dataset) -> Caller:
    call.fill(RECORDS)
    return call


def short(reply: Reply) -> list[str]:
    """The records of an answer as TICKER-day."""
    assert reply.status == 200, reply.body
    return [f"{record['ticker']}-{record['date'][-1]}" for record in reply.json()]


# --- reading ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "query", "expected"),
    [
        ("PRICES/AAPL", "", ["AAPL-4"]),
        ("PRICES", "", ["MSFT-4"]),
        ("PRICES/AAPL", "last=2", ["AAPL-4", "AAPL-3"]),
        ("PRICES/AAPL", "first=2", ["AAPL-2", "AAPL-3"]),
        ("PRICES/AAPL", "limit=5", ["AAPL-4", "AAPL-3", "AAPL-2"]),
        ("PRICES/AAPL", "limit=1&offset=1", ["AAPL-3"]),
        ("PRICES/AAPL", "last=1&limit=3", ["AAPL-4"]),
        ("PRICES/AAPL", "on=2024-01-03", ["AAPL-3"]),
        ("PRICES/AAPL", "on=20240103", ["AAPL-3"]),
        ("PRICES/AAPL", "from=2024-01-03", ["AAPL-4", "AAPL-3"]),
        ("PRICES/AAPL", "to=2024-01-03", ["AAPL-3", "AAPL-2"]),
        ("PRICES/AAPL", "from=2024-01-02&to=2024-01-03&sort=ASC", ["AAPL-2", "AAPL-3"]),
        ("PRICES/AAPL", "from=2024-01-03T00:00:00Z&to=2024-01-03T23:00:00Z", ["AAPL-3"]),
        ("PRICES/AAPL", "from=1704240000000", ["AAPL-4", "AAPL-3"]),
        ("PRICES/AAPL", "range=2024&limit=1", ["AAPL-4"]),
        ("PRICES/AAPL", "range=Q12024", ["AAPL-4", "AAPL-3", "AAPL-2"]),
        ("PRICES/AAPL", "range=2023", []),
        ("PRICES/AAPL", "limit=3&sort=asc", ["AAPL-2", "AAPL-3", "AAPL-4"]),
        ("PRICES/AAPL", "last=2&sort=asc", ["AAPL-3", "AAPL-4"]),
        ("PRICES", "on=2024-01-02", ["MSFT-2", "AAPL-2"]),
        ("PRICES/AAPL,MSFT", "last=1", ["AAPL-4", "MSFT-4"]),
        ("PRICES/MSFT,AAPL,MSFT", "last=1", ["MSFT-4", "AAPL-4"]),
        ("PRICES/AAPL;MSFT", "last=1&batchSeparator=%3B", ["AAPL-4", "MSFT-4"]),
        ("prices/AAPL", "last=1", ["AAPL-4"]),
        ("PRICES/aapl", "last=1", []),
        ("PRICES/NONE", "last=1", []),
        ("PRICES/AAPL", "last=undefined&limit=null&from=", ["AAPL-4"]),
        ("PRICES/AAPL", "last=1&&nonsense=1", ["AAPL-4"]),
        ("PRICES/AAPL/", "last=1", ["AAPL-4"]),
    ],
)
def test_records_are_read(filled: Caller, path: str, query: str, expected: list[str]) -> None:
    assert short(filled.get(path, query)) == expected


def test_records_come_as_they_were_written(call: Caller, prices: Dataset) -> None:
    body = b'{"volume": 10, "ticker":"A","date":"2024-01-02", "close":1.50}'
    assert call.post("record/ACME/PRICES", body).status == 200

    reply = call.get("PRICES/A")

    assert reply.body == b'[{"volume":10,"ticker":"A","date":"2024-01-02","close":1.50}]'


def test_filter_keeps_the_named_properties_in_their_order(filled: Caller) -> None:
    assert filled.get("PRICES/AAPL", "filter=close,ticker").body == b'[{"close":185.64,"ticker":"AAPL"}]'


@pytest.mark.parametrize(
    ("query", "content_type", "body"),
    [
        (
            "format=csv",
            "text/csv; charset=utf-8",
            b"ticker,date,close,volume\r\nAAPL,2024-01-04,185.64,400\r\n",
        ),
        ("format=psv&filter=ticker,close", "text/plain; charset=utf-8", b"ticker|close\r\nAAPL|185.64\r\n"),
        ("format=NDJSON&filter=close", "application/x-ndjson; charset=utf-8", b'{"close":185.64}\n'),
        ("format=json&filter=close", "application/json; charset=utf-8", b'[{"close":185.64}]'),
    ],
    ids=["csv", "psv", "ndjson", "json"],
)
def test_answers_have_the_asked_form(filled: Caller, query: str, content_type: str, body: bytes) -> None:
    reply = filled.get("PRICES/AAPL", query)

    assert (reply.status, reply.headers["content-type"], reply.body) == (200, content_type, body)


def test_schema_lists_columns_and_costs_nothing(filled: Caller) -> None:
    rows = filled.get("PRICES", "schema=true").json()

    assert [(row["name"], row["type"], row["index"]) for row in rows] == [
        ("ticker", "string", "key"),
        ("date", "date", "date"),
        ("close", "number", None),
        ("volume", "integer", None),
    ]


@pytest.mark.parametrize(
    "key", ["BRK A", "a/b", "Zürich", "日本", "a.b-c", "a%b", "a+b", "a?b", "a#b", "..", "'; --", '"', "A\\B"]
)
def test_a_key_of_any_characters_is_written_read_and_deleted(call: Caller, prices: Dataset, key: str) -> None:
    call.fill([{"ticker": key, "date": "2024-01-02"}, {"ticker": "other", "date": "2024-01-02"}])
    path = f"PRICES/{quote(key, safe='')}"

    assert [record["ticker"] for record in call.get(path).json()] == [key]
    assert call.delete(path).json()["message"] == "deleted 1 records"
    assert call.get(path).json() == []
    assert count(prices) == 1


def test_a_slash_that_is_not_escaped_separates_key_and_subkey(call: Caller, options: Dataset) -> None:
    call.fill([{"name": "A", "strike": 10}, {"name": "A", "strike": 20.5}], "record/ACME/OPTIONS")

    assert [record["strike"] for record in call.get("OPTIONS/A/20.5").json()] == [20.5]
    assert [record["strike"] for record in call.get("OPTIONS/A/10").json()] == [10]
    assert call.get("OPTIONS/A/30").json() == []
    assert len(call.get("OPTIONS/A", "limit=9").json()) == 2


@pytest.mark.parametrize(
    ("query", "named", "needed"),
    [
        ("limit=abc", "limit=abc", "a whole number from 1"),
        ("limit=0", "limit=0", "a whole number from 1"),
        ("limit=-1", "limit=-1", "a whole number from 1"),
        ("limit=1.5", "limit=1.5", "a whole number from 1"),
        ("last=%00", "last=", "a whole number from 1"),
        ("limit=" + "9" * 30, "limit=999", "a whole number from 1"),
        ("offset=x", "offset=x", "a whole number from 0"),
        ("last=1&first=1", "first=1", "last or first, not both"),
        ("limit=1&limit=2", "limit=1 and 2", "one value"),
        ("on=2024-02-30", "on=2024-02-30", "a date like"),
        ("on=yesterday", "on=yesterday", "a date like"),
        ("from=01/02/2024", "from=01/02/2024", "a date like"),
        ("from=2024-01-05&to=2024-01-01", "from=2024-01-05", "not after to"),
        ("range=soon", "range=soon", "last-week"),
        ("range=tomorrow", "range=tomorrow", "calendar=true"),
        ("sort=up", "sort=up", "asc or desc"),
        ("filter=nope", "filter=nope", "names of properties"),
        ("format=xml", "format=xml", "json, csv, psv, ndjson"),
        ("schema=maybe", "schema=maybe", "true or false"),
        ("batchSeparator=a", "batchSeparator=a", "no letters and no digits"),
    ],
)
def test_a_bad_value_of_a_known_name_is_named(filled: Caller, query: str, named: str, needed: str) -> None:
    problem = refused(filled.get("PRICES/AAPL", query))

    assert named in problem["received"]
    assert needed in problem["needed"]
    assert problem["check"] == "query"


@pytest.mark.parametrize(
    "name", ["a'b", "a%22b", "a%00b", "_system_x", "_SYSTEM", "a-b", "a%20b", "%C3%A4", "x" * 64, "a%2Fb"]
)
def test_a_dataset_name_that_cannot_be_is_refused(call: Caller, prices: Dataset, name: str) -> None:
    problem = refused(call.get(name))

    assert "1 to 63 letters, digits or underscores" in problem["needed"]


def test_an_unknown_dataset_is_not_found_for_its_own_secret_token(call: Caller, prices: Dataset) -> None:
    for reply in (
        call.get("NOPE"),
        call.delete("NOPE/A"),
        call.api.post(call.url("record/ACME/NOPE", "createDatasetOnDemand=false"), [{"a": 1}]),
        call.post("data/ACME/NOPE", b"a,b\n1,2\n"),
    ):
        problem = refused(reply, 404, "not-found")
        assert "NOPE" in json.dumps(problem)


def test_a_wrong_method_names_the_right_ones(call: Caller, prices: Dataset) -> None:
    reply = call.api.request("PATCH", call.url("data/ACME/PRICES"))

    problem = refused(reply, 405, "method-not-allowed")
    assert problem["needed"] == reply.headers["allow"] == "DELETE, GET, HEAD, POST"


# --- writing ------------------------------------------------------------------------------------------


def test_one_object_and_an_array_are_written(call: Caller, prices: Dataset) -> None:
    one = call.post("record/ACME/PRICES", RECORDS[0])
    several = call.post("record/ACME/PRICES", RECORDS[1:4])

    assert one.json() == {"success": True, "message": "wrote 1 messages"}
    assert several.json() == {"success": True, "message": "wrote 3 messages"}
    assert count(prices) == 4


@pytest.mark.parametrize(
    ("query", "close"),
    [
        ("", 1.0),
        ("duplicateKeyHandling=ignore", 1.0),
        ("duplicateKeyHandling=false", 1.0),
        ("duplicateKeyHandling=replace", 3.0),
        ("duplicateKeyHandling=TRUE", 3.0),
        ("overwrite=true", 3.0),
    ],
)
def test_duplicates_are_ignored_or_replaced_and_counted(
    call: Caller, prices: Dataset, query: str, close: float
) -> None:
    record = {"ticker": "A", "date": "2024-01-02"}
    call.fill([record | {"close": 1.0}])

    reply = call.post("record/ACME/PRICES", [record | {"close": 2.0}, record | {"close": 3.0}], query)

    assert reply.json()["message"] == "wrote 2 messages"
    assert [found["close"] for found in call.get("PRICES/A", "limit=9").json()] == [close]


def test_of_two_new_records_of_one_index_the_first_stays(call: Caller, prices: Dataset) -> None:
    record = {"ticker": "A", "date": "2024-01-02"}

    call.fill([record | {"close": 1.0}, record | {"close": 2.0}])

    assert call.get("PRICES/A").json()[0]["close"] == 1.0


def test_records_that_break_the_schema_store_nothing_and_every_fault_is_named(
    call: Caller, prices: Dataset
) -> None:
    reply = call.post(
        "record/ACME/PRICES",
        [
            {"ticker": "A", "date": "2024-01-02"},
            {"ticker": "B", "date": "2024-02-30", "close": "1"},
            {"date": "2024-01-02", "other": 1},
        ],
    )

    problem = refused(reply)
    assert problem["detail"] == "2 of 3 records do not fit the dataset's schema; nothing was stored."
    assert [error["record"] for error in problem["errors"]] == [1, 2]
    first, second = (" ".join(error["errors"]) for error in problem["errors"])
    assert '"date": received text "2024-02-30", needed an ISO 8601 date that exists' in first
    assert '"close": received text "1", needed a number' in first
    assert '"other" is not a property of this dataset' in second
    assert '"ticker": received nothing, needed text, because it is required' in second
    assert count(prices) == 0


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "The body is empty"),
        (b"[object Object]", "forgot to serialise"),
        (b"{", "not valid JSON"),
        (b"[]", "an empty array"),
        (b"5", "a number, not a record"),
        (b"[1]", "Element 0 of the array is a number"),
        (b'{"ticker": "A", "ticker": "B"}', '"ticker" comes twice'),
        (b'{"close": NaN}', "NaN is not a JSON value"),
        (b"\xff\xfe", "not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_a_body_that_is_no_record_is_refused(call: Caller, prices: Dataset, body: bytes, said: str) -> None:
    problem = refused(call.post("record/ACME/PRICES", body))

    assert said in problem["detail"]
    assert count(prices) == 0


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"ticker": "a\0b", "date": "2024-01-02"}, "NUL"),
        ({"ticker": "", "date": "2024-01-02"}, "not empty"),
        ({"ticker": "x" * 1_501, "date": "2024-01-02"}, "at most 1,500 bytes"),
        ({"ticker": "A", "date": "2024-01-02", "volume": 1.5}, "needed an integer"),
        ({"ticker": "A", "date": "2024-01-02", "close": True}, "needed a number"),
        ({"ticker": "A", "date": None}, "it is required"),
    ],
    ids=["nul", "empty key", "long key", "fraction", "truth", "null date"],
)
def test_a_record_that_cannot_be_stored_is_refused(
    call: Caller, prices: Dataset, record: dict[str, Any], said: str
) -> None:
    problem = refused(call.post("record/ACME/PRICES", [record]))

    assert said in json.dumps(problem["errors"])
    assert count(prices) == 0


def test_a_record_over_64_kilobytes_is_refused(call: Caller, options: Dataset) -> None:
    record = {"name": "A", "strike": 1, "note": "x" * 65_536}

    problem = refused(call.post("record/ACME/OPTIONS", record))

    assert "at most 65,536" in json.dumps(problem["errors"])


@pytest.mark.check("S34")
@pytest.mark.parametrize("is_declared", [True, False])
def test_a_body_of_11_megabytes_is_too_large(call: Caller, prices: Dataset, is_declared: bool) -> None:
    headers = {} if is_declared else {"Content-Length": "undefined"}

    problem = refused(
        call.post("record/ACME/PRICES", b"[" + b" " * 11_000_000 + b"]", headers=headers),
        413,
        "body-too-large",
    )

    assert problem["needed"] == "at most 10,000,000 bytes"
    assert count(prices) == 0


@pytest.mark.parametrize("query", ["duplicateKeyHandling=maybe", "overwrite=2"])
def test_a_bad_option_of_a_write_is_named(call: Caller, prices: Dataset, query: str) -> None:
    problem = refused(call.post("record/ACME/PRICES", RECORDS, query))

    assert query in problem["received"]
    assert count(prices) == 0


def test_a_generated_key_tells_equal_records_apart_from_others(call: Caller, workspace: Workspace) -> None:
    schema = {"properties": {"a": {"type": "integer"}, "b": {"type": "string"}}}
    assert call.post("datasets/ACME", {"dataset": {"datasetId": "LOOSE", "schema": schema}}).status == 200

    call.fill([{"a": 1, "b": "x"}, {"b": "x", "a": 1}, {"a": 2, "b": "x"}], "record/ACME/LOOSE")

    assert count(Dataset.objects.get(name="LOOSE")) == 2


# --- deleting -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "query", "left"),
    [
        ("PRICES/AAPL", "", ["MSFT-2", "MSFT-3", "MSFT-4"]),
        ("PRICES/AAPL", "from=2024-01-03", ["AAPL-2", "MSFT-2", "MSFT-3", "MSFT-4"]),
        ("PRICES/AAPL", "to=2024-01-03", ["MSFT-2", "MSFT-3", "AAPL-4", "MSFT-4"]),
        ("PRICES/AAPL", "from=2024-01-03&to=2024-01-03", ["AAPL-2", "MSFT-2", "MSFT-3", "AAPL-4", "MSFT-4"]),
    ],
    ids=["key", "from", "to", "from to"],
)
def test_records_are_deleted_into_the_trash(
    filled: Caller, secret: Token, prices: Dataset, path: str, query: str, left: list[str]
) -> None:
    reply = filled.delete(path, query)

    gone = len(RECORDS) - len(left)
    assert reply.json() == {"success": True, "message": f"deleted {gone} records"}
    assert short(filled.get("PRICES", "first=99")) == left
    deletion = Deletion.objects.get(dataset=prices)
    assert (deletion.records, deletion.key) == (gone, "AAPL")
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM deleted_records WHERE deletion_id = %s AND dataset_id = %s",
            [deletion.pk, prices.pk],
        )
        assert cursor.fetchone()[0] == gone
    event = AuditEvent.objects.get(action="records.delete", target="PRICES")
    assert event.before == {"key": "AAPL", "subkey": None, "records": gone}
    assert (event.actor, event.address) == (f"token {secret.public_id}", "127.0.0.1")


def test_a_subkey_and_a_date_narrow_a_delete(call: Caller, options: Dataset, prices: Dataset) -> None:
    call.fill([{"name": "A", "strike": 10}, {"name": "A", "strike": 20}], "record/ACME/OPTIONS")
    today = datetime.now(UTC).date().isoformat()

    assert call.delete("OPTIONS/A/10/1999-01-01").json()["message"] == "deleted 0 records"
    assert call.delete(f"OPTIONS/A/10/{today}").json()["message"] == "deleted 1 records"
    assert call.delete("OPTIONS/A/20").json()["message"] == "deleted 1 records"
    assert count(options) == 0


def test_deleting_nothing_leaves_no_trace(filled: Caller, prices: Dataset) -> None:
    assert filled.delete("PRICES/NONE").json()["message"] == "deleted 0 records"
    assert not Deletion.objects.exists()
    assert not AuditEvent.objects.filter(action="records.delete").exists()
    assert count(prices) == len(RECORDS)


@pytest.mark.parametrize(
    ("path", "query", "named"),
    [
        ("PRICES", "", "no key"),
        ("PRICES", "from=2024-01-01", "no key"),
        ("PRICES/AAPL", "from=never", "from=never"),
        ("PRICES/AAPL", "to=2024-13-01", "to=2024-13-01"),
        ("PRICES/AAPL/x/never", "", "date=never"),
    ],
)
def test_a_delete_that_is_not_clear_deletes_nothing(
    filled: Caller, prices: Dataset, path: str, query: str, named: str
) -> None:
    problem = refused(filled.delete(path, query))

    assert named in problem["received"]
    assert count(prices) == len(RECORDS)


# --- datasets -----------------------------------------------------------------------------------------


def test_a_dataset_is_created_and_usable_at_once(call: Caller, workspace: Workspace) -> None:
    document = {
        "datasetId": "rates",
        "title": "Rates",
        "schema": {"type": "object", "properties": {"day": {"type": "string"}, "rate": {"type": "number"}}},
        "columnMapping": {"date": "day"},
    }

    reply = call.post("datasets/ACME", {"dataset": document})

    assert reply.json() == {"success": True, "message": "Dataset has been created", "datasetId": "RATES"}
    call.fill([{"day": "2024-01-02", "rate": 1.5}], "record/ACME/RATES")
    assert call.get("RATES").json() == [{"day": "2024-01-02", "rate": 1.5}]


SCHEMA = {"properties": {"a": {"type": "string"}}}


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ({"datasetId": "there", "schema": SCHEMA}, "datasetId"),
        ({"datasetId": "a'b", "schema": SCHEMA}, "1 to 63 letters"),
        ({"datasetId": "_system_x", "schema": SCHEMA}, "not beginning with _system"),
        ({"datasetId": "nul\0", "schema": SCHEMA}, "1 to 63 letters"),
        ({"schema": SCHEMA}, "datasetId"),
        ({"datasetId": 5, "schema": SCHEMA}, "datasetId"),
        ({"datasetId": "X"}, "schema"),
        ({"datasetId": "X", "schema": {"properties": {}}}, "1 to 1,000 properties"),
        ({"datasetId": "X", "schema": {"properties": {"a": {"type": "text"}}}}, "one of date, number"),
        ({"datasetId": "X", "schema": SCHEMA, "columnMapping": {"key": "b"}}, "columnMapping.key"),
        ({"datasetId": "X", "schema": SCHEMA, "columnMapping": {"id": "a"}}, "key, subkey and date"),
        ({"datasetId": "X", "schema": SCHEMA, "email": "nobody"}, "an e-mail address"),
        ({"datasetId": "X", "schema": SCHEMA, "title": 5}, "text of at most"),
        ([1], "an object"),
    ],
    ids=lambda value: ascii(value)[:50],
)
def test_a_dataset_that_cannot_be_is_refused(
    call: Caller, workspace: Workspace, document: Any, named: str
) -> None:
    DatasetFactory(workspace=workspace, name="THERE")

    problem = refused(call.post("datasets/ACME", {"dataset": document}))

    assert named in json.dumps(problem)
    assert Dataset.objects.count() == 1


def test_a_body_for_a_dataset_over_its_limit_is_too_large(call: Caller, workspace: Workspace) -> None:
    refused(call.post("datasets/ACME", b" " * 10_000_001), 413, "body-too-large")


def test_only_the_secret_token_creates_datasets(api: DataPlaneClient, secret: Token) -> None:
    token = TokenFactory(workspace=secret.workspace, settings={"all_datasets_write": True})

    reply = api.post(f"/v1/datasets/ACME?token={token.test_value}", {"datasetId": "X", "schema": SCHEMA})

    assert reply.status in {401, 403}
    assert not Dataset.objects.exists()


# --- uploads ------------------------------------------------------------------------------------------

CSV = b"ticker,date,close\nAAPL,2024-01-02,1.5\nAAPL,never,1.5\n"


def test_an_upload_becomes_a_job_that_can_be_followed(call: Caller, prices: Dataset, worker: None) -> None:
    reply = call.post("data/ACME/PRICES", CSV)

    said = reply.json()
    assert re.fullmatch(
        r"Data upload of 53B for PRICES completed, jobId: [0-9a-f]{32} has been created", said["message"]
    )
    assert said["success"] is True
    assert said["jobUrl"] == f"/v1/jobs/ACME/ingest/{said['jobId']}"
    path = said["jobUrl"].removeprefix("/v1/")
    for _ in range(600):
        job = call.api.get(call.url(path)).json()
        if job["status"] in {"INGESTED", "ERROR"}:
            break
        threading.Event().wait(0.05)
    assert (job["status"], job["recordsIngested"], job["invalid"]) == ("INGESTED", 1, 1)
    assert job["datasetId"] == "PRICES" and job["progress"] == 1.0
    log = call.api.get(call.url(f"{path}/invalid-records-log"))
    assert log.headers["content-type"] == "text/csv; charset=utf-8"
    header, line = log.body.decode().splitlines()
    assert header == "jobId,lineNumber,error"
    assert line.startswith(f"{said['jobId']},3,")


@pytest.mark.parametrize(
    ("body", "label"),
    [
        (b"ticker,date,close\nAAPL,2024-01-02,1.5\n", "text/csv"),
        (b"ticker,date,close\nAAPL,2024-01-02,1.5\n", "application/json"),
        (b'[{"ticker": "AAPL", "date": "2024-01-02", "close": 1.5}]', "text/csv"),
        (b'{"ticker": "AAPL", "date": "2024-01-02", "close": 1.5}\n', "undefined"),
        (b"ticker\tdate\tclose\nAAPL\t2024-01-02\t1.5\n", "text/plain"),
        (b"\xef\xbb\xbfticker,date,close\r\nAAPL,2024-01-02,1.5\r\n", "text/csv"),
    ],
    ids=["csv", "csv labelled json", "json labelled csv", "json lines", "tabs", "byte order mark"],
)
def test_waiting_gives_the_count_whatever_the_label_says(
    call: Caller, prices: Dataset, worker: None, body: bytes, label: str
) -> None:
    reply = call.post("data/ACME/PRICES", body, "wait=true", headers={"Content-Type": label})

    assert reply.status == 200, reply.body
    assert reply.json()["message"] == "Ingestion job successful, 1 records ingested"
    assert call.get("PRICES/AAPL").json()[0]["close"] == 1.5


def test_waiting_for_a_file_that_fails_says_why(call: Caller, prices: Dataset, worker: None) -> None:
    body = b'[{"ticker": "A", "date": "2024-01-02"}, {"ticker": ]'

    problem = refused(call.post("data/ACME/PRICES", body, "wait=true"))

    assert problem["detail"].startswith("The file is not valid JSON at line 1, column 52: ")
    assert problem["detail"].endswith("Nothing was stored.")
    assert count(prices) == 0


def test_more_invalid_lines_than_allowed_fail_the_upload(call: Caller, prices: Dataset, worker: None) -> None:
    problem = refused(call.post("data/ACME/PRICES", CSV, "wait=true&maximumValidationErrors=0"))

    assert "More than 0 lines are not valid" in problem["detail"]
    assert count(prices) == 0


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "The file is empty"),
        (b"ticker,date\n", "The file has no rows"),
        (b"ticker,ticker,date\nA,B,2024-01-02\n", 'names columns twice: "ticker"'),
        (b"ticker,date,more\nA,2024-01-02,1\n", 'not properties of the dataset: "more"'),
        (b"date\n2024-01-02\n", 'lacks required columns: "ticker"'),
        (b"[object Object]", "forgot to serialise"),
        (b"a\0b", "holds a NUL byte"),
        (b"\x1f\x8b\x08\0", "cut off or damaged"),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_a_file_that_cannot_be_taken_is_refused_at_once(
    call: Caller, prices: Dataset, ingest_dir: Path, body: bytes, said: str
) -> None:
    problem = refused(call.post("data/ACME/PRICES", body))

    assert said in problem["detail"]
    assert problem["check"] == "body"
    assert not IngestJob.objects.exists()
    assert list(ingest_dir.iterdir()) == []


def test_an_upload_over_the_limit_is_too_large(call: Caller, prices: Dataset, settings: LazySettings) -> None:
    settings.UPLOAD_BYTES_MAX = 50

    problem = refused(call.post("data/ACME/PRICES", CSV), 413, "body-too-large")

    assert problem["needed"] == "at most 50 bytes"
    assert not IngestJob.objects.exists()


@pytest.mark.parametrize("query", ["wait=maybe", "maximumValidationErrors=x", "duplicateKeyHandling=no"])
def test_a_bad_option_of_an_upload_is_named(call: Caller, prices: Dataset, query: str) -> None:
    problem = refused(call.post("data/ACME/PRICES", CSV, query))

    assert query in problem["received"]
    assert not IngestJob.objects.exists()


def test_a_job_is_shown_to_tokens_that_may_write_its_dataset_alone(
    api: DataPlaneClient, call: Caller, prices: Dataset
) -> None:
    job = call.post("data/ACME/PRICES", CSV).json()["jobUrl"]
    reader = TokenFactory(workspace=prices.workspace, settings={"all_datasets_read": True})
    writer = TokenFactory(workspace=prices.workspace, settings={"all_datasets_write": True})
    outsider = TokenFactory(kind=TokenKind.SECRET)
    missing = f"/v1/jobs/ACME/ingest/{'0' * 32}"

    assert api.get(f"{job}?token={writer.test_value}").status == 200
    for token in (reader, outsider):
        hidden, none = (api.get(f"{url}?token={token.test_value}") for url in (job, missing))
        assert refused(hidden, 404, "not-found")["detail"] == refused(none, 404, "not-found")["detail"]
    assert api.get(job).status == 401


# --- the cache of metadata ----------------------------------------------------------------------------


def test_a_dataset_that_was_made_again_is_read_anew(
    filled: Caller, prices: Dataset, workspace: Workspace
) -> None:
    """What a worker remembers of a dataset never answers for another one of the same name."""
    assert filled.get("PRICES").status == 200
    writes.erase([prices.pk])
    Dataset.objects.filter(pk=prices.pk).delete()
    assert catalog.get(("ACME", "PRICES")) is not None
    refused(filled.get("PRICES"), 404, "not-found")
    made = creating.create_from_document(
        workspace=workspace,
        document={"datasetId": "PRICES", "schema": {"properties": {"x": {"type": "integer"}}}},
        by=None,
        now=datetime.now(UTC),
    )
    assert not isinstance(made, Refusal)

    filled.fill([{"x": 1}])

    assert filled.get("PRICES").json() == [{"x": 1}]


def test_a_token_granted_the_new_dataset_of_an_old_name_is_let_in(
    filled: Caller, prices: Dataset, workspace: Workspace
) -> None:
    assert filled.get("PRICES").status == 200
    writes.erase([prices.pk])
    Dataset.objects.filter(pk=prices.pk).delete()
    again = DatasetFactory(workspace=workspace, name="PRICES")
    token = TokenFactory(workspace=workspace, settings=False)
    RevisionFactory(token=token, number=1, saved_at=LONG_AGO, effective_at=LONG_AGO, grants={again: "read"})

    reply = filled.api.get(f"/v1/data/ACME/PRICES?token={token.test_value}")

    assert (reply.status, reply.body) == (200, b"[]")


# --- records that were checked before they are written -------------------------------------------------


@pytest.mark.django_db
def test_records_checked_by_a_schema_that_changed_are_checked_again() -> None:
    dataset = DatasetFactory()
    with writes.locked(dataset.pk) as found:
        assert found is not None
        body = b'[{"ticker": "AAPL", "date": "2024-01-02", "close": "dear"}]'
        ready = writing.checked(found, body, now=database_now())
    arguments: Any = {"dataset_id": dataset.pk, "body": body, "replaces": False, "now": database_now()}

    refused = writing.write_records(**arguments, ready=ready)
    properties = {**dataset.schema_json["properties"], "close": {"type": "string"}}
    edited = editing.edit_from_document(
        dataset=dataset, document={"schema": {**dataset.schema_json, "properties": properties}}, by=None,
        now=database_now(),
    )  # fmt: skip
    assert not isinstance(edited, Refusal), edited

    assert isinstance(refused, Refusal) and "close" in str(refused.errors)
    assert writing.write_records(**arguments, ready=ready) == 1
