"""The data plane's connection pools: asynchronous, one for each kind of work.

A connection that the server has closed is not handed out (live.py). When one dies during a statement, a read
is repeated once, a write never. What keeps the worker itself running (changes, usage, leases) waits for no
request, and the checks on a request wait for nobody else's query. Source: docs/decisions/0014-fair-shares.md.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psycopg
from django.db import connections
from psycopg_pool import PoolTimeout

from apperate.database.live import LiveAsyncPool
from apperate.database.outage import UNAVAILABLE
from apperate.database.pulse import WORDS, Away, pulse

WAIT_SECONDS_MAX = 1.0
ROWS_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of work: how many connections a worker has for it, and how long a statement may take."""

    name: str
    connections_max: int
    statement_seconds_max: float = 5.0

    @property
    def answer_seconds_max(self) -> float:
        """After this long the database counts as unresponsive: its own time limit plus a margin."""
        return self.statement_seconds_max + (0.5 if self.statement_seconds_max > 1 else 1.75)


BACKGROUND = Kind("background", 3)  # usage, leases, refusals: one for each task that runs beside the requests
CHECKS = Kind("checks", 6)  # who is calling, what they may do, what they have left
QUICK = Kind("quick", 10, statement_seconds_max=0.25)
SLOW = Kind("slow", 2)
KINDS = (BACKGROUND, CHECKS, QUICK, SLOW)


class Pools:
    """The pools of each event loop (a server worker has one loop; tests have one per client)."""

    def __init__(self) -> None:
        self._pools: dict[tuple[asyncio.AbstractEventLoop, Kind], LiveAsyncPool] = {}

    async def get(self, kind: Kind) -> LiveAsyncPool:
        """The open pool of this loop. Raises PoolTimeout when the database does not answer in a second."""
        place = asyncio.get_running_loop(), kind
        if (pool := self._pools.get(place)) is not None:
            return pool
        pool = LiveAsyncPool(
            kwargs=arguments_of(kind), min_size=1, max_size=kind.connections_max, open=False,
            timeout=WAIT_SECONDS_MAX, reconnect_timeout=1.0, max_idle=60.0, name=kind.name,
        )  # fmt: skip
        # Waiting here keeps the pool from growing just because no connection is open yet.
        await pool.open(wait=True, timeout=WAIT_SECONDS_MAX)
        if self._pools.setdefault(place, pool) is not pool:  # Another task was first.
            await pool.close()
        return self._pools[place]

    def stats(self) -> dict[str, dict[str, int]]:
        """psycopg's figures of each pool of this loop, by the name of its kind."""
        loop = asyncio.get_running_loop()
        return {
            kind.name: pool.get_stats() for (its_loop, kind), pool in self._pools.items() if its_loop is loop
        }

    async def open(self) -> None:
        """Open them all now, so that the first requests need not; an unreachable database is tried later."""
        with suppress(*UNAVAILABLE):
            await asyncio.gather(*(self.get(kind) for kind in KINDS))

    async def close(self) -> None:
        loop = asyncio.get_running_loop()
        for place in [place for place in self._pools if place[0] is loop]:
            await self._pools.pop(place).close()


pools = Pools()


def connection_arguments() -> dict[str, Any]:
    """psycopg's arguments for the default database, autocommit and without prepared statements.

    Preparing costs an extra round trip when it happens.
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


def arguments_of(kind: Kind) -> dict[str, Any]:
    """connection_arguments(), with the time limit of this kind's statements."""
    arguments = connection_arguments()
    limit = f"-c statement_timeout={int(kind.statement_seconds_max * 1_000)}"
    return {**arguments, "options": f"{arguments.get('options', '')} {limit}"}


async def fetch_all(
    sql: Any, parameters: Sequence[Any] | dict[str, Any], *, repeat: bool = True, of: Kind = CHECKS
) -> list[tuple[Any, ...]]:
    """All rows of one statement in one round trip. repeat=False for statements that change something.

    Raises PoolTimeout at once while the database hangs, and Away when it stays silent beyond the statement
    timeout or hangs meanwhile: the request is then answered, and the connection given up in the background.
    """
    if pulse.is_away:
        raise PoolTimeout(WORDS)
    task = asyncio.create_task(_fetch_all(sql, parameters, repeat=repeat, of=of))
    # Whatever ends the wait: the answer, the time, or the silence of the database.
    awaited: set[asyncio.Future[Any]] = {task}
    if pulse.cut is not None:
        awaited.add(pulse.cut)
    try:
        await asyncio.wait(awaited, timeout=of.answer_seconds_max, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        _abandon(task)
        raise
    if task.done():
        return task.result()
    _abandon(task)
    raise Away(WORDS if pulse.is_away else f"no answer within {of.answer_seconds_max} s")


def _abandon(task: asyncio.Task[Any]) -> None:
    """Nobody awaits it any more: end it, and let its exception be nobody's."""
    task.add_done_callback(lambda late: late.cancelled() or late.exception())
    task.cancel()


async def _all_rows(cursor: psycopg.AsyncCursor[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """All rows of a result that has arrived; many are read in batches, to let other tasks run in between."""
    rows = await cursor.fetchmany(ROWS_AT_ONCE)
    while cursor.rownumber != cursor.rowcount:
        await asyncio.sleep(0)
        rows += await cursor.fetchmany(ROWS_AT_ONCE)
    return rows


async def _fetch_all(
    sql: Any, parameters: Sequence[Any] | dict[str, Any], *, repeat: bool, of: Kind
) -> list[tuple[Any, ...]]:
    pool = await pools.get(of)
    for last in (not repeat, True):
        try:
            async with pool.connection() as connection:
                cursor = await connection.execute(sql, parameters)
                pulse.heard()
                return await _all_rows(cursor) if cursor.description else []
        except psycopg.errors.QueryCanceled:
            raise  # The statement timeout: repeating it would take as long again.
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            if last or isinstance(error, PoolTimeout):
                raise
    raise AssertionError("unreachable")
