"""The parameters of a read that are more than a span of dates, each through the whole data plane."""

import json
from typing import Any
from urllib.parse import quote

import pytest

from apperate.accounts.models import Workspace
from datasets.models import Dataset
from tests.support.data_plane_client import DataPlaneClient, Reply
from tests.support.factories import DatasetFactory, TokenFactory, WorkspaceFactory
from tokens.rules.token_format import TokenKind

pytestmark = pytest.mark.django_db(transaction=True)

SCHEMA = {
    "type": "object",
    "properties": {
        "ticker": {"type": "string"},
        "day": {"type": "string", "format": "date"},
        "close": {"type": "number"},
        "paid": {"type": "string", "format": "date"},
    },
    "required": ["ticker", "day"],
}
RECORDS = [
    {"ticker": ticker, "day": f"2024-01-0{day}", "close": close * day, "paid": f"2024-02-{29 - day}"}
    for ticker, close in (("AAPL", 1), ("MSFT", 10))
    for day in range(1, 7)
]


class Reader:
    def __init__(self, api: DataPlaneClient, workspace: Workspace) -> None:
        self.api = api
        self.dataset: Dataset = DatasetFactory(
            workspace=workspace,
            name="PRICES",
            schema_json=SCHEMA,
            column_mapping={"key": "ticker", "date": "day"},
        )
        self.token = TokenFactory(workspace=workspace, kind=TokenKind.SECRET).test_value
        self.base = f"/v1/data/{workspace.name}/PRICES"
        self.write(RECORDS)

    def write(self, records: list[dict[str, Any]], query: str = "") -> None:
        reply = self.api.post(f"{self.base.replace('data', 'record')}?token={self.token}&{query}", records)
        assert reply.status == 200, reply.body

    def get(self, path: str = "", query: str = "", **headers: str) -> Reply:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.api.get(f"{self.base}{path}?token={self.token}&{query}", headers=named)

    def shown(self, path: str = "", query: str = "") -> list[str]:
        """The records of an answer as A1 for AAPL on the first day."""
        reply = self.get(path, query)
        assert reply.status == 200, reply.body
        return [f"{record['ticker'][0]}{record['day'][-1]}" for record in reply.json()]


@pytest.fixture
def reader(api: DataPlaneClient, workspace: Workspace) -> Reader:
    return Reader(api, workspace)


@pytest.mark.parametrize(
    ("path", "query", "expected"),
    [
        ("/AAPL", "last=5&interval=2", "A6 A4 A2"),
        ("/AAPL", "range=2024&interval=3", "A6 A3"),
        ("/AAPL", "limit=4&interval=3&sort=asc", "A1 A4"),
        ("/AAPL,MSFT", "last=3&interval=2", "A6 A4 M6 M4"),
        ("/AAPL", "last=5&interval=100", "A6"),
        ("/AAPL", "dateField=paid&from=2024-02-26", "A1 A2 A3"),
        ("/AAPL", "dateField=paid&on=2024-02-25", "A4"),
        ("/AAPL", "dateField=paid&last=2", "A1 A2"),
        ("", "subattribute=ticker|MSFT,close~60&limit=9", "M5 M4 M3 M2 M1"),
        ("", "where=close ge 50&limit=9", "M6 M5"),
        ("", "where=close gt 4 and not ticker eq MSFT&limit=9", "A6 A5"),
        ("", "where=ticker in (AAPL) and (close eq 1 or close eq 2)&limit=9", "A2 A1"),
        ("/AAPL", "where=paid ge 2024-02-27&limit=9", "A2 A1"),
        ("/MSFT", "where=close le 20&subattribute=ticker|MSFT&last=1", "M2"),
    ],
)
def test_records_are_chosen(reader: Reader, path: str, query: str, expected: str) -> None:
    assert reader.shown(path, quote(query, safe="=&")) == expected.split()


@pytest.mark.check("S39")
def test_values_of_a_condition_are_data_and_never_part_of_the_statement(reader: Reader) -> None:
    for value in ("'; DROP TABLE records; --", "%s", "%(dataset)s", "\\", '"', "{close}"):
        asked = "ticker eq '" + value.replace("'", "''") + "'"
        assert reader.shown("", f"where={quote(asked, safe='')}&limit=9") == []
    assert len(reader.shown("", "limit=100")) == len(RECORDS)


@pytest.mark.parametrize("query", ["limit=5", "range=2024&limit=4", "limit=5&sort=asc", "limit=6&interval=2"])
@pytest.mark.parametrize("path", ["", "/AAPL"])
def test_pages_hold_every_record_once(reader: Reader, path: str, query: str) -> None:
    step = 2 if "interval" in query else 1
    whole = reader.shown(path, query.replace("limit=5", "limit=100").replace("limit=4", "limit=100"))
    if step == 2:
        whole = reader.shown(path, "limit=1000&interval=2")

    found, cursor = [], ""
    for _ in range(10):
        reply = reader.get(path, query + cursor)
        assert reply.status == 200, reply.body
        found += [f"{record['ticker'][0]}{record['day'][-1]}" for record in reply.json()]
        if "apperate-next-cursor" not in reply.headers:
            break
        cursor = f"&cursor={reply.headers['apperate-next-cursor']}"

    assert found == whole and len(set(found)) == len(found)


@pytest.mark.check("S09")
def test_the_link_leads_to_the_next_page_and_names_no_token(reader: Reader) -> None:
    reply = reader.get("/AAPL", "limit=4")

    address, relation = reply.headers["link"].split("; ")
    assert relation == 'rel="next"' and reader.token not in address
    url = address.strip("<>")
    assert url.startswith("/v1/data/ACME/PRICES/AAPL?limit=4&cursor=")
    following = reader.api.get(f"{url}&token={reader.token}")
    assert [record["day"][-1] for record in following.json()] == ["2", "1"]
    assert "link" not in following.headers


def test_what_is_written_in_between_moves_no_page(reader: Reader) -> None:
    first = reader.get("/AAPL", "limit=3")
    reader.write([{"ticker": "AAPL", "day": "2024-01-09", "close": 9}])

    following = reader.get("/AAPL", f"limit=3&cursor={first.headers['apperate-next-cursor']}")

    assert [record["day"][-1] for record in first.json() + following.json()] == list("654321")


@pytest.mark.parametrize(
    ("path", "query"),
    [("/MSFT", "limit=3"), ("/AAPL", "limit=4"), ("/AAPL", "limit=3&sort=asc"), ("", "limit=3")],
)
def test_a_cursor_is_refused_in_another_query(reader: Reader, path: str, query: str) -> None:
    cursor = reader.get("/AAPL", "limit=3").headers["apperate-next-cursor"]

    reply = reader.get(path, f"{query}&cursor={cursor}")

    assert reply.code == "invalid-values" and "Apperate-Next-Cursor" in reply.json()["needed"]


def test_a_cursor_goes_on_under_another_token(reader: Reader, workspace: Workspace) -> None:
    cursor = reader.get("/AAPL", "limit=3").headers["apperate-next-cursor"]
    other = TokenFactory(workspace=workspace, settings__grants={reader.dataset: "read"})
    reader.token = other.test_value

    assert reader.shown("/AAPL", f"limit=3&cursor={cursor}") == ["A3", "A2", "A1"]


@pytest.mark.parametrize("damage", [lambda c: c[:-3], lambda c: c + "A", lambda c: "!" + c, lambda c: "W10"])
def test_a_damaged_cursor_is_refused(reader: Reader, damage: Any) -> None:
    cursor = reader.get("/AAPL", "limit=3").headers["apperate-next-cursor"]

    assert reader.get("/AAPL", f"limit=3&cursor={quote(damage(cursor))}").code == "invalid-values"


def test_a_selection_has_no_next_page(reader: Reader) -> None:
    for query in ("last=2", "first=2", "limit=6"):
        assert "apperate-next-cursor" not in reader.get("/AAPL", query).headers


def test_include_system_record_properties(reader: Reader) -> None:
    (record,) = reader.get("/AAPL", "on=2024-01-03&includeSystemRecordProperties=true").json()

    system = record.pop("_systemRecordProperties")
    assert record == RECORDS[2]
    assert system.pop("updated") > 1_700_000_000_000
    assert system == {"id": "PRICES", "key": "AAPL", "subkey": "", "date": 1_704_240_000_000}


def test_system_record_properties_in_other_forms(reader: Reader) -> None:
    query = "on=2024-01-03&includeSystemRecordProperties=true&filter=close"

    (record,) = reader.get("/AAPL", query).json()
    assert list(record) == ["close", "_systemRecordProperties"]
    head, row, _ = reader.get("/AAPL", f"{query}&format=csv").body.decode().split("\r\n")
    assert head == "close,_systemRecordProperties"
    assert row.startswith('3,"{""id"":""PRICES"",')


def test_records_of_core_carry_the_platforms_properties(api: DataPlaneClient) -> None:
    core = Reader(api, WorkspaceFactory(name="CORE"))

    (record,) = core.get("/AAPL", "on=2024-01-03").json()

    assert list(record) == ["ticker", "day", "close", "paid", "id", "key", "subkey", "date", "updated"]
    assert (record["id"], record["key"], record["date"]) == ("PRICES", "AAPL", 1_704_240_000_000)
    assert core.get("/AAPL", "filter=key,close").json() == [{"key": "AAPL", "close": 6}]
    assert core.get("/AAPL", "filter=key&format=csv").body == b"key\r\nAAPL\r\n"


def test_records_of_a_workspace_have_their_own_properties_alone(reader: Reader) -> None:
    assert reader.get("/AAPL", "on=2024-01-03").json() == [RECORDS[2]]
    assert reader.get("/AAPL", "filter=key").code == "invalid-values"


def test_callback_answers_jsonp(reader: Reader) -> None:
    reader.write([{"ticker": "a\u2028b", "day": "2024-01-01"}])

    reply = reader.get("/" + quote("a\u2028b"), "callback=app.show&filter=ticker")

    assert reply.headers["content-type"] == "application/javascript; charset=utf-8"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.body == b'/**/app.show([{"ticker":"a\\u2028b"}]);'


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("*/*", "application/json"),
        ("text/html", "application/json"),
        ("text/csv", "text/csv"),
        ("application/json;q=0.5, text/csv", "text/csv"),
        ("text/csv;q=0, */*;q=0.1", "application/json"),
        ("application/x-ndjson", "application/x-ndjson"),
        ("text/csv;q=much", "application/json"),
    ],
)
def test_accept_chooses_the_form(reader: Reader, accept: str, content_type: str) -> None:
    assert reader.get("/AAPL", Accept=accept).headers["content-type"] == f"{content_type}; charset=utf-8"
    forced = reader.get("/AAPL", "format=json", Accept=accept)
    assert isinstance(json.loads(forced.body), list)
