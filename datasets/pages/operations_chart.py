"""A dataset's use: successful operations by month and by token, as figures and as bars.

operations_of(dataset, now=…) -> Operations | None      None: they could not be counted in time
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from django.db import OperationalError, transaction
from django.db.models import Q, Sum
from django.db.models.functions import TruncMonth
from django.utils.safestring import SafeString

from apperate.dashboard import bar_chart
from apperate.database.clock import month_of
from apperate.kernel.ranges import add_months
from datasets.models import Dataset
from datasets.storage import writes
from tokens.models import Token, UsageCounter
from tokens.rules.permissions import Action

MONTHS = 6
TOKENS_SHOWN = 10
SERIES = ((Action.READ, "Reads", "s1"), (Action.WRITE, "Writes", "s2"), (Action.DELETE, "Deletes", "s3"))


@dataclass(frozen=True, slots=True)
class Month:
    """The operations of one calendar month, UTC."""

    begins_at: datetime
    reads: int
    writes: int
    deletes: int
    records: int

    @property
    def total(self) -> int:
        return self.reads + self.writes + self.deletes


@dataclass(frozen=True, slots=True)
class TokenRow:
    """What one token did this month. `token` is None for another workspace's, or one that is gone."""

    token: Token | None
    calls: int
    records: int
    credits: int


@dataclass(frozen=True, slots=True)
class Operations:
    """The months, oldest first, and this month's tokens, busiest first. `with_demo`: some are made up."""

    months: tuple[Month, ...]
    tokens: tuple[TokenRow, ...]
    with_demo: bool

    @property
    def legend(self) -> list[tuple[str, str]]:
        return [(title, css_class) for _, title, css_class in SERIES]

    @property
    def total(self) -> int:
        return sum(month.total for month in self.months)

    @property
    def chart(self) -> SafeString:
        values = (
            [month.reads for month in self.months],
            [month.writes for month in self.months],
            [month.deletes for month in self.months],
        )
        return bar_chart.stacked_bars(
            [f"{month.begins_at:%b}" for month in self.months],
            [(title, css, found) for (_, title, css), found in zip(SERIES, values, strict=True)],
            long_labels=[f"{month.begins_at:%B %Y}" for month in self.months],
            title="Operations per month",
        )


def operations_of(dataset: Dataset, *, now: datetime) -> Operations | None:
    try:
        with transaction.atomic():
            writes.limit_statement(milliseconds=writes.COUNTING_MILLISECONDS)
            return _counted(dataset, now)
    except OperationalError:
        return None


def _counted(dataset: Dataset, now: datetime) -> Operations:
    begins = months_until(now)
    used = UsageCounter.objects.filter(dataset_id=dataset.pk, outcome="ok")
    # At most MONTHS × operations rows; index: tokens_usage_by_minute.
    lines = list(
        used.filter(minute__gte=begins[0])
        .annotate(month=TruncMonth("minute", tzinfo=UTC))
        .values("month", "operation")
        .annotate(n=Sum("calls"), sent=Sum("records"), demo=Sum("calls", filter=Q(is_demo=True)))
    )
    calls = {(line["month"], line["operation"]): line["n"] for line in lines}
    sent: dict[datetime, int] = {}
    for line in lines:
        sent[line["month"]] = sent.get(line["month"], 0) + line["sent"]
    months = tuple(
        Month(
            begins_at=at,
            reads=calls.get((at, Action.READ.value), 0),
            writes=calls.get((at, Action.WRITE.value), 0),
            deletes=calls.get((at, Action.DELETE.value), 0),
            records=sent.get(at, 0),
        )
        for at in begins
    )
    # One row per token, the busiest TOKENS_SHOWN.
    busiest = list(
        used.filter(minute__gte=begins[-1])
        .values("token_id")
        .annotate(n=Sum("calls"), sent=Sum("records"), spent=Sum("credits"))
        .order_by("-n", "token_id")[:TOKENS_SHOWN]
    )
    known = dataset.workspace.tokens.with_versions().in_bulk([line["token_id"] for line in busiest])
    tokens = tuple(
        TokenRow(known.get(line["token_id"]), line["n"], line["sent"], line["spent"]) for line in busiest
    )
    return Operations(months, tokens, any(line["demo"] for line in lines))


def months_until(now: datetime) -> list[datetime]:
    """The starts of the last MONTHS months, ending with this one."""
    return [at for back in range(MONTHS) if (at := add_months(month_of(now), back + 1 - MONTHS))]
