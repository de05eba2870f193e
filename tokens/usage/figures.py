"""The data of the Usage page: figures, the bars of its chart, the lines of its tables. No queries.

report.report() builds a Report from the counters.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from django.utils.safestring import SafeString

from apperate.dashboard import bar_chart
from tokens.selectors import Row
from tokens.usage.periods import Span

# What the chart can show → its series: (title, CSS class, name of the figure).
MEASURES = {
    "credits": (
        ("Core data", "s1", "core"),
        ("Premium data", "s2", "premium"),
        ("Your datasets", "s3", "own"),
    ),
    "calls": (("Answered", "s1", "answered"), ("Refused", "s3", "refused")),
    "records": (("Records", "s1", "records"),),
}


@dataclass(frozen=True, slots=True)
class Figures:
    """Sums of counters. `calls` includes refused ones; `credits` all: Core, Premium and own."""

    calls: int = 0
    refused: int = 0
    records: int = 0
    credits: int = 0
    core: int = 0
    premium: int = 0

    @property
    def answered(self) -> int:
        return self.calls - self.refused

    @property
    def own(self) -> int:
        return self.credits - self.core - self.premium

    @property
    def refused_percent(self) -> float:
        return self.refused * 100 / self.calls if self.calls else 0.0


@dataclass(frozen=True, slots=True)
class Bar:
    """One day or month of the span."""

    start: datetime
    label: str
    figures: Figures


@dataclass(frozen=True, slots=True)
class TokenLine:
    row: Row
    figures: Figures
    share: float  # relative to the busiest token, 0 to 100


@dataclass(frozen=True, slots=True)
class DatasetLine:
    name: str  # WORKSPACE/NAME; empty for requests that named none
    own_name: str  # the name, if it is the workspace's own
    reads: int
    writes: int
    deletes: int
    records: int
    credits: int


@dataclass(frozen=True, slots=True)
class RefusalLine:
    code: str
    title: str
    calls: int
    percent: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """Where this month ends if each coming day is like the average of its days so far."""

    credits: int
    a_day: Mapping[str, float]
    limit: int | None = None
    limit_at: datetime | None = None  # when the limit is reached, if that is this month


@dataclass(frozen=True, slots=True)
class Report:
    span: Span
    bars: tuple[Bar, ...]
    total: Figures
    before: Figures
    tokens: tuple[TokenLine, ...]
    datasets: tuple[DatasetLine, ...]
    refusals: tuple[RefusalLine, ...]
    has_demo: bool
    now: datetime
    forecast: Forecast | None = None
    row: Row | None = None  # of the selected token
    tokens_used: int = 0
    datasets_used: int = 0
    shown: str = "credits"

    @property
    def legend(self) -> list[tuple[str, str, int]]:
        return [(title, css, getattr(self.total, name)) for title, css, name in MEASURES[self.shown]]

    @property
    def passed_bars(self) -> list[Bar]:
        """The bars that have begun, newest first."""
        return [bar for bar in reversed(self.bars) if bar.start <= self.now]

    @property
    def chart(self) -> SafeString:
        span, a_day = self.span, self.forecast.a_day.get(self.shown, 0) if self.forecast else 0
        return bar_chart.stacked_bars(
            [span.short(bar.start) for bar in self.bars],
            [
                (title, css, [getattr(bar.figures, name) for bar in self.bars])
                for title, css, name in MEASURES[self.shown]
            ],
            long_labels=[bar.label for bar in self.bars],
            title=f"{self.shown.capitalize()} per {'month' if span.has_months else 'day'}",
            forecast=[round(a_day) if bar.start > self.now else 0 for bar in self.bars],
            majors=[
                span.has_months or len(self.bars) < 10 or place % 5 == 0 for place in range(len(self.bars))
            ],
        )

    def trend(self, name: str) -> int | None:
        """By how many percent a figure grew over the previous span; None when that had nothing."""
        old = getattr(self.before, name)
        return round((getattr(self.total, name) - old) * 100 / old) if old else None

    @property
    def calls_trend(self) -> int | None:
        return self.trend("calls")

    @property
    def credits_trend(self) -> int | None:
        return self.trend("credits")
