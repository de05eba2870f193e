"""Odd and hostile requests: each gets a clear refusal, in the order of the checks, and never a 500."""

from typing import Any

import pytest

from apperate.database.changes import changes
from datasets.models import Dataset, IngestJob, Record
from tests.support.data_plane_client import DataPlaneClient
from tests.support.factories import LONG_AGO, DatasetFactory, RevisionFactory, TokenFactory, WorkspaceFactory
from tokens.metering.meter import meter
from tokens.models import Token, UsageCounter
from tokens.rules.token_format import TokenKind

pytestmark = pytest.mark.django_db(transaction=True)
RECORDS = [{"ticker": "AAPL", "date": f"2024-01-0{day}", "close": day} for day in range(1, 6)]


@pytest.fixture
def prices(workspace: Any) -> Dataset:
    return DatasetFactory(workspace=workspace, name="PRICES")


@pytest.fixture
def secret(prices: Dataset) -> Token:
    return TokenFactory(workspace=prices.workspace, kind=TokenKind.SECRET)


@pytest.fixture
def reader(prices: Dataset) -> Token:
    token = TokenFactory(workspace=prices.workspace, settings=False)
    RevisionFactory(token=token, number=1, saved_at=LONG_AGO, effective_at=LONG_AGO, grants={prices: "read"})
    return token


@pytest.fixture
def filled(api: DataPlaneClient, prices: Dataset, secret: Token) -> Dataset:
    assert api.post(f"/v1/record/ACME/PRICES?token={secret.test_value}", RECORDS).status == 200
    return prices


def test_a_name_that_moved_to_another_dataset_is_checked_anew(
    api: DataPlaneClient, filled: Dataset, reader: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I6: nobody reads a row they have no grant for, not even in the moment after a rename."""
    monkeypatch.setattr("apperate.database.changes.POLL_SECONDS", 3600)
    url = f"/v1/data/ACME/PRICES?last=1&token={reader.test_value}"
    assert api.get(url).status == 200
    hidden = DatasetFactory(workspace=filled.workspace, name="HIDDEN")
    for dataset, name in ((filled, "OLD"), (hidden, "PRICES")):
        dataset.name, dataset.version = name, dataset.version + 1
        dataset.save(update_fields=["name", "version"])

    assert api.get(url).code == "dataset-not-granted"


@pytest.mark.parametrize(
    "query",
    [
        "on=2024-01-02",
        "range=2024",
        "last=1",
        "limit=1",
        "where=close gt 1",
        "key=AAPL",
        "subkey=x",
        "from=2024-01-03&from=",
    ],
)
def test_a_delete_refuses_what_it_would_ignore(
    api: DataPlaneClient, filled: Dataset, secret: Token, query: str
) -> None:
    """Data-loss trap: a parameter that seems to choose records must not be passed over."""
    reply = api.delete(f"/v1/data/ACME/PRICES/AAPL?{query.replace(' ', '%20')}&token={secret.test_value}")

    assert (reply.status, reply.code) == (400, "invalid-values")
    assert query.split("=")[0] in reply.json()["received"]
    assert Record.objects.filter(dataset_id=filled.pk).count() == 5


def test_a_delete_refuses_a_span_turned_round(api: DataPlaneClient, filled: Dataset, secret: Token) -> None:
    url = f"/v1/data/ACME/PRICES/AAPL?from=2024-01-04&to=2024-01-02&token={secret.test_value}"

    assert api.delete(url).code == "invalid-values"
    assert api.delete(url.replace("01-04", "01-02")).json()["message"] == "deleted 1 records"


@pytest.mark.check("S29", "S56")
@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),
        ({"X-Forwarded-For": "203.0.113.9"}, False),
        ({"X-Forwarded-Proto": "http"}, False),
        ({"Forwarded": "for=203.0.113.9"}, False),
    ],
    ids=str,
)
def test_plain_http_is_for_programs_on_this_machine(
    api: DataPlaneClient, reader: Token, settings: Any, headers: dict[str, str], allowed: bool
) -> None:
    """S56: a proxy on this machine does not make a caller elsewhere local."""
    settings.SERVES_HTTPS = True
    url = f"/v1/data/ACME/PRICES?token={reader.test_value}"
    local = {"Host": "localhost:8000", **headers}

    assert api.get(url, headers=local).code == ("" if allowed else "https-required")
    assert api.get(url, headers={**headers, "Host": "data.example.com"}).code == "https-required"
    assert api.get(url, headers=local, address="10.0.0.2").code == "https-required"
    assert api.get(url, headers=local, address="10.0.0.2", scheme="https").status == 200


def test_a_token_without_the_word_bearer_is_not_repeated(api: DataPlaneClient, secret: Token) -> None:
    reply = api.get("/v1/data/ACME/PRICES", headers={"Authorization": secret.test_value})

    assert reply.code == "token-invalid"
    assert secret.test_value[:12] not in reply.body.decode()


def test_key_and_subkey_must_fit_the_index_together(
    api: DataPlaneClient, workspace: Any, secret: Token
) -> None:
    DatasetFactory(
        workspace=workspace,
        name="PAIRS",
        schema_json={"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}},
        column_mapping={"key": "a", "subkey": "b"},
    )
    url = f"/v1/record/ACME/PAIRS?token={secret.test_value}"

    reply = api.post(url, {"a": "x" * 1_400, "b": "y" * 1_400})

    assert (reply.status, reply.code) == (400, "invalid-values")
    assert "2,600" in reply.body.decode()
    assert api.post(url, {"a": "x" * 1_300, "b": "y" * 1_300}).status == 200


@pytest.mark.check("S20")
@pytest.mark.parametrize(
    "path",
    [
        "/v1",
        "/v1/",
        "/stable",
        "/latest/",
        "/beta",
        "/v1//",
        "/v1/..",
        "/v1/%FF/x",
    ],
)
def test_odd_paths_are_not_found(api: DataPlaneClient, secret: Token, path: str) -> None:
    reply = api.get(f"{path}?token={secret.test_value}")

    assert (reply.status, reply.code) == (404, "not-found")


@pytest.mark.check("S20")
@pytest.mark.parametrize("path", ["/%761/status", "/v1%2Fstatus", "/%761/data/ACME/PRICES"])
def test_an_escaped_prefix_is_no_way_into_the_api(api: DataPlaneClient, reader: Token, path: str) -> None:
    """S20: the path that chooses the chain is the path that is routed."""
    assert api.get(f"{path}?token={reader.test_value}").status == 404


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
@pytest.mark.parametrize("rest", ["%00", "A/%00", "A%00,B"])
def test_nul_in_a_key_is_refused(api: DataPlaneClient, secret: Token, method: str, rest: str) -> None:
    assert api.request(method, f"/v1/data/ACME/PRICES/{rest}?token={secret.test_value}").status == 400


@pytest.mark.parametrize(
    "path", ["ACME/ingest/%00", "%00/ingest/x", "ACME/ingest/" + "a" * 500, "a-b/ingest/x"]
)
def test_odd_job_ids_are_not_found(api: DataPlaneClient, secret: Token, path: str) -> None:
    assert api.get(f"/v1/jobs/{path}?token={secret.test_value}").code == "not-found"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("title", "\ud800"),
        ("description", "a\0b"),
        ("source", 7),
        ("email", "nobody"),
        ("smartLinkAttributes", ["\0"]),
        ("smartLinkAttributes", {"a": 1}),
        ("smartLinkAttributes", ["x" * 20_000]),
        ("datasetId", "a b"),
        ("datasetId", '"x"'),
        ("datasetId", "_system_x"),
        ("datasetId", None),
        ("schema", None),
        ("schema", []),
        ("columnMapping", {"key": "nosuch"}),
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_a_dataset_with_an_odd_detail_is_refused(
    api: DataPlaneClient, secret: Token, name: str, value: Any
) -> None:
    document = {"datasetId": "FRESH", "schema": {"type": "object", "properties": {"a": {"type": "string"}}}}

    reply = api.post(f"/v1/datasets/ACME?token={secret.test_value}", {"dataset": {**document, name: value}})

    assert (reply.status, reply.code) == (400, "invalid-values"), reply.body
    assert not Dataset.objects.filter(name="FRESH").exists()


def test_numbers_in_smart_link_attributes_are_kept(api: DataPlaneClient, secret: Token) -> None:
    document = {
        "datasetId": "FRESH",
        "schema": {"type": "object", "properties": {"a": {"type": "string"}}},
        "smartLinkAttributes": [{"weight": 1.5}],
    }

    assert api.post(f"/v1/datasets/ACME?token={secret.test_value}", {"dataset": document}).status == 200
    assert Dataset.objects.get(name="FRESH").smart_link_attributes == [{"weight": 1.5}]


def test_answers_about_jobs_carry_what_data_answers_carry(api: DataPlaneClient, prices: Dataset) -> None:
    job = IngestJob.objects.create(dataset=prices)
    writer = TokenFactory(
        workspace=prices.workspace,
        settings={"all_datasets_write": True, "allowed_domains": ["app.example.com"]},
    )
    url = f"/v1/jobs/ACME/ingest/{job.public_id}"
    headers = {"Origin": "https://app.example.com"}

    state = api.get(f"{url}?token={writer.test_value}", headers=headers)
    log = api.get(f"{url}/invalid-records-log?token={writer.test_value}", headers=headers)
    api.run(meter.flush())

    for reply in (state, log):
        assert reply.status == 200
        assert reply.headers["access-control-allow-origin"] == "https://app.example.com"
        assert reply.headers["cache-control"] == "private, no-cache"
        assert reply.headers["iexcloud-credits-used"] == "0"
    assert "attachment" in log.headers["content-disposition"]
    assert UsageCounter.objects.get(token_id=writer.pk).calls == 2


@pytest.mark.check("S16")
def test_a_job_is_hidden_from_tokens_that_may_not_write(
    api: DataPlaneClient, prices: Dataset, reader: Token
) -> None:
    job = IngestJob.objects.create(dataset=prices)
    there = api.get(f"/v1/jobs/ACME/ingest/{job.public_id}?token={reader.test_value}").json()
    missing = api.get(f"/v1/jobs/ACME/ingest/{'0' * 32}?token={reader.test_value}").json()

    there.pop("request_id"), missing.pop("request_id")
    assert there == missing
    assert there["code"] == "not-found"


@pytest.mark.check("S45")
def test_refusals_of_the_wire_carry_the_usual_headers(api: DataPlaneClient) -> None:
    reply = api.get("/v1/data/ACME/PRICES", headers=[("X-API-Key", "a"), ("X-API-Key", "b")])

    assert reply.code == "invalid-values"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert "Retry-After" in reply.headers["access-control-expose-headers"]
    assert reply.headers["access-control-allow-origin"] == "*"


def test_the_first_failing_check_answers_before_names_are_looked_at(
    api: DataPlaneClient, prices: Dataset, reader: Token
) -> None:
    Token.objects.filter(pk=reader.pk).update(disabled_at=LONG_AGO)
    api.run(changes.poll())

    for path in ("data/a-b/PRICES", "data/ACME/PRICES", "data/ACME/NOSUCH", "jobs/ACME/ingest/x"):
        assert api.get(f"/v1/{path}?token={reader.test_value}").code == "token-disabled"
    assert api.post(f"/v1/datasets/a-b?token={reader.test_value}").code == "token-disabled"


@pytest.mark.check("S37")
def test_a_long_answer_is_cut_into_pages(
    api: DataPlaneClient, filled: Dataset, reader: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.storage.reads.ANSWER_CHARACTERS_MAX", 100)
    monkeypatch.setattr("datasets.storage.reads.SURELY_SHORT", 0)
    url = f"/v1/data/ACME/PRICES?token={reader.test_value}&limit=1000&sort=asc"

    pages, cursor = [], ""
    while cursor is not None:
        reply = api.get(url + (f"&cursor={cursor}" if cursor else ""))
        pages.append(reply.json())
        cursor = reply.headers.get("apperate-next-cursor")

    assert [len(page) for page in pages] == [2, 2, 1]
    assert [record for page in pages for record in page] == RECORDS


def test_core_reads_of_a_changed_price_cost_the_new_price(
    api: DataPlaneClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apperate.database.changes.POLL_SECONDS", 3600)
    core = DatasetFactory(workspace=WorkspaceFactory(name="CORE"), name="PRICES", credits_per_record=1)
    operator = TokenFactory(workspace=core.workspace, kind=TokenKind.SECRET)
    assert api.post(f"/v1/record/CORE/PRICES?token={operator.test_value}", RECORDS).status == 200
    url = f"/v1/data/CORE/PRICES?last=2&token={TokenFactory().test_value}"
    assert api.get(url).headers["iexcloud-credits-used"] == "2"

    core.credits_per_record, core.version = 5, core.version + 1
    core.save(update_fields=["credits_per_record", "version"])

    assert api.get(url).headers["iexcloud-credits-used"] == "10"


def test_a_publishable_token_makes_no_datasets(api: DataPlaneClient, reader: Token) -> None:
    """S03: whatever is granted, account actions need the secret token."""
    reply = api.post(f"/v1/datasets/ACME?token={reader.test_value}", {"dataset": {"datasetId": "FRESH"}})

    assert (reply.status, reply.code) == (401, "secret-required")
