"""A worker's own session in the database: on it the worker polls, is woken, and says how far it has looked.

    await follower.fetch(statement, parameters)   one row, from the session; a lost one is opened again, once
    await follower.confirm(tick)                  what was committed before this tick has been taken over
    await follower.wait(seconds)                  until a change is announced, or that long

What it has confirmed is the number of a shared advisory lock, which ends with the session: propagation.py.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg
from psycopg import sql

from apperate.database import pool
from apperate.database.propagation import CHANNEL, LOCKS, TICK

# Who begins to follow has seen nothing yet, and is waited for from here on.
BEGIN = f"SELECT pg_advisory_lock_shared({LOCKS}, {TICK}), {TICK}"
CONFIRM = f"SELECT pg_advisory_lock_shared({LOCKS}, %s), pg_advisory_unlock_shared({LOCKS}, %s)"


class Follower:
    """One session, opened when it is first used. `changed` is called when it begins and when it ends."""

    def __init__(self, *, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._told = asyncio.Event()
        self._confirmed = 0

    @property
    def is_following(self) -> bool:
        """False from the moment the session is known to be lost until there is another."""
        return self._connection is not None

    async def fetch(self, statement: sql.Composed, parameters: dict[str, Any]) -> tuple[Any, ...]:
        for last in (False, True):
            try:
                connection = await self._session()
                cursor = await connection.execute(statement, parameters)
                (row,) = await cursor.fetchall()
                return row
            except psycopg.errors.QueryCanceled:
                self.end()
                raise
            except (psycopg.OperationalError, psycopg.InterfaceError):
                self.end()
                if last:
                    raise
            except BaseException:  # Cancelled in between: what the session waits for is unknown.
                self.end()
                raise
        raise AssertionError("unreachable")

    async def confirm(self, tick: int) -> None:
        """Take the lock with the new number, then let the old one go."""
        connection = self._connection
        if connection is None or tick == self._confirmed:
            return
        try:
            await connection.execute(CONFIRM, [tick, self._confirmed])
        except BaseException:
            self.end()
            raise
        self._confirmed = tick

    async def wait(self, seconds: float) -> None:
        connection = self._connection
        if connection is None or self._loop is not asyncio.get_running_loop():
            await asyncio.sleep(seconds)
            return
        place = connection.fileno()
        self._loop.add_reader(place, self._told.set)
        try:
            async with asyncio.timeout(seconds):
                await self._told.wait()
        except TimeoutError:
            return
        finally:
            if self._connection is connection:
                self._loop.remove_reader(place)
        self._told.clear()
        if self._connection is connection:
            self._hear(connection)

    def _hear(self, connection: "psycopg.AsyncConnection[Any]") -> None:
        """Read what has arrived: announcements, or that the session has ended."""
        try:
            connection.pgconn.consume_input()
            while connection.pgconn.notifies():
                pass
        except psycopg.Error:
            self.end()

    async def _session(self) -> "psycopg.AsyncConnection[Any]":
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self.end()
            self._loop, self._told = loop, asyncio.Event()
        if self._connection is None:
            connection = await psycopg.AsyncConnection.connect(**pool.arguments_of(pool.BACKGROUND))
            try:
                connection.add_notify_handler(lambda _: self._told.set())
                await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(CHANNEL)))
                cursor = await connection.execute(sql.SQL(BEGIN))
                (_, self._confirmed) = await cursor.fetchone() or (None, 0)
            except BaseException:
                connection.pgconn.finish()
                raise
            self._connection = connection
            self._changed()
        return self._connection

    def end(self) -> None:
        """Close the session, and with it let its lock go."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        # The descriptor may be reused as soon as it is closed, so nobody may still watch it.
        if self._loop is not None and not self._loop.is_closed():
            with suppress(psycopg.Error):
                self._loop.remove_reader(connection.fileno())
        connection.pgconn.finish()
        self._changed()
