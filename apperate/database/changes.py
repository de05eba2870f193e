"""What changed in the database, and what time it is there: one poll per worker, every half second.

Caches on the hot path register a table and receive the ids of its changed rows. A row carries the
transaction that last wrote it (`changed_xid`, set by a trigger). A poll asks for rows written by
transactions at or after the oldest one that was still running at the previous poll, so a change
whose transaction commits late is never missed. After each poll the worker says how far it has looked, and
an announced change makes it look at once (propagation.py).
Source: docs/decisions/0004-how-workers-learn-of-changes.md, docs/decisions/0026-taken-over.md.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

from psycopg import sql

from apperate.database.background import Background
from apperate.database.follower import Follower
from apperate.database.outage import UNAVAILABLE, outage
from apperate.database.propagation import TICK

POLL_SECONDS = 0.5
STALE_SECONDS_MAX = 5.0
logger = logging.getLogger("apperate.database.changes")


class Stale(Exception):
    """The database has been silent for too long: cached data must not be trusted."""


class Changes:
    """Polls for changes and keeps the database's clock. One per process."""

    def __init__(self) -> None:
        self._listeners: dict[str, Callable[[Iterable[int]], None]] = {}
        self._clears: list[Callable[[], None]] = []
        self._xmin: int | None = None
        self._clock: tuple[datetime, float] | None = None  # (database time, monotonic seconds then)
        self._asked = 0.0  # monotonic seconds when the last poll that was answered began
        self._polls = 0
        self._follower = Follower(changed=self._clear)
        # Requests are refused once the clock is stale.
        self._work = Background(
            "changes", self._poll_in_time, every_seconds=POLL_SECONDS, pause=self._follower.wait,
            fault="asking the database for changes failed; still trying", logger=logger,
        )  # fmt: skip

    def listen(self, table: str, evict: Callable[[Iterable[int]], None], clear: Callable[[], None]) -> None:
        """Call evict(ids) when rows of `table` changed, and clear() when anything may have."""
        self._listeners[table] = evict
        self._clears.append(clear)

    @property
    def generation(self) -> object:
        """The same before and after a load if no poll ended meanwhile: only then may a cache keep it.

        While the session of the polls is lost it equals nothing: nobody who changes something waits for a
        worker without one.
        """
        return self._polls if self._follower.is_following else object()

    def now(self) -> datetime:
        """The database's time, never ahead of it. Raises Stale when what is known may be over 5 s old."""
        if self._clock is None:
            raise Stale
        now = time.monotonic()
        # The answer may have been long on its way: what it tells is as old as the question.
        if now - self._asked > STALE_SECONDS_MAX:
            raise Stale
        at, heard = self._clock
        return at + timedelta(seconds=now - heard)

    def silent_seconds(self, *, at: float) -> float:
        """How long ago the database was last heard, at that monotonic second; a day when it never was."""
        return 86_400.0 if self._clock is None else max(0.0, at - self._clock[1])

    async def poll(self) -> None:
        """Poll once. A cache entry loaded while this ran must not be stored: see `generation`."""
        first = self._xmin is None
        columns = [
            sql.SQL("(SELECT coalesce(array_agg(id), '{{}}') FROM {} WHERE changed_xid >= %(xmin)s)").format(
                sql.Identifier(table)
            )
            for table in self._listeners
        ]
        statement = sql.SQL(", ").join(
            [
                sql.SQL("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint, clock_timestamp()"),
                sql.SQL(TICK),
                *columns,
            ]
        )
        asked = time.monotonic()
        # The first poll has nothing to compare with: an id above all others fetches the clock alone.
        row = await self._follower.fetch(statement, {"xmin": 2**62 if first else self._xmin})
        xmin, at, tick, *changed = row
        # Another cluster answers now, or the clock was set back: what had taken effect, and only caches still
        # remember as such, is pending again.
        if (self._xmin is not None and xmin < self._xmin) or (self._clock and at < self._clock[0]):
            self._clear()
        for evict, ids in zip(self._listeners.values(), changed, strict=True):
            if ids:
                evict(ids)
        self._xmin = xmin
        self._clock, self._asked = (at.astimezone(UTC), time.monotonic()), asked
        self._polls += 1
        await self._follower.confirm(tick)
        outage.over()

    async def ensure_started(self) -> None:
        """Start polling in this event loop unless it already runs; with a clock if the database answers."""
        if not self._work.is_running():
            self.forget()
            try:
                await self._poll_in_time()
            except (TimeoutError, *UNAVAILABLE) as error:  # Requests are refused until a poll succeeds.
                outage.note(error)
            except Exception:
                logger.exception("the database cannot be asked yet; still trying")
            self._work.start()

    async def stop(self) -> None:
        await self._work.stop()
        self.forget()

    def forget(self) -> None:
        """Drop the caches and the clock, as at the start of the process."""
        self._xmin = self._clock = None
        self._follower.end()
        self._clear()

    def _clear(self) -> None:
        self._polls += 1
        for clear in self._clears:
            clear()

    async def _poll_in_time(self) -> None:
        try:
            async with asyncio.timeout(STALE_SECONDS_MAX):
                await self.poll()
        except TimeoutError as error:
            outage.note(error)


changes = Changes()
