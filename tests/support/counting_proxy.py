"""A proxy before PostgreSQL that counts the round trips of the data plane."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from apperate.database import pool
from apperate.database.background import Background
from tests.support.data_plane_client import DataPlaneClient
from tokens.gate.credits import spent


class CountingProxy:
    """Stands between the pool and the server and counts the server's "ready for query" messages.

    The server says so once per round trip, however many statements the round trip carried.
    """

    def __init__(self, arguments: dict[str, Any]) -> None:
        self.target = (arguments["host"], int(arguments.get("port") or 5432))
        self.round_trips = 0
        self.port = 0
        self.tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self.server.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        host, port = self.target
        if host.startswith("/"):
            upstream = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        else:
            upstream = await asyncio.open_connection(host, port)
        forward = asyncio.create_task(self.forward(reader, upstream[1]))
        try:
            while True:
                head = await upstream[0].readexactly(5)
                body = await upstream[0].readexactly(int.from_bytes(head[1:], "big") - 4)
                self.round_trips += head[:1] == b"Z"
                writer.write(head + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            # Closed before anything is waited for: stop() may cancel the waiting.
            for side in (writer, upstream[1]):
                side.close()
            forward.cancel()
            try:
                await asyncio.gather(forward, return_exceptions=True)
            finally:
                self.tasks.discard(task)

    async def forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()


async def rest(work: Background) -> None:
    """In place of the background work: what is counted is what requests ask."""
    await asyncio.Event().wait()


@pytest.fixture
def proxy(api: DataPlaneClient, monkeypatch: pytest.MonkeyPatch) -> Iterator[CountingProxy]:
    """The data plane with its connections through the proxy, and without polls and flushes in between."""
    from apperate import asgi

    arguments = pool.connection_arguments()
    proxy = CountingProxy(arguments)
    api.run(asgi.shutdown())
    api.run(proxy.start())
    through = {
        **arguments,
        "host": "127.0.0.1",
        "port": proxy.port,
        "sslmode": "disable",
        "gssencmode": "disable",
    }
    monkeypatch.setattr(pool, "connection_arguments", lambda: through)
    monkeypatch.setattr("apperate.database.changes.STALE_SECONDS_MAX", 3600)
    monkeypatch.setattr("apperate.database.background.Background._run", rest)
    spent.clear()
    api.run(asgi.startup())
    yield proxy
    api.run(asgi.shutdown())
    api.run(proxy.stop())
