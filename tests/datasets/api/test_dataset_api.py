"""The API on datasets: list, describe, edit, rename, delete; the old names; what comes back."""

import json
from datetime import timedelta
from typing import Any

import pytest

from apperate.accounts.models import AuditEvent, Workspace
from apperate.database.clock import database_now
from apperate.kernel.refusals import Refusal
from datasets.models import Dataset, Deletion
from datasets.services import editing, trash
from datasets.storage import writes
from tests.support.data_plane_client import DataPlaneClient, Reply
from tests.support.factories import PRICES_SCHEMA, DatasetFactory, TokenFactory, WorkspaceFactory
from tests.support.installation import until
from tokens.models import Token
from tokens.rules.token_format import TokenKind

pytestmark = pytest.mark.django_db(transaction=True)
RECORDS = [
    {"ticker": "AAPL", "date": "2024-01-02", "close": 1.5, "volume": 10},
    {"ticker": "AAPL", "date": "2024-01-03", "close": 2.5},
    {"ticker": "MSFT", "date": "2024-01-02", "close": 7, "volume": 30},
]


@pytest.fixture
def prices(workspace: Workspace) -> Dataset:
    return DatasetFactory(workspace=workspace, name="PRICES", title="Daily prices", description="Closing.")


@pytest.fixture
def secret(workspace: Workspace) -> Token:
    return TokenFactory(workspace=workspace, kind=TokenKind.SECRET)


class Caller:
    def __init__(self, api: DataPlaneClient, token: Token) -> None:
        self.api, self.value = api, token.test_value

    def __call__(self, method: str, path: str, body: Any = None, query: str = "") -> Reply:
        url = f"/v1/{path}?token={self.value}&{query}"
        if body is None:
            return self.api.request(method, url)
        return self.api.request(method, url, body=json.dumps(body).encode())


@pytest.fixture
def call(api: DataPlaneClient, secret: Token, prices: Dataset) -> Caller:
    caller = Caller(api, secret)
    assert caller("POST", "record/ACME/PRICES", RECORDS).status == 200
    return caller


def ok(reply: Reply) -> Any:
    assert reply.status == 200, reply.body
    assert reply.headers["content-type"] == "application/json; charset=utf-8"
    assert reply.headers["iexcloud-credits-used"] == "0"
    return reply.json()


def refused(reply: Reply, status: int = 400, code: str = "invalid-values") -> dict[str, Any]:
    assert (reply.status, reply.code) == (status, code), reply.body
    return dict(reply.json())


def test_a_dataset_is_described(call: Caller) -> None:
    found = ok(call("GET", "datasets/acme/prices"))

    updated = found.pop("updated")
    assert updated > 1_700_000_000_000
    assert found == {
        "datasetId": "PRICES",
        "title": "Daily prices",
        "description": "Closing.",
        "email": "",
        "source": "",
        "schema": PRICES_SCHEMA,
        "columnMapping": {"key": "ticker", "date": "date"},
        "smartLinkAttributes": [],
        "parentDatasetId": None,
        "records": 3,
        "keys": 2,
        "date": 1_704_240_000_000,
    }


@pytest.mark.parametrize("path", ["data", "data/ACME", "datasets/acme"])
def test_lists_hold_what_the_token_may_read(
    call: Caller, api: DataPlaneClient, workspace: Workspace, prices: Dataset, path: str
) -> None:
    DatasetFactory(workspace=workspace, name="OTHER")
    DatasetFactory(workspace=workspace, name="GONE", deleted_at=database_now())
    DatasetFactory(workspace=WorkspaceFactory(name="ELSEWHERE"), name="FOREIGN")
    app = Caller(api, TokenFactory(workspace=workspace, settings__grants={prices: "read"}))
    writer = Caller(api, TokenFactory(workspace=workspace, settings__grants={prices: "write"}))

    assert [found["datasetId"] for found in ok(call("GET", path))] == ["OTHER", "PRICES"]
    assert [found["datasetId"] for found in ok(call("GET", path, query="limit=1"))] == ["OTHER"]
    assert [found["datasetId"] for found in ok(app("GET", path))] == ["PRICES"]
    assert ok(writer("GET", path)) == []
    refused(call("GET", path, query="limit=no"))


def test_the_list_of_a_foreign_workspace_is_empty_and_tells_nothing(call: Caller) -> None:
    DatasetFactory(workspace=WorkspaceFactory(name="ELSEWHERE"), name="FOREIGN")

    assert ok(call("GET", "datasets/ELSEWHERE")) == ok(call("GET", "datasets/NOSUCH")) == []


@pytest.mark.parametrize("method", ["PATCH", "POST"])
def test_texts_are_edited_and_the_rest_stays(call: Caller, prices: Dataset, method: str) -> None:
    said = ok(call(method, "datasets/ACME/PRICES", {"dataset": {"title": "New", "source": "Exchange"}}))

    assert said == {"success": True, "message": "Dataset has been updated", "datasetId": "PRICES"}
    prices.refresh_from_db()
    assert (prices.title, prices.source, prices.description) == ("New", "Exchange", "Closing.")
    assert (prices.version, prices.schema_json) == (2, PRICES_SCHEMA)
    event = AuditEvent.objects.get(action="dataset.edit")
    assert (event.before, event.after) == (
        {"title": "Daily prices", "source": ""},
        {"title": "New", "source": "Exchange"},
    )
    secret = prices.workspace.tokens.get(kind="secret")
    assert (event.actor, event.address) == (f"token {secret.public_id}", "127.0.0.1")


def with_schema(**properties: Any) -> dict[str, Any]:
    """The schema of PRICES with these properties changed; None leaves one out."""
    merged = {**PRICES_SCHEMA["properties"], **properties}  # type: ignore[dict-item]
    kept = {name: described for name, described in merged.items() if described is not None}
    return {"dataset": {"schema": {"type": "object", "properties": kept}}}


def test_a_property_is_added_and_can_be_written_at_once(call: Caller) -> None:
    ok(call("PATCH", "datasets/ACME/PRICES", with_schema(open={"type": "number"})))

    record = {"ticker": "AAPL", "date": "2024-02-01", "open": 5}
    assert call("POST", "record/ACME/PRICES", [record]).status == 200
    assert call("GET", "data/ACME/PRICES/AAPL", query="filter=open").json() == [{"open": 5}]


def test_a_type_is_widened(call: Caller) -> None:
    ok(call("PATCH", "datasets/ACME/PRICES", with_schema(volume={"type": "number"})))

    assert (
        call("POST", "record/ACME/PRICES", {"ticker": "A", "date": "2024-01-01", "volume": 0.5}).status == 200
    )


@pytest.mark.parametrize(
    ("document", "broken"),
    [
        (with_schema(volume=None), {"volume": 2}),
        (with_schema(close={"type": "integer"}), {"close": 2}),
        (with_schema(close={"type": "string"}, volume={"type": "boolean"}), {"close": 3, "volume": 2}),
        (
            {"dataset": {"schema": PRICES_SCHEMA | {"required": ["ticker", "date", "volume"]}}},
            {"volume": 1},
        ),
    ],
    ids=["left out", "narrower", "other types", "required"],
)
def test_a_schema_that_records_would_break_is_refused_with_their_number(
    call: Caller, prices: Dataset, document: dict[str, Any], broken: dict[str, int]
) -> None:
    problem = refused(call("PATCH", "datasets/ACME/PRICES", document))

    assert {error["property"]: error["records"] for error in problem["errors"]} == broken
    assert "of 3 stored records" in problem["detail"]
    prices.refresh_from_db()
    assert (prices.version, prices.schema_json) == (1, PRICES_SCHEMA)


def test_a_stricter_schema_that_every_record_fits_is_taken(call: Caller) -> None:
    assert call("DELETE", "data/ACME/PRICES/AAPL").status == 200

    ok(call("PATCH", "datasets/ACME/PRICES", with_schema(close={"type": "integer"})))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"columnMapping": {"key": "volume", "date": "date"}}, "columnMapping.key"),
        ({"columnMapping": {"key": "ticker"}}, "columnMapping.date"),
        ({"columnMapping": {"key": "ticker", "subkey": "volume", "date": "date"}}, "columnMapping.subkey"),
        (with_schema(ticker={"type": "integer"})["dataset"], "schema.properties.ticker.type"),
        (with_schema(ticker=None)["dataset"], "columnMapping.key"),
    ],
)
def test_the_unique_index_never_changes(call: Caller, change: dict[str, Any], named: str) -> None:
    problem = refused(call("PATCH", "datasets/ACME/PRICES", {"dataset": change}))

    assert problem["needed"].startswith(named)


@pytest.mark.check("S15")
@pytest.mark.parametrize(
    "document",
    [
        {},
        [],
        {"dataset": 5},
        {"dataset": {"nonsense": 1}},
        {"dataset": {"title": 5}},
        {"dataset": {"title": "x" * 201}},
        {"dataset": {"email": "nobody"}},
        {"dataset": {"datasetId": "OTHER", "title": "x"}},
        {"dataset": {"schema": 5}},
        {"dataset": {"schema": {"properties": {}}}},
        {"dataset": {"smartLinkAttributes": {}, "title": "x"}},
    ],
)
def test_an_edit_that_is_not_clear_changes_nothing(call: Caller, prices: Dataset, document: Any) -> None:
    refused(call("PATCH", "datasets/ACME/PRICES", document))

    prices.refresh_from_db()
    assert (prices.version, prices.title) == (1, "Daily prices")


def test_a_dataset_is_renamed_and_its_grants_go_with_it(
    call: Caller, api: DataPlaneClient, workspace: Workspace, prices: Dataset
) -> None:
    app = Caller(api, TokenFactory(workspace=workspace, settings__grants={prices: "read"}))
    assert app("GET", "data/ACME/PRICES").status == 200

    said = ok(call("PUT", "datasets/ACME/PRICES/quotes"))

    assert said == {"success": True, "message": "Dataset has been renamed", "datasetId": "QUOTES"}
    assert len(app("GET", "data/ACME/QUOTES", query="limit=9").json()) == 3
    assert app("GET", "data/ACME/PRICES").status == 403
    refused(call("GET", "data/ACME/PRICES"), 404, "not-found")


@pytest.mark.parametrize("name", ["a-b", "_system_x", "OTHER", "x" * 64])
def test_a_dataset_is_not_renamed_to_what_cannot_be(
    call: Caller, workspace: Workspace, prices: Dataset, name: str
) -> None:
    DatasetFactory(workspace=workspace, name="OTHER")

    refused(call("PUT", f"datasets/ACME/PRICES/{name}"))

    prices.refresh_from_db()
    assert prices.name == "PRICES"


@pytest.mark.parametrize(
    "query", ["limit=1", "from=2024-01-01", "to=2024-01-01", "key=AAPL", "last=1", "on=2024-01-02", "key="]
)
def test_a_dataset_is_not_deleted_when_records_are_meant(call: Caller, prices: Dataset, query: str) -> None:
    problem = refused(call("DELETE", "datasets/ACME/PRICES", query=query))

    assert "whole dataset" in problem["needed"]
    prices.refresh_from_db()
    assert prices.deleted_at is None


def test_a_deleted_dataset_comes_back_within_a_day(call: Caller, prices: Dataset) -> None:
    said = ok(call("DELETE", "datasets/ACME/PRICES"))
    assert said == {"success": True, "message": "Dataset has been deleted", "datasetId": "PRICES"}
    refused(call("GET", "data/ACME/PRICES"), 404, "not-found")
    again = call("POST", "datasets/ACME", {"dataset": {"datasetId": "PRICES", "schema": PRICES_SCHEMA}})
    assert "can still be restored" in refused(again)["needed"]

    now = database_now()
    late = editing.restore_dataset(dataset=prices, by=None, now=now + timedelta(hours=25))
    restored = editing.restore_dataset(dataset=prices, by=None, now=now)

    assert isinstance(late, Refusal) and isinstance(restored, Dataset)
    assert len(call("GET", "data/ACME/PRICES", query="limit=9").json()) == 3


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PATCH", "datasets/ACME/PRICES", {"dataset": {"title": "x"}}),
        ("PUT", "datasets/ACME/PRICES/QUOTES", None),
        ("DELETE", "datasets/ACME/PRICES", None),
    ],
)
def test_only_the_secret_token_changes_datasets(
    call: Caller,
    api: DataPlaneClient,
    workspace: Workspace,
    prices: Dataset,
    method: str,
    path: str,
    body: Any,
) -> None:
    app = Caller(api, TokenFactory(workspace=workspace, settings__grants={prices: "read write delete"}))
    other = Caller(api, TokenFactory(workspace=WorkspaceFactory(name="OTHERS"), kind=TokenKind.SECRET))

    refused(app(method, path, body), 401, "secret-required")
    assert other(method, path, body).status in (403, 404)
    prices.refresh_from_db()
    assert (prices.version, prices.deleted_at) == (1, None)


# --- the trash ------------------------------------------------------------------------------------------


def records(dataset: Dataset) -> int:
    found = writes.sizes([dataset.pk]).get(dataset.pk)
    return found.records if found else 0


def test_deleted_records_come_back_but_for_those_written_again(call: Caller, prices: Dataset) -> None:
    call("DELETE", "data/ACME/PRICES/AAPL")
    call("POST", "record/ACME/PRICES", {"ticker": "AAPL", "date": "2024-01-03", "close": 99})
    (deletion,) = trash.deletions_of(prices, now=database_now())

    restored = trash.restore_deletion(deletion=deletion, by=None, now=database_now())
    again = trash.restore_deletion(deletion=deletion, by=None, now=database_now())

    assert restored == trash.Restored(records=1, kept=1)
    assert isinstance(again, Refusal)
    closes = [record["close"] for record in call("GET", "data/ACME/PRICES/AAPL", query="limit=9").json()]
    assert closes == [99, 1.5]
    assert AuditEvent.objects.get(action="records.restore").after["records"] == 1


def test_records_that_the_schema_does_not_take_any_more_stay_in_the_trash(
    call: Caller, prices: Dataset
) -> None:
    call("DELETE", "data/ACME/PRICES/AAPL")
    ok(call("PATCH", "datasets/ACME/PRICES", with_schema(close={"type": "integer"})))

    refusal = trash.restore_deletion(deletion=Deletion.objects.get(), by=None, now=database_now())

    assert isinstance(refusal, Refusal) and refusal.received == "2 records"
    assert (records(prices), Deletion.objects.count()) == (1, 1)


def test_what_was_deleted_a_day_ago_is_removed_for_good(
    call: Caller, prices: Dataset, workspace: Workspace
) -> None:
    other = DatasetFactory(workspace=workspace, name="OTHER")
    call("DELETE", "data/ACME/PRICES/AAPL")
    editing.delete_dataset(dataset=other, by=None, now=database_now())
    tomorrow = database_now() + timedelta(hours=24, minutes=1)

    assert trash.purge(now=database_now()) == 0
    assert list(trash.deletions_of(prices, now=tomorrow)) == []
    assert list(editing.deleted_datasets(workspace, now=tomorrow)) == []
    assert trash.purge(now=tomorrow) == 2
    assert (Deletion.objects.count(), Dataset.objects.filter(name="OTHER").count()) == (0, 0)
    assert records(prices) == 1


# --- old names ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", ["/v1", "/stable", "/latest", "/beta"])
def test_query_and_write_are_the_old_names_of_data_and_record(call: Caller, base: str) -> None:
    def ask(method: str, path: str, body: bytes = b"") -> Reply:
        return call.api.request(method, f"{base}/{path}?token={call.value}&last=1", body=body)

    assert ask("POST", "write/ACME/PRICES", b'{"ticker":"AAPL","date":"2025-01-01"}').json() == {
        "success": True,
        "message": "wrote 1 messages",
    }
    assert ask("GET", "query/ACME/PRICES/AAPL").json() == [{"ticker": "AAPL", "date": "2025-01-01"}]
    assert ask("GET", "query/ACME/PRICES").json() == [{"ticker": "AAPL", "date": "2025-01-01"}]


def test_put_datasets_is_an_upload_and_delete_with_a_key_takes_records(call: Caller, prices: Dataset) -> None:
    reply = call.api.request(
        "PUT", f"/v1/datasets/ACME/PRICES?token={call.value}", body=b"ticker,date\nA,2024-01-01\n"
    )
    assert reply.status == 200 and "for PRICES completed, jobId: " in reply.json()["message"], reply.body

    assert ok(call("DELETE", "datasets/ACME/PRICES/AAPL"))["message"] == "deleted 2 records"
    prices.refresh_from_db()
    assert (records(prices), prices.deleted_at) == (1, None)


@pytest.mark.parametrize("path", ["datasets/ACME/PRICES", "meta/ACME/PRICES", "generate-schema/ACME/PRICES"])
def test_a_dataset_just_deleted_is_not_described(call: Caller, path: str) -> None:
    assert call("GET", path).status == 200
    ok(call("DELETE", "datasets/ACME/PRICES"))

    if path.startswith("generate"):  # It is told from memory, which follows within a second.
        until(lambda: call("GET", path).code == "not-found", seconds=3)
    assert call("GET", path).code == "not-found"


def test_the_inventory_of_a_workspace_is_for_tokens_that_may_read_it(call: Caller) -> None:
    (item,) = ok(call("GET", "meta/acme"))
    assert item["id"] == "PRICES"
    assert ok(call("GET", "meta/ACME/prices/AAPL")) == [item]
    assert call("GET", "meta/ACME/MISSING").code == "not-found"
    stranger = Caller(call.api, TokenFactory())
    # For a token of elsewhere ACME is no workspace, so it is taken for a dataset of CORE.
    assert stranger("GET", "meta/ACME/PRICES").code == "dataset-not-granted"
    assert stranger("GET", "meta/ACME").code == "dataset-not-granted"


def test_time_series_and_its_metadata_mean_core(api: DataPlaneClient) -> None:
    core = DatasetFactory(
        workspace=WorkspaceFactory(name="CORE"), name="PRICES", description="All.", credits_per_record=2
    )
    operator = Caller(api, TokenFactory(workspace=core.workspace, kind=TokenKind.SECRET))
    assert operator("POST", "record/CORE/PRICES", RECORDS).status == 200
    app = Caller(api, TokenFactory())

    reply = app("GET", "time-series/prices/AAPL", query="last=1")
    assert (reply.json()[0]["close"], reply.headers["iexcloud-credits-used"]) == (2.5, "2")
    items = ok(app("GET", "time-series"))
    assert [items] == [ok(app("GET", path)) for path in ("metadata/time-series",)]
    for path in ("meta", "meta/core", "meta/CORE/*/AAPL", "metadata/time-series/*/AAPL"):
        assert ok(app("GET", path)) == items, path
    for path in ("meta/PRICES/AAPL", "meta/PRICES", "meta/CORE/prices", "metadata/time-series/PRICES/AAPL"):
        assert ok(app("GET", path)) == items, path
    (item,) = items
    assert sorted(item) == ["created", "description", "id", "lastUpdated", "schema", "weight"]
    assert (item["id"], item["description"], item["weight"]) == ("PRICES", "All.", 2)
