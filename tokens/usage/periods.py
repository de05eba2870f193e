"""The time spans that the Usage page offers, cut into UTC days or months. No queries.

span_of("month", now=…) -> Span
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from apperate.database.clock import month_of, next_month

DAY = timedelta(days=1)
PERIODS = {"7d": "7 days", "30d": "30 days", "month": "This month", "12m": "12 months"}
MONTH = "month"  # The span whose end is known, so that a forecast is possible.


@dataclass(frozen=True, slots=True)
class Span:
    """`starts` of the days or months, which may include future ones; the span ends before `end`.

    It is compared with a span as long as its elapsed part: `before` to before `before_end`.
    """

    period: str
    starts: tuple[datetime, ...]
    end: datetime
    before: datetime
    before_end: datetime

    @property
    def start(self) -> datetime:
        return self.starts[0]

    @property
    def has_months(self) -> bool:
        return self.period == "12m"

    @property
    def title(self) -> str:
        return PERIODS[self.period]

    def short(self, at: datetime) -> str:
        """A start's label on the axis."""
        return f"{at:%b}" if self.has_months else f"{at.day}"

    def long(self, at: datetime) -> str:
        return f"{at:%B %Y}" if self.has_months else f"{at.day} {at:%B %Y}"


def span_of(period: str, *, now: datetime) -> Span:
    """The span of a period from PERIODS that contains `now`."""
    now = now.astimezone(UTC)
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    this_month = month_of(now)
    if period == MONTH:
        days = (next_month(now) - this_month) // DAY
        starts = tuple(this_month + number * DAY for number in range(days))
        before = month_of(this_month - DAY)
        return Span(period, starts, next_month(now), before, min(before + (now - this_month), this_month))
    if period == "12m":
        first = this_month.replace(year=this_month.year - 1)
        starts = tuple(_months_on(first, number) for number in range(1, 13))
        before = starts[0].replace(year=starts[0].year - 1)
        return Span(period, starts, next_month(now), before, before + (now - starts[0]))
    length = 7 if period == "7d" else 30
    starts = tuple(today - number * DAY for number in range(length - 1, -1, -1))
    before = starts[0] - length * DAY
    return Span(period, starts, today + DAY, before, before + (now - starts[0]))


def _months_on(month: datetime, count: int) -> datetime:
    for _ in range(count):
        month = next_month(month)
    return month
