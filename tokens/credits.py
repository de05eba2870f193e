"""charge(): takes CORE credits from a token's monthly window, exactly, over all workers.

One guarded UPDATE per charging request of a limited token; the statement refuses what does not fit,
so no interleaving of workers can spend more than the limit. Without a limit spending is only
metered (usage.py adds it to the window). Source: product.md, Credits.
"""

import time
from dataclasses import dataclass
from datetime import date, datetime

from apperate import pool
from apperate.clock import month_of, next_month
from apperate.refusals import Refusal

KNOWN_SECONDS = 1.0
KNOWN_MAX = 10_000

# One row at most; a token without a row has spent nothing. Index: tokens_creditwindow_once.
USED = "SELECT used FROM tokens_creditwindow WHERE token_id = %(token)s AND month = %(month)s"

# One row when the cost fits, none when it does not. Index: tokens_creditwindow_once.
CHARGE = """
INSERT INTO tokens_creditwindow AS w (token_id, month, used)
SELECT %(token)s, %(month)s, %(cost)s WHERE %(cost)s <= %(limit)s
ON CONFLICT (token_id, month) DO UPDATE SET used = w.used + excluded.used
      WHERE w.used + excluded.used <= %(limit)s
RETURNING used
"""


@dataclass(frozen=True, slots=True)
class Charged:
    """Taken. `used` is what the token has spent this month, this request included."""

    used: int


class Spent:
    """What this process last saw a token's window hold. Spending only grows within a month."""

    def __init__(self) -> None:
        self._seen: dict[tuple[int, date], tuple[int, float]] = {}

    def put(self, token_id: int, month: date, used: int) -> None:
        if len(self._seen) >= KNOWN_MAX:
            self._seen.clear()
        self._seen[token_id, month] = (used, time.monotonic())

    def get(self, token_id: int, month: date) -> int | None:
        """The figure if it was seen within the last second."""
        used, at = self._seen.get((token_id, month), (0, float("-inf")))
        return used if time.monotonic() - at < KNOWN_SECONDS else None

    def clear(self) -> None:
        self._seen.clear()


spent = Spent()


async def used_this_month(token_id: int, *, now: datetime) -> int:
    """What the token has spent on CORE this UTC month; at most a second old. At most one query."""
    month = month_of(now).date()
    if (known := spent.get(token_id, month)) is not None:
        return known
    rows = await pool.fetch_all(USED, {"token": token_id, "month": month})
    used: int = rows[0][0] if rows else 0
    spent.put(token_id, month, used)
    return used


async def charge(token_id: int, cost: int, *, limit: int, now: datetime) -> Charged | Refusal:
    """Take `cost` credits if all of them fit under `limit`, else refuse and take none."""
    month = month_of(now).date()
    parameters = {"token": token_id, "month": month, "cost": cost, "limit": limit}
    rows = await pool.fetch_all(CHARGE, parameters, repeat=False)
    if not rows:
        return exhausted(limit=limit, used=await used_this_month(token_id, now=now), cost=cost, now=now)
    spent.put(token_id, month, rows[0][0])
    return Charged(rows[0][0])


def exhausted(*, limit: int, used: int, cost: int | None, now: datetime) -> Refusal:
    """The 402: what the limit is, what is left of it, and when it starts anew."""
    left = max(0, limit - used)
    resets_at = next_month(now)
    wanted = "" if cost is None else f" This answer costs {cost:,}."
    return Refusal(
        "credits-exhausted",
        f"The token's Core credit usage limit is {limit:,} a month; {left:,} are left.{wanted} "
        f"It starts anew at {resets_at:%Y-%m-%d %H:%M} UTC.",
        check="credits",
        received=None if cost is None else f"{cost:,} credits",
        needed=f"at most {left:,} credits, or a higher limit on the token's form",
        retry_after_seconds=int((resets_at - now).total_seconds()) + 1,
    )
