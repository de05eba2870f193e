"""Reads of several datasets in one request, through the whole data plane."""

from typing import Any
from urllib.parse import quote

import psycopg
import pytest

from apperate.accounts.models import Workspace
from datasets.api import batch as api_batch
from datasets.models import Dataset
from datasets.storage import reads
from tests.support.data_plane_client import DataPlaneClient, Reply
from tests.support.factories import LONG_AGO, DatasetFactory, RevisionFactory, TokenFactory, WorkspaceFactory
from tokens.gate.credits import spent
from tokens.models import CreditWindow
from tokens.rules.token_format import TokenKind

pytestmark = pytest.mark.django_db(transaction=True)

SCHEMA = {
    "type": "object",
    "properties": {
        "ticker": {"type": "string"},
        "day": {"type": "string", "format": "date"},
        "close": {"type": "number"},
    },
    "required": ["ticker", "day"],
}


class Batch:
    """Datasets A and B with three days of AAPL and MSFT each; a record is shown as A:M2."""

    def __init__(self, api: DataPlaneClient, workspace: Workspace, **facts: Any) -> None:
        self.api, self.workspace = api, workspace
        self.token = TokenFactory(workspace=workspace, kind=TokenKind.SECRET).test_value
        self.datasets: dict[str, Dataset] = {}
        for number, name in enumerate("AB"):
            self.datasets[name] = DatasetFactory(
                workspace=workspace, name=name, schema_json=SCHEMA,
                column_mapping={"key": "ticker", "date": "day"}, **facts,
            )  # fmt: skip
            records = [
                {"ticker": ticker, "day": f"2024-01-0{day}", "close": 10 * number + day}
                for ticker in ("AAPL", "MSFT")
                for day in (1, 2, 3)
            ]
            reply = api.post(f"/v1/record/{workspace.name}/{name}?token={self.token}", records)
            assert reply.status == 200, reply.body

    def get(self, path: str, query: str = "") -> Reply:
        return self.api.get(f"/v1/data/{self.workspace.name}/{path}?token={self.token}&{query}")

    def shown(self, path: str, query: str = "") -> str:
        reply = self.get(path, query)
        assert reply.status == 200, reply.body
        return self.names(reply)

    def names(self, reply: Reply) -> str:
        return " ".join(f"{'AB'[int(r['close'] > 9)]}:{r['ticker'][0]}{r['day'][-1]}" for r in reply.json())


@pytest.fixture
def batch(api: DataPlaneClient, workspace: Workspace) -> Batch:
    return Batch(api, workspace)


@pytest.mark.parametrize(
    ("path", "query", "expected"),
    [
        ("A,B/AAPL,MSFT", "", "A:A3 A:M3 B:A3 B:M3"),
        ("B,A/MSFT", "last=2", "B:M3 B:M2 A:M3 A:M2"),
        ("a,b/AAPL", "first=1", "A:A1 B:A1"),
        ("A,B", "last=1", "A:M3 B:M3"),
        ("A,A,B/AAPL", "", "A:A3 B:A3"),
        ("A,B/AAPL", "on=2024-01-02", "A:A2 B:A2"),
        ("A%7CB/AAPL%7CMSFT", "batchSeparator=%7C", "A:A3 A:M3 B:A3 B:M3"),
        ("A,B/AAPL", "where=close%20gt%2010&limit=5", "B:A3 B:A2 B:A1"),
        ("A,B/NONE", "", ""),
    ],
)
def test_records_of_every_pair_are_in_the_order_of_the_path(
    batch: Batch, path: str, query: str, expected: str
) -> None:
    assert batch.shown(path, query) == expected


def test_the_old_name_of_a_read_takes_a_batch(batch: Batch) -> None:
    reply = batch.api.get(f"/v1/query/ACME/A,B/AAPL?token={batch.token}")

    assert batch.names(reply) == "A:A3 B:A3"


def test_a_batch_has_every_form(batch: Batch) -> None:
    assert batch.get("A,B/AAPL", "format=csv&filter=close").body == b"close\r\n3\r\n13\r\n"
    assert batch.get("A,B/AAPL", "callback=f&filter=close").body == b'/**/f([{"close":3},{"close":13}]);'


@pytest.mark.parametrize("records_max", [1, 2, 3, 4, 5, 7])
def test_pages_of_a_batch_hold_every_record_once(
    batch: Batch, monkeypatch: pytest.MonkeyPatch, records_max: int
) -> None:
    whole = batch.shown("A,B/AAPL,MSFT", "last=3")
    monkeypatch.setattr(api_batch, "RECORDS_MAX", records_max)

    found, cursor = [], ""
    for _ in range(20):
        reply = batch.get("A,B/AAPL,MSFT", f"last=3{cursor}")
        found += batch.names(reply).split()
        if "apperate-next-cursor" not in reply.headers:
            break
        cursor = f"&cursor={reply.headers['apperate-next-cursor']}"

    assert " ".join(found) == whole and len(found) == 12


def test_a_cursor_of_a_batch_is_refused_in_another(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_batch, "RECORDS_MAX", 1)
    cursor = batch.get("A,B/AAPL", "last=3").headers["apperate-next-cursor"]

    for path in ("B,A/AAPL", "A,B/MSFT", "A/AAPL"):
        assert batch.get(path, f"last=3&cursor={cursor}").code == "invalid-values"


@pytest.mark.parametrize(
    ("names", "keys", "is_read"), [(2, 1_000, True), (2, 1_001, False), (1, 2_001, False)]
)
def test_at_most_2000_pairs_or_nothing_runs(batch: Batch, names: int, keys: int, is_read: bool) -> None:
    path = f"{','.join('AB'[:names])}/{','.join(f'{n:x}' for n in range(keys))}"

    reply = batch.get(path)

    assert (reply.status == 200) is is_read
    assert is_read or (reply.code == "invalid-values" and "2,000" in reply.json()["needed"])


def test_one_dataset_that_is_not_granted_refuses_all(batch: Batch) -> None:
    batch.token = TokenFactory(
        workspace=batch.workspace, settings__grants={batch.datasets["A"]: "read"}
    ).test_value

    assert batch.get("A/AAPL").status == 200
    for other in ("B", "MISSING"):
        for path in (f"A,{other}/AAPL", f"{other},A/AAPL"):
            reply = batch.get(path)
            assert reply.code == "dataset-not-granted" and b"2024" not in reply.body


@pytest.mark.parametrize("path", ["A,b-c/AAPL", "A,_systemX", "A,%00", ",", "A,B/%00"])
def test_a_name_that_cannot_be_is_refused(batch: Batch, path: str) -> None:
    assert batch.get(path).code == "invalid-values"


def test_a_name_of_a_property_has_to_be_in_every_dataset(batch: Batch) -> None:
    reply = batch.get("A,B/AAPL", "filter=nothing")

    assert reply.code == "invalid-values" and "filter" in reply.json()["received"]


@pytest.mark.parametrize("query", ["queryId=a1", "export=true", "schema=true"])
def test_what_is_about_one_dataset_is_refused_in_a_batch(batch: Batch, query: str) -> None:
    assert "one dataset" in batch.get("A,B/AAPL", query).json()["needed"]


@pytest.mark.parametrize("query", ["last=1", "last=1&filter=close"])
def test_a_failure_on_the_way_is_the_last_element(
    batch: Batch, monkeypatch: pytest.MonkeyPatch, query: str
) -> None:
    read = reads.read

    async def read_a_only(dataset: Any, query: Any) -> Any:
        if dataset.name == "B":
            raise psycopg.errors.QueryCanceled("statement timeout")
        return await read(dataset, query)

    monkeypatch.setattr(reads, "read", read_a_only)
    reply = batch.get("A,B/AAPL", query)

    first, last = reply.json()
    assert reply.status == 200 and first["close"] == 3
    assert list(last) == ["_system_error"] and "ACME/B" in last["_system_error"]


def test_each_dataset_of_a_batch_charges_its_price_and_all_fit_or_none(api: DataPlaneClient) -> None:
    core = Batch(api, WorkspaceFactory(name="CORE"))
    Dataset.objects.filter(name="A").update(credits_per_record=1, version=2)
    Dataset.objects.filter(name="B").update(credits_per_record=5, version=2)
    token = TokenFactory(workspace=WorkspaceFactory(name="BUYER"), settings=False)
    RevisionFactory(
        token=token, core_data_access=True, core_credit_limit=10, saved_at=LONG_AGO, effective_at=LONG_AGO
    )
    core.token = token.test_value

    first, second = core.get("A,B/AAPL"), core.get("A,B/AAPL")

    assert (first.status, first.headers["iexcloud-credits-used"]) == (200, "6")
    assert first.headers["apperate-credits-remaining"] == "4"
    assert second.code == "credits-exhausted"
    assert CreditWindow.objects.get(token=token).used == 6
    spent.clear()


def test_keys_with_other_characters_stay_whole_in_a_batch(batch: Batch) -> None:
    odd = "a/b c😀"
    for name in "AB":
        record = [{"ticker": odd, "day": "2024-01-01", "close": 9 if name == "A" else 19}]
        batch.api.post(f"/v1/record/ACME/{name}?token={batch.token}", record)

    reply = batch.get(f"A,B/{quote(odd, safe='')}")

    assert [(r["ticker"], r["close"]) for r in reply.json()] == [(odd, 9), (odd, 19)]
