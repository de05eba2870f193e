"""Pools that hand out no connection the server has closed.

    is_alive(connection) -> bool     without a round trip: the end of a closed connection can be read
    LivePool, LiveAsyncPool          psycopg's pools, which drop what is not alive and take the next, and
                                     refuse at once while the database hangs (pulse.py)

psycopg's own check is a query for each use, and after the second dead connection its pool sleeps for a
second; when the server ends all connections at once, requests would be refused although it is up again.
Silent failures, such as a network that drops packets, are found by the connection's time limits.
"""

import select
import time
from typing import Any

import psycopg
from psycopg.pq import ConnStatus
from psycopg_pool import AsyncConnectionPool, ConnectionPool, PoolTimeout

from apperate.database.pulse import WORDS, pulse, watched

# The server says why it ends a connection and then closes it: two reads, and one to spare.
READS_MAX = 3
LOOK_SECONDS = 0.05


def is_alive(connection: "psycopg.Connection[Any] | psycopg.AsyncConnection[Any]") -> bool:
    """Whether an idle connection is still open at the other end."""
    try:
        waiting = select.poll()
        waiting.register(connection.fileno(), select.POLLIN)
        for _ in range(READS_MAX):
            if not waiting.poll(0):
                return True
            connection.pgconn.consume_input()
    except (psycopg.Error, OSError, ValueError):
        return False
    return connection.pgconn.status == ConnStatus.OK


class WatchedConnection(psycopg.Connection[Any]):
    """A connection whose every wait ends when the database hangs."""

    def wait(self, gen: Any, interval: float = LOOK_SECONDS, timeout: float | None = None) -> Any:
        return super().wait(watched(self, gen), min(interval, LOOK_SECONDS), timeout)


class LivePool(ConnectionPool["psycopg.Connection[Any]"]):
    """A pool for threads."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(connection_class=WatchedConnection, **arguments)

    def getconn(self, timeout: float | None = None) -> "psycopg.Connection[Any]":
        if pulse.is_away:
            raise PoolTimeout(WORDS)
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while True:
            connection = super().getconn(max(0.0, deadline - time.monotonic()))
            if is_alive(connection):
                return connection
            connection.close()
            self.putconn(connection)


class LiveAsyncPool(AsyncConnectionPool["psycopg.AsyncConnection[Any]"]):
    """A pool for an event loop."""

    async def getconn(self, timeout: float | None = None) -> "psycopg.AsyncConnection[Any]":
        if pulse.is_away:
            raise PoolTimeout(WORDS)
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while True:
            connection = await super().getconn(max(0.0, deadline - time.monotonic()))
            if is_alive(connection):
                return connection
            await connection.close()
            await self.putconn(connection)
