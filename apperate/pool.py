"""The data plane's pool: asynchronous connections without health checks, one pool per worker process.

A check would be a second round trip; instead a read whose connection turns out dead is repeated once,
a write never. Source: architecture.md, The data path.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import psycopg
from django.db import connections
from psycopg_pool import AsyncConnectionPool, PoolTimeout

CONNECTIONS_MAX = 10
WAIT_SECONDS_MAX = 1.0
ANSWER_SECONDS_MAX = 5.5  # the statement timeout, and a little

# What a lost or overloaded database raises; every one of these becomes 503 with Retry-After.
UNAVAILABLE = (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout)


class Pools:
    """The pool of each event loop (a server worker has one; tests have one per loop)."""

    def __init__(self) -> None:
        self._pools: dict[asyncio.AbstractEventLoop, AsyncConnectionPool] = {}

    async def get(self) -> AsyncConnectionPool:
        """The open pool of this loop. Raises PoolTimeout when the database does not answer in a second."""
        loop = asyncio.get_running_loop()
        if (pool := self._pools.get(loop)) is not None:
            return pool
        pool = AsyncConnectionPool(
            kwargs=connection_arguments(), min_size=1, max_size=CONNECTIONS_MAX, open=False,
            timeout=WAIT_SECONDS_MAX, reconnect_timeout=1.0, max_idle=60.0,
        )  # fmt: skip
        # Waiting here keeps the first caller from making the pool grow for want of a connection.
        await pool.open(wait=True, timeout=WAIT_SECONDS_MAX)
        if self._pools.setdefault(loop, pool) is not pool:  # Another task was first.
            await pool.close()
        return self._pools[loop]

    async def close(self) -> None:
        if pool := self._pools.pop(asyncio.get_running_loop(), None):
            await pool.close()


pools = Pools()


def connection_arguments() -> dict[str, Any]:
    """psycopg's arguments for the default database, autocommit and without prepared statements.

    Preparing costs a round trip of its own at the moment it happens.
    """
    arguments = connections["default"].get_connection_params()
    for name in (
        "cursor_factory",
        "context",
        "pool",
        "server_side_binding",
        "assume_role",
        "isolation_level",
    ):
        arguments.pop(name, None)
    return {**arguments, "autocommit": True, "prepare_threshold": None}


async def fetch_all(
    sql: Any, parameters: Sequence[Any] | dict[str, Any], *, repeat: bool = True
) -> list[tuple[Any, ...]]:
    """All rows of one statement in one round trip. repeat=False for statements that change something.

    Raises PoolTimeout when the database is silent beyond the statement timeout: then the request is
    answered, while the connection is given up in the background.
    """
    task = asyncio.create_task(_fetch_all(sql, parameters, repeat=repeat))
    done, _ = await asyncio.wait({task}, timeout=ANSWER_SECONDS_MAX)
    if done:
        return task.result()
    task.add_done_callback(lambda late: late.cancelled() or late.exception())  # Nobody asks it any more.
    task.cancel()
    raise PoolTimeout(f"no answer within {ANSWER_SECONDS_MAX} s")


async def _fetch_all(
    sql: Any, parameters: Sequence[Any] | dict[str, Any], *, repeat: bool
) -> list[tuple[Any, ...]]:
    pool = await pools.get()
    for last in (not repeat, True):
        try:
            async with pool.connection() as connection:
                cursor = await connection.execute(sql, parameters)
                return await cursor.fetchall() if cursor.description else []
        except psycopg.errors.QueryCanceled:
            raise  # The statement timeout: asking again would take as long again.
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            if last or isinstance(error, PoolTimeout):
                raise
            await pool.check()  # Others of the pool are likely dead too.
    raise AssertionError("unreachable")
