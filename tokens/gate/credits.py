"""charge(): takes CORE credits from a token's monthly window, exactly, across all workers.

A request is paid from the lease this worker holds (leases.py), in full or not at all. Without a limit,
spending is only metered (meter.py adds it to the window). Source: docs/decisions/0005-credits.md.
"""

import time
from dataclasses import dataclass
from datetime import date, datetime

from apperate.database import pool
from apperate.database.clock import month_of, next_month
from apperate.kernel.refusals import Refusal
from tokens.gate.leases import leases

KNOWN_SECONDS = 1.0
KNOWN_MAX = 10_000

# One row at most; a token without a row has spent nothing. Index: tokens_creditwindow_once.
USED = "SELECT used FROM tokens_creditwindow WHERE token_id = %(token)s AND month = %(month)s"


@dataclass(frozen=True, slots=True)
class Charged:
    """The charge succeeded. `used` is what the token has spent this month, this request included."""

    used: int


@dataclass(frozen=True, slots=True)
class Seen:
    """A window's total when this process last saw it, without this process's own lease."""

    used: int
    at: float

    @property
    def is_fresh(self) -> bool:
        return time.monotonic() - self.at < KNOWN_SECONDS


class Spent:
    """The last seen state of each window in this process."""

    def __init__(self) -> None:
        self._seen: dict[tuple[int, date], Seen] = {}

    def put(self, token_id: int, month: date, used: int) -> None:
        if len(self._seen) >= KNOWN_MAX:
            self._seen.clear()
        self._seen[token_id, month] = Seen(used, time.monotonic())

    def get(self, token_id: int, month: date) -> Seen | None:
        return self._seen.get((token_id, month))

    def clear(self) -> None:
        self._seen.clear()


spent = Spent()


async def used_this_month(token_id: int, *, limit: int, now: datetime) -> int:
    """The token's CORE spending this UTC month; at most a second old. At most one query."""
    month = month_of(now).date()
    if (seen := spent.get(token_id, month)) is not None and seen.is_fresh:
        return seen.used
    return await _seen_now(token_id, month, limit)


async def _seen_now(token_id: int, month: date, limit: int) -> int:
    rows = await pool.fetch_all(USED, {"token": token_id, "month": month})
    used: int = max(0, (rows[0][0] if rows else 0) - leases.held(token_id, month, limit=limit))
    spent.put(token_id, month, used)
    return used


async def check_balance(token_id: int, *, limit: int, now: datetime) -> Refusal | None:
    """The refusal of a token that has nothing left, before its query runs.

    At most one query, and none while the token was last seen with something left: charge() alone decides
    what an answer may cost.
    """
    month = month_of(now).date()
    if leases.held(token_id, month, limit=limit):
        return None
    seen = spent.get(token_id, month)
    if seen is not None and seen.used < limit:
        return None
    used = await used_this_month(token_id, limit=limit, now=now)
    return refusal_of(used, limit=limit, now=now)


def refusal_of(used: int, *, limit: int, now: datetime) -> Refusal | None:
    """The refusal of a token that has spent its whole limit this month."""
    return exhausted(limit=limit, used=used, cost=None, now=now) if used >= limit else None


async def charge(
    token_id: int, cost: int, *, limit: int, now: datetime, is_most: bool = False
) -> Charged | Refusal:
    """Take `cost` credits if all of them fit under `limit`, else refuse and take none.

    is_most=True: the request may turn out cheaper, and the refusal says so.
    """
    month = month_of(now).date()
    taken = await leases.take(token_id, month, cost, limit=limit)
    if taken is None:
        used = await _seen_now(token_id, month, limit)
        return exhausted(limit=limit, used=used, cost=cost, now=now, is_most=is_most)
    spent.put(token_id, month, taken.used)
    return Charged(taken.used)


def give_back(token_id: int, cost: int, *, now: datetime) -> None:
    """Undo a charge, or the excess part of one, or one whose answer could not be sent."""
    month = month_of(now).date()
    leases.give_back(token_id, month, cost)
    if (seen := spent.get(token_id, month)) is not None:
        spent.put(token_id, month, seen.used - cost)


def exhausted(*, limit: int, used: int, cost: int | None, now: datetime, is_most: bool = False) -> Refusal:
    """The 402: the limit, what is left of it, and when it resets."""
    left = max(0, limit - used)
    resets_at = next_month(now)
    wanted = "" if cost is None else f" This answer costs {cost:,}."
    if is_most:
        wanted = f" A question about values is asked when all it may cost is left; this may cost {cost:,}."
    return Refusal(
        "credits-exhausted",
        f"The token's Core credit usage limit is {limit:,} a month; {left:,} are left.{wanted} "
        f"It starts anew at {resets_at:%Y-%m-%d %H:%M} UTC.",
        check="credits",
        received=None if cost is None else f"{'up to ' if is_most else ''}{cost:,} credits",
        needed=f"at most {left:,} credits, {'asked with limit=, ' if is_most else ''}"
        "or a higher limit on the token's form",
        retry_after_seconds=int((resets_at - now).total_seconds()) + 1,
    )
