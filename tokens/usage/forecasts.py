"""Where a month ends if each coming day is like the average of its days so far. No queries.

pace(1_000, now=…) -> credits a day, or None
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from apperate.database.clock import month_of, next_month
from tokens.usage.periods import DAY

HOURS_MIN = 1


@dataclass(frozen=True, slots=True)
class Outlook:
    """Credits of the whole month, and when the limit is reached, if that is this month."""

    credits: int
    limit_at: datetime | None


def pace(used: int, *, now: datetime) -> float | None:
    """Credits used per day this month so far; None in its first hour, which is too short to tell."""
    elapsed = now - month_of(now)
    return used / (elapsed / DAY) if elapsed >= timedelta(hours=HOURS_MIN) else None


def limit_met_at(used: int, limit: int | None, a_day: float | None, *, now: datetime) -> datetime | None:
    """When the limit is reached at this pace; None when it already is, or not before the month ends."""
    if limit is None or used >= limit or not a_day:
        return None
    days = (limit - used) / a_day
    return now + days * DAY if days < (next_month(now) - now) / DAY else None


def outlook(used: int, limit: int | None, *, now: datetime) -> Outlook | None:
    """None when nothing was used, or the month is too young."""
    a_day = pace(used, now=now)
    if not a_day:
        return None
    whole = (next_month(now) - month_of(now)) / DAY
    return Outlook(round(a_day * whole), limit_met_at(used, limit, a_day, now=now))
