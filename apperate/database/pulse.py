"""Whether the database answers anything at all, seen by a server worker that asks it all the time.

    pulse.start(arguments), pulse.stop()     with the worker; jobs and commands wait without it
    pulse.is_away                            nothing has been answered for SILENT_TICKS
    pulse.cut                                a future that is done as soon as it is away
    watched(connection, gen)                 a wait in a thread, which ends when it is away
    Away                                     what was under way then raises

A server that hangs takes queries and connections and answers none. Its own time limits hang with it, and its
kernel acknowledges every packet, so that those of TCP see nothing. A limit for each statement would cut long
ones while the database is well; silence of everything is a sign that does not.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import psycopg
from django.core.exceptions import ImproperlyConfigured

from apperate.database.outage import UNAVAILABLE, outage

T = TypeVar("T")
BEAT_SECONDS = 0.2
TICK_SECONDS = 0.05
# Ticks, and not seconds, so that a worker that gets no processor itself waits longer for its database.
SILENT_TICKS = 12
# A connection that answers no beat for so long is tried no more, and another is opened.
BEAT_SECONDS_MAX = 5.0
WORDS = "the database has answered nothing for a moment"


class Away(psycopg.OperationalError):
    """A statement was given up, because the database hangs; it may be carried out all the same."""


class Pulse:
    """One per process; `heard` may be called by any thread."""

    def __init__(self) -> None:
        self.is_away = False
        self.cut: asyncio.Future[None] | None = None
        self._has_heard = False
        self._tasks: list[asyncio.Task[None]] = []

    def heard(self) -> None:
        """The database has answered something."""
        self._has_heard = True

    def start(self, arguments: Callable[[], dict[str, Any]]) -> None:
        """Start in this event loop; `arguments` makes psycopg's for a connection."""
        self.is_away = False
        self.cut = asyncio.get_running_loop().create_future()
        self._tasks = [asyncio.create_task(self._beat(arguments)), asyncio.create_task(self._tick())]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks, self.cut, self.is_away = [], None, False

    async def _beat(self, arguments: Callable[[], dict[str, Any]]) -> None:
        while True:
            try:
                connection = await psycopg.AsyncConnection.connect(**arguments())
                async with closing(connection):
                    while True:
                        await _in_time(connection.execute("SELECT 1"))
                        self.heard()
                        await asyncio.sleep(BEAT_SECONDS)
            except (*UNAVAILABLE, ImproperlyConfigured) as error:
                if getattr(error, "sqlstate", None):  # It has answered that it cannot serve this one.
                    self.heard()
                outage.note(error)
            await asyncio.sleep(BEAT_SECONDS)

    async def _tick(self) -> None:
        silent = 0
        while True:
            await asyncio.sleep(TICK_SECONDS)
            if self._has_heard:
                self._has_heard, silent = False, 0
                if self.is_away:
                    self.is_away = False
                    self.cut = asyncio.get_running_loop().create_future()
                continue
            silent += 1
            if silent >= SILENT_TICKS and not self.is_away:
                self.is_away = True
                outage.note(Away(WORDS))
                if self.cut is not None:
                    self.cut.set_result(None)


pulse = Pulse()


@asynccontextmanager
async def closing(connection: "psycopg.AsyncConnection[Any]") -> AsyncIterator[None]:
    """Close it at the end, whatever it is doing; its own context would commit first."""
    try:
        yield
    finally:
        await connection.close()


async def _in_time(asking: Any) -> None:
    """Wait for a beat. Raises Away when it takes too long; the driver then ends it in the background."""
    task = asyncio.ensure_future(asking)
    try:
        done, _ = await asyncio.wait({task}, timeout=BEAT_SECONDS_MAX)
    finally:
        if not task.done():
            task.add_done_callback(lambda late: late.cancelled() or late.exception())
            task.cancel()
    if not done:
        raise Away(WORDS)
    task.result()


def watched(connection: "psycopg.Connection[Any]", gen: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
    """The same conversation with the server, given up when the database is away.

    Zero is sent in when nothing has happened for a moment. Raises Away; the connection is then closed.
    """
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if ready:
                pulse.heard()
            elif pulse.is_away:
                gen.close()
                connection.pgconn.finish()
                raise Away(WORDS)
            wanted = gen.send(ready)
    except StopIteration as end:
        value: T = end.value
        return value
