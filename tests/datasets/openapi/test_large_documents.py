"""A workspace of 1,000 datasets, a schema of 1,000 properties: bounded work, and other requests go on."""

import asyncio
import json
import time
import tracemalloc
from typing import Any

import pytest

from apperate.accounts.models import Workspace
from datasets.models import Dataset
from tests.support.data_plane_client import DataPlaneClient
from tests.support.factories import PRICES_SCHEMA, DatasetFactory, TokenFactory

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.check("S37")]

DATASETS = PROPERTIES = 1_000
AT_ONCE = 8
PATHS = (
    "data", "data/ACME", "datasets/ACME", "openapi-doc", "openapi-doc/ACME/WIDE", "datasets/ACME/WIDE",
    "generate-schema/ACME/WIDE", "data/ACME/WIDE?limit=1", "tokens", "meta/ACME",
)  # fmt: skip
# Of the processor's time, so that a busy machine changes nothing; twenty times what they take.
SECONDS_MAX, STANDSTILL_SECONDS_MAX = 10.0, 0.6
MEMORY_BYTES_MAX = 150_000_000


@pytest.fixture
def value(workspace: Workspace) -> str:
    """The secret token of a workspace with all that."""
    Dataset.objects.bulk_create(
        Dataset(
            workspace=workspace, name=f"D{number}", schema_json=PRICES_SCHEMA, title="Prices " * 20,
            column_mapping={"key": "ticker", "date": "date"}, description="Said of it. " * 300,
        )
        for number in range(DATASETS)
    )  # fmt: skip
    properties = {
        f"property_{n}": {"type": "number", "description": "d" * 200} for n in range(PROPERTIES - 2)
    }
    properties |= {"ticker": {"type": "string"}, "date": {"type": "date"}}
    DatasetFactory(
        workspace=workspace, name="WIDE", schema_json={"type": "object", "properties": properties},
        column_mapping={"key": "ticker", "date": "date"},
    )  # fmt: skip
    return str(TokenFactory(workspace=workspace, kind="secret").test_value)


async def longest_standstill(stop: asyncio.Event) -> float:
    """How long the thread of the event loop worked without letting another request go on, at most."""
    longest, before = 0.0, time.thread_time()
    while not stop.is_set():
        await asyncio.sleep(0)
        now = time.thread_time()
        longest, before = max(longest, now - before), now
    return longest


@pytest.mark.parametrize("path", PATHS)
def test_a_large_document_takes_bounded_time_and_stops_nobody(
    api: DataPlaneClient, value: str, path: str
) -> None:
    url = f"/v1/{path}{'&' if '?' in path else '?'}token={value}"
    first = api.get(url)  # What is read once has been read.
    assert first.status == 200, first.body[:300]

    async def all_at_once() -> tuple[float, float]:
        stop = asyncio.Event()
        watch = asyncio.create_task(longest_standstill(stop))
        begun = time.process_time()
        target, _, query = url.partition("?")
        replies = await asyncio.gather(*(exchange(api, target, query) for _ in range(AT_ONCE)))
        spent = time.process_time() - begun
        stop.set()
        assert {reply.status for reply in replies} <= {200, 429}
        return spent, await watch

    spent, standstill = api.run(all_at_once())
    tracemalloc.start()
    try:
        api.get(url)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    print(path, len(first.body), f"{spent:.3f} s, stood still {standstill:.3f} s, {peak / 1e6:.0f} MB")
    assert spent < SECONDS_MAX and standstill < STANDSTILL_SECONDS_MAX
    assert peak < MEMORY_BYTES_MAX


async def exchange(api: DataPlaneClient, target: str, query: str) -> Any:
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": target, "raw_path": target.encode(), "query_string": query.encode(), "root_path": "",
        "headers": [(b"host", b"testserver")], "client": ("127.0.0.1", 5), "server": ("127.0.0.1", 8000),
    }  # fmt: skip
    return await api._exchange(scope, b"")


def test_a_schema_has_a_greatest_number_of_properties(api: DataPlaneClient, value: str) -> None:
    """So that no document grows without end."""
    properties = {f"p{n}": {"type": "number"} for n in range(100_000)}
    schema = {"type": "object", "properties": properties | {"k": {"type": "string"}}}
    body = {"dataset": {"datasetId": "ENDLESS", "schema": schema, "columnMapping": {"key": "k"}}}

    reply = api.post(f"/v1/datasets/ACME?token={value}", json.dumps(body))

    assert (reply.status, reply.code) == (400, "invalid-values")
