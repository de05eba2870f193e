"""meter(): counts what tokens do, in memory; a background task writes the counts once a second.

A flush carries an id that is stored with it, so repeating one whose answer was lost adds nothing.
A crash loses at most a second's counts; none is ever counted twice.
"""

import asyncio
import logging
import uuid
from collections import Counter
from contextlib import suppress
from datetime import datetime, timedelta
from typing import NamedTuple

from apperate.database import pool
from apperate.database.background import Background
from apperate.database.clock import month_of
from tokens.models import UsageFlush

FLUSH_SECONDS = 1.0
FLUSH_ID_HOURS = 24  # A worker repeats a flush within seconds, or as soon as the database is back.
logger = logging.getLogger("apperate.usage")

# No row back. `uncharged` are CORE credits of tokens without a limit: they join the window, so that a
# limit set later in the month counts them. Indexes: tokens_usage_once, tokens_creditwindow_once.
FLUSH = """
WITH batch AS (
    INSERT INTO tokens_usageflush (id, flushed_at) VALUES (%(batch)s, now())
    ON CONFLICT DO NOTHING RETURNING id
), counted AS (
    INSERT INTO tokens_usagecounter AS u
           (token_id, dataset_id, operation, outcome, minute, calls, records, credits, core_credits, is_demo)
    SELECT c.*, false FROM unnest(
        %(tokens)s::bigint[], %(datasets)s::bigint[], %(operations)s::text[], %(outcomes)s::text[],
        %(minutes)s::timestamptz[], %(calls)s::bigint[], %(records)s::bigint[], %(credits)s::bigint[],
        %(core)s::bigint[]) AS c(t, d, o, r, m, n, records, credits, core)
     WHERE EXISTS (SELECT FROM batch)
    ON CONFLICT (token_id, minute, dataset_id, operation, outcome) DO UPDATE
       SET calls = u.calls + excluded.calls, records = u.records + excluded.records,
           credits = u.credits + excluded.credits, core_credits = u.core_credits + excluded.core_credits
)
INSERT INTO tokens_creditwindow AS w (token_id, month, used)
SELECT s.* FROM unnest(%(spenders)s::bigint[], %(months)s::date[], %(uncharged)s::bigint[])
       AS s(token_id, month, used)
 WHERE EXISTS (SELECT FROM batch) AND EXISTS (SELECT FROM tokens_token t WHERE t.id = s.token_id)
ON CONFLICT (token_id, month) DO UPDATE SET used = w.used + excluded.used
"""


class Slot(NamedTuple):
    """Calls with the same slot are counted together."""

    token_id: int
    dataset_id: int
    operation: str
    outcome: str
    minute: datetime


class Meter:
    """Counts in memory until a flush. One per process, used only from its event loop."""

    def __init__(self) -> None:
        self._calls: Counter[Slot] = Counter()
        self._records: Counter[Slot] = Counter()
        self._credits: Counter[Slot] = Counter()
        self._core: Counter[Slot] = Counter()
        self._uncharged: Counter[tuple[int, datetime]] = Counter()
        self._unsent: tuple[uuid.UUID, dict[str, object]] | None = None
        self._work = Background(
            "usage", self.flush, every_seconds=FLUSH_SECONDS, logger=logger, logs_each=True,
            fault="writing usage failed; trying again",
        )  # fmt: skip

    def meter(
        self, token_id: int, *, dataset_id: int = 0, operation: str, outcome: str, now: datetime,
        records: int = 0, credits: int = 0, core_credits: int = 0, is_charged: bool = False,
    ) -> None:  # fmt: skip
        """Count one call. `core_credits` not yet charged join the month's window at the next flush."""
        slot = Slot(token_id, dataset_id, operation, outcome, now.replace(second=0, microsecond=0))
        self._calls[slot] += 1
        self._records[slot] += records
        self._credits[slot] += credits
        self._core[slot] += core_credits
        if core_credits and not is_charged:
            self._uncharged[token_id, month_of(now)] += core_credits

    async def flush(self) -> None:
        """Write the counts. A flush whose outcome is unknown is repeated under the same id."""
        if self._unsent is None:
            if not self._calls:
                return
            self._unsent = (uuid.uuid4(), self._take())
        batch, parameters = self._unsent
        await pool.fetch_all(FLUSH, {"batch": batch, **parameters}, repeat=False, of=pool.BACKGROUND)
        self._unsent = None

    def _take(self) -> dict[str, object]:
        # In a fixed order, so that two workers writing the same rows cannot deadlock.
        slots, spenders = sorted(self._calls), sorted(self._uncharged)
        taken: dict[str, object] = {
            "tokens": [s.token_id for s in slots],
            "datasets": [s.dataset_id for s in slots],
            "operations": [s.operation for s in slots],
            "outcomes": [s.outcome for s in slots],
            "minutes": [s.minute for s in slots],
            "calls": [self._calls[s] for s in slots],
            "records": [self._records[s] for s in slots],
            "credits": [self._credits[s] for s in slots],
            "core": [self._core[s] for s in slots],
            "spenders": [token_id for token_id, _ in spenders],
            "months": [month.date() for _, month in spenders],
            "uncharged": [self._uncharged[s] for s in spenders],
        }
        for counter in (self._calls, self._records, self._credits, self._core, self._uncharged):
            counter.clear()
        return taken

    async def ensure_started(self) -> None:
        """Start flushing every second in this event loop."""
        if not self._work.is_running():
            self._work.start()

    async def stop(self) -> None:
        """Stop the task and write the rest; what cannot be written within 3 s is lost."""
        await self._work.stop()
        with suppress(Exception):
            async with asyncio.timeout(3):
                await self.flush()
                await self.flush()


def purge(*, now: datetime) -> int:
    """Delete the ids of flushes and returned leases that nobody repeats any more; returns how many."""
    count, _ = UsageFlush.objects.filter(flushed_at__lt=now - timedelta(hours=FLUSH_ID_HOURS)).delete()
    return count


meter = Meter()
