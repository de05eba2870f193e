"""Leases: credits a worker has already taken from a token's monthly window, to spend from memory.

    await leases.take(token_id, month, cost, limit=…)   → Taken, or None when it does not fit
    leases.give_back(token_id, month, cost)             a charge whose answer was never sent

A lease is committed before it is spent, so neither crashes nor races between workers can exceed a limit. It
holds at most 1/64 of what is left, about a second of the token's use, unless the request at hand costs more.
Leftovers go back after a second. Those of a worker that was killed are found in its journal (recovery.py).
Source: docs/decisions/0005-credits.md.
"""

import asyncio
import logging
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from math import ceil
from typing import Any

from apperate.database import pool
from apperate.database.background import Background
from tokens.metering.journal import journal

SHARE = 64  # a lease is at most this fraction of what is left
AHEAD = 20  # and pays for at least this many requests like the current one, if that fraction allows
LEASE_SECONDS = 1.0
TICK_SECONDS = 0.25
logger = logging.getLogger("apperate.credits")

# One row when `need` fits, none when it does not. `last_lease` says how much this statement took.
# Index: tokens_creditwindow_once.
TAKEN = "greatest(%(need)s, least(%(wanted)s, (%(limit)s - {used}) / %(share)s))"
DRAW = f"""
INSERT INTO tokens_creditwindow AS w (token_id, month, used, last_lease)
SELECT %(token)s, %(month)s, t.taken, t.taken
  FROM (SELECT {TAKEN.format(used="0")} AS taken) t WHERE %(need)s <= %(limit)s
ON CONFLICT (token_id, month) DO UPDATE
      SET used = w.used + {TAKEN.format(used="w.used")}, last_lease = {TAKEN.format(used="w.used")}
      WHERE w.used + %(need)s <= %(limit)s
RETURNING used, last_lease
"""  # noqa: S608  the pieces are constants of this module

# No row back. The id makes a retry harmless when the answer to the first was lost. Rows are locked in a
# fixed order, so that workers cannot deadlock. Index: tokens_creditwindow_once.
RETURN = """
WITH batch AS (
    INSERT INTO tokens_usageflush (id, flushed_at) VALUES (%(batch)s, now())
    ON CONFLICT DO NOTHING RETURNING id
), unspent AS (
    SELECT w.id, u.credits
      FROM unnest(%(tokens)s::bigint[], %(months)s::date[], %(credits)s::bigint[])
           AS u(token_id, month, credits)
      JOIN tokens_creditwindow w ON w.token_id = u.token_id AND w.month = u.month
     WHERE EXISTS (SELECT FROM batch) ORDER BY w.token_id, w.month FOR UPDATE OF w
)
UPDATE tokens_creditwindow w SET used = greatest(0, w.used - u.credits) FROM unspent u WHERE w.id = u.id
"""

Key = tuple[int, date]  # token and month


@dataclass(frozen=True, slots=True)
class Taken:
    """The charge succeeded. `used` is the row's total at the last draw, less what is still held here."""

    used: int


@dataclass(slots=True)
class Lease:
    """This worker's credits of one token's month."""

    held: int = 0
    used: int = 0  # the row's total at the last draw
    limit: int = 0  # the limit of that draw
    drawn_at: float = 0.0
    spent: int = 0  # since then
    callers: int = 0  # waiting for a draw
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def wanted(self, cost: int, at: float) -> int:
        """About a second of the token's use, estimated since the last draw."""
        return max(AHEAD * cost, ceil(self.spent / max(at - self.drawn_at, 0.05)))

    def spend(self, cost: int) -> Taken:
        self.held -= cost
        self.spent += cost
        return Taken(self.used - self.held)


class Leases:
    """All leases of this process, used only from its event loop."""

    def __init__(self) -> None:
        self._leases: dict[Key, Lease] = {}
        self._unsent: list[tuple[uuid.UUID, dict[str, Any]]] = []
        self._work = Background(
            "leases", lambda: self.tidy(at=time.monotonic()), every_seconds=TICK_SECONDS, logger=logger,
            fault="giving credits back failed; trying again",
        )  # fmt: skip

    def held(self, token_id: int, month: date, *, limit: int) -> int:
        """What can be spent under this limit without a query."""
        lease = self._leases.get((token_id, month))
        return lease.held if lease and limit >= lease.limit else 0

    def totals(self) -> tuple[int, int]:
        """How many leases hold something, and how much all of them hold."""
        held = [lease.held for lease in self._leases.values() if lease.held]
        return len(held), sum(held)

    async def take(self, token_id: int, month: date, cost: int, *, limit: int) -> Taken | None:
        """Take all of `cost`; None, and nothing taken, if it does not fit. At most one draw."""
        lease = self._leases.setdefault((token_id, month), Lease())
        if lease.held >= cost and limit >= lease.limit:
            return self._spend((token_id, month), lease, cost)
        lease.callers += 1
        try:
            async with lease.turn:
                if limit < lease.limit:  # Credits drawn under a since lowered limit are not spent.
                    await self._return({(token_id, month): lease})
                    lease.limit = limit
                if lease.held < cost and not await self._draw((token_id, month), lease, cost, limit):
                    return None
                return self._spend((token_id, month), lease, cost)
        finally:
            lease.callers -= 1

    def _spend(self, key: Key, lease: Lease, cost: int) -> Taken:
        taken = lease.spend(cost)
        journal.hold(*key, lease.held)
        return taken

    async def _draw(self, key: Key, lease: Lease, cost: int, limit: int) -> bool:
        """Draw what `cost` is short of, and some in advance. False when the row has too little left."""
        at = time.monotonic()
        part, lease.held = lease.held, 0  # Nobody may spend it while this waits for the rest.
        parameters = {
            "token": key[0], "month": key[1], "need": cost - part, "limit": limit, "share": SHARE,
            "wanted": lease.wanted(cost, at) if self._work.is_started else 0,
        }  # fmt: skip
        try:
            # A retry after a lost answer may charge a lease that nobody holds; it can never spend one twice.
            rows = await pool.fetch_all(DRAW, parameters)
        finally:
            lease.held += part
        if not rows:
            return False
        lease.used, taken = rows[0]
        lease.held += taken
        journal.hold(*key, lease.held)
        lease.limit, lease.drawn_at, lease.spent = limit, at, 0
        return True

    def give_back(self, token_id: int, month: date, cost: int) -> None:
        """Hold again the cost of an answer that could not be sent."""
        # A lease that was not drawn can be spent under no limit: it only goes back.
        lease = self._leases.setdefault((token_id, month), Lease(limit=2**63))
        lease.held += cost
        journal.hold(token_id, month, lease.held)

    async def tidy(self, *, at: float) -> None:
        """Return what is left of leases a second old; forget those that went unused."""
        old = {
            key: lease
            for key, lease in self._leases.items()
            if at - lease.drawn_at >= LEASE_SECONDS and not lease.callers
        }
        for key, lease in old.items():
            if not lease.spent or at - lease.drawn_at >= 2 * LEASE_SECONDS:
                del self._leases[key]
        await self._return(old)

    async def _return(self, leases: dict[Key, Lease]) -> None:
        """Return everything these leases hold. None of it can be spent from here on."""
        unspent = {key: lease for key, lease in leases.items() if lease.held}
        for key in unspent:  # Whoever is killed from here on has given them back or lost them, never both.
            journal.hold(*key, 0)
        if unspent:
            self._unsent.append((uuid.uuid4(), returned({key: lease.held for key, lease in unspent.items()})))
        for lease in unspent.values():
            lease.used -= lease.held
            lease.held = 0
        while self._unsent:  # What the database does not confirm is resent under the same id.
            batch, parameters = self._unsent[0]
            await give_back(batch, parameters)
            self._unsent = [unsent for unsent in self._unsent if unsent[0] != batch]

    async def ensure_started(self) -> None:
        """Start returning leases in this event loop."""
        if not self._work.is_running():
            self.forget()
            self._work.start()

    async def stop(self) -> None:
        """Return everything; what the database does not accept within 3 s stays charged."""
        await self._work.stop()
        with suppress(Exception):
            async with asyncio.timeout(3):
                await self._return(self._leases)
        self.forget()

    def forget(self) -> None:
        """Drop all leases, as at the start of the process: they stay charged."""
        self._leases.clear()
        self._unsent.clear()


def returned(held: dict[Key, int]) -> dict[str, Any]:
    """The parameters that give these credits back."""
    return {
        "tokens": [token_id for token_id, _ in held],
        "months": [month for _, month in held],
        "credits": list(held.values()),
    }


async def give_back(batch: uuid.UUID, parameters: dict[str, Any]) -> None:
    """Take these credits off what is charged, unless this batch has been given back already."""
    await pool.fetch_all(RETURN, {"batch": batch, **parameters}, of=pool.BACKGROUND)


leases = Leases()
