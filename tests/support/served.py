"""One data plane and a few datasets for a whole module of tests that leave them as they found them.

    served.get("PRICES/AAPL", "last=2")     the reply, with the workspace's secret token
    served.shown("PRICES/AAPL", "last=2")   its records in short: ["A6", "A5"]

PRICES has six days of AAPL and MSFT, PLANS three days to come, PEOPLE years alone. SCRATCH is for changes.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.conftest import empty_tables
from tests.support.data_plane_client import DataPlaneClient, Reply
from tests.support.factories import DatasetFactory, TokenFactory, WorkspaceFactory
from tokens.rules.token_format import TokenKind

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
MAPPING = {"key": "ticker", "date": "day"}
PEOPLE_SCHEMA = {
    "type": "object",
    "properties": {"place": {"type": "string"}, "age": {"type": "string"}, "year": {"type": "date"}},
}
PRICES = [
    {"ticker": ticker, "day": f"2024-01-0{day}", "close": close * day, "paid": f"2024-02-{29 - day}"}
    for ticker, close in (("AAPL", 1), ("MSFT", 10))
    for day in range(1, 7)
]
PEOPLE = [{"place": "Oslo", "age": "0-4", "year": str(year)} for year in range(2008, 2013)]
TO_COME_DAYS = (100, 200, 300)


class Served:
    def __init__(self, api: DataPlaneClient) -> None:
        self.api = api
        self.workspace = WorkspaceFactory(name="ACME")
        self.token = TokenFactory(workspace=self.workspace, kind=TokenKind.SECRET).test_value
        for name in ("PRICES", "PLANS", "SCRATCH"):
            DatasetFactory(workspace=self.workspace, name=name, schema_json=SCHEMA, column_mapping=MAPPING)
        DatasetFactory(
            workspace=self.workspace,
            name="PEOPLE",
            schema_json=PEOPLE_SCHEMA,
            column_mapping={"key": "place", "subkey": "age", "date": "year"},
        )
        self.to_come = [f"{datetime.now(UTC) + timedelta(days=days):%Y-%m-%d}" for days in TO_COME_DAYS]
        self.write("PRICES", PRICES)
        self.write("PEOPLE", PEOPLE)
        self.write("PLANS", [{"ticker": "AAPL", "day": day} for day in ("2024-01-01", *self.to_come)])

    def send(self, method: str, path: str, query: str = "", body: Any = None, **headers: str) -> Reply:
        """Any request; underscores in the names of headers are dashes."""
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        url = f"/v1/{path}?token={self.token}&{query}"
        return self.api.request(method, url, body=body or b"", headers=named)

    def write(self, dataset: str, records: list[Any]) -> None:
        reply = self.send("POST", f"record/ACME/{dataset}", body=records)
        assert reply.status == 200, reply.body

    def get(self, path: str, query: str = "", **headers: str) -> Reply:
        return self.send("GET", f"data/ACME/{path}", query, **headers)

    def shown(self, path: str, query: str = "") -> list[str]:
        """The records of an answer as A1 for AAPL on the first day, or the year of one of PEOPLE."""
        reply = self.get(path, query)
        assert reply.status == 200, reply.body
        return [
            record["year"] if "year" in record else f"{record['ticker'][0]}{record['day'][-1]}"
            for record in reply.json()
        ]


@pytest.fixture(scope="module")
def served(django_db_setup: None, django_db_blocker: Any) -> Iterator[Served]:
    """Made once for a module marked django_db; what is left in the database goes with it."""
    with django_db_blocker.unblock():
        api = DataPlaneClient()
        yield Served(api)
        api.close()
        empty_tables()
