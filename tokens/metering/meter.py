"""meter(): counts what tokens do, in memory; a background task writes the counts once a second.

A flush carries an id that is stored with it, so repeating one whose answer was lost adds nothing. What a
worker that is killed had not written is found in its journal (recovery.py); a machine that loses its power
loses at most a second's counts. None is ever counted twice.
"""

import asyncio
import logging
import uuid
from collections import Counter
from contextlib import suppress
from datetime import date, datetime, timedelta

from apperate.database import pool
from apperate.database.background import Background
from apperate.database.clock import month_of
from tokens.metering.journal import Slot, Totals, journal
from tokens.models import UsageFlush

FLUSH_SECONDS = 1.0
NOTHING = Totals(0, 0, 0, 0, 0)
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


class Meter:
    """Counts in memory until a flush. One per process, used only from its event loop."""

    def __init__(self) -> None:
        self._totals: dict[Slot, Totals] = {}
        self._unsent: tuple[uuid.UUID, dict[Slot, Totals]] | None = None
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
        old = self._totals.get(slot, NOTHING)
        self._totals[slot] = totals = Totals(
            old.calls + 1, old.records + records, old.credits + credits, old.core_credits + core_credits,
            old.uncharged + (0 if is_charged else core_credits),
        )  # fmt: skip
        journal.count(slot, totals)

    async def flush(self) -> None:
        """Write the counts. A flush whose outcome is unknown is repeated under the same id."""
        if self._unsent is None:
            if not self._totals:
                return
            self._unsent = (uuid.uuid4(), self._totals)
            self._totals = {}
            journal.seal(self._unsent[0])
        await write(*self._unsent)
        self._unsent = None
        journal.confirm()

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


async def write(batch: uuid.UUID, counted: dict[Slot, Totals]) -> None:
    """Add these counts to the database, unless this batch has been added already."""
    uncharged: Counter[tuple[int, date]] = Counter()
    for slot, totals in counted.items():
        if totals.uncharged:
            uncharged[slot.token_id, month_of(slot.minute).date()] += totals.uncharged
    # In a fixed order, so that two workers writing the same rows cannot deadlock.
    slots, spenders = sorted(counted), sorted(uncharged)
    parameters = {
        "batch": batch,
        "tokens": [s.token_id for s in slots],
        "datasets": [s.dataset_id for s in slots],
        "operations": [s.operation for s in slots],
        "outcomes": [s.outcome for s in slots],
        "minutes": [s.minute for s in slots],
        "calls": [counted[s].calls for s in slots],
        "records": [counted[s].records for s in slots],
        "credits": [counted[s].credits for s in slots],
        "core": [counted[s].core_credits for s in slots],
        "spenders": [token_id for token_id, _ in spenders],
        "months": [month for _, month in spenders],
        "uncharged": [uncharged[s] for s in spenders],
    }
    await pool.fetch_all(FLUSH, parameters, repeat=False, of=pool.BACKGROUND)


def purge(*, now: datetime) -> int:
    """Delete the ids of flushes and returned leases that nobody repeats any more; returns how many."""
    count, _ = UsageFlush.objects.filter(flushed_at__lt=now - timedelta(hours=FLUSH_ID_HOURS)).delete()
    return count


meter = Meter()
