"""report(): what a workspace, or one of its tokens, did in a span: figures, a chart, tables, a forecast.

Read from the counters that usage.py writes, and limits from the row that the gate charges. At most eight
queries, whatever the span. Index: tokens_usage_once. A count that takes too long is given up: None.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.apps import apps
from django.db import OperationalError, connection, transaction
from django.db.models import Count, F, Q, QuerySet, Sum
from django.db.models.functions import TruncDay, TruncMonth

from apperate.accounts.models import Workspace
from apperate.refusals import REFUSALS
from tokens import forecasts, selectors, series
from tokens.models import Token, UsageCounter
from tokens.permissions import PREMIUM, Action
from tokens.usage_figures import (
    MEASURES,
    Bar,
    DatasetLine,
    Figures,
    Forecast,
    RefusalLine,
    Report,
    TokenLine,
)
from tokens.usage_periods import DAY, MONTH, Span

MILLISECONDS_MAX = 5_000
ROWS_SHOWN = 10
REFUSED = ~Q(outcome="ok")


def report(
    workspace: Workspace, token: Token | None, span: Span, *, now: datetime, shown: str = ""
) -> Report | None:
    """Everything of the page. `shown`: one of MEASURES; without it credits, or calls if there are none."""
    try:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SELECT set_config('statement_timeout', %s, true)", [str(MILLISECONDS_MAX)])
            return _report(workspace, token, span, now, shown)
    except OperationalError:
        return None


def _report(workspace: Workspace, token: Token | None, span: Span, now: datetime, shown: str) -> Report:
    counters = counters_of(workspace, token)
    of_span = counters.filter(minute__gte=span.start, minute__lt=span.end)
    found, has_demo = _by_start(of_span, span)
    bars = tuple(Bar(at, span.long(at), found.get(at, Figures())) for at in span.starts)
    total = _sum([bar.figures for bar in bars])
    before = counters.filter(minute__gte=span.before, minute__lt=span.before_end).aggregate(**_sums())
    busiest = _busiest(of_span)
    asked = [token.pk] if token else [line["token_id"] for line in busiest]
    kept = selectors.of_workspace(workspace, now=now).filter(pk__in=asked)
    rows = {one.pk: selectors.row(one, now=now) for one in kept}
    datasets, datasets_used = _datasets(of_span, workspace)
    row = rows.get(token.pk) if token else None
    return Report(
        span, bars, total, _figures(before), _tokens(busiest, rows), datasets, _refusals(of_span),
        has_demo, now,
        forecast=_forecast(bars, total, row, span, now) if span.period == MONTH else None,
        row=row,
        tokens_used=of_span.aggregate(n=Count("token_id", distinct=True))["n"],
        datasets_used=datasets_used,
        shown=shown or ("credits" if total.credits else "calls"),
    )  # fmt: skip


def counters_of(workspace: Workspace, token: Token | None) -> QuerySet[UsageCounter]:
    """The counters of one token, or of all that the workspace ever had."""
    if token is not None:
        return UsageCounter.objects.filter(token_id=token.pk)
    return UsageCounter.objects.filter(token_id__in=workspace.tokens.values("pk"))


def _sums() -> dict[str, Sum]:
    premium = apps.get_model("datasets", "Dataset").objects.filter(workspace__name=PREMIUM).values("pk")
    return {
        "called": Sum("calls", default=0),
        "no": Sum("calls", filter=REFUSED, default=0),
        "returned": Sum("records", default=0),
        "spent": Sum("credits", default=0),
        "of_core": Sum("core_credits", default=0),
        "of_premium": Sum("credits", filter=Q(dataset_id__in=premium), default=0),
    }


def _figures(line: Mapping[str, Any]) -> Figures:
    return Figures(
        line["called"], line["no"], line["returned"], line["spent"], line["of_core"], line["of_premium"]
    )


def _sum(figures: list[Figures]) -> Figures:
    names = Figures.__slots__
    return Figures(*(sum(getattr(one, name) for one in figures) for name in names))


def _by_start(counters: QuerySet[UsageCounter], span: Span) -> tuple[dict[datetime, Figures], bool]:
    trunc = TruncMonth if span.has_months else TruncDay
    lines = list(
        counters.annotate(start=trunc("minute", tzinfo=span.start.tzinfo))
        .values("start")
        .annotate(**_sums(), demo=Count("pk", filter=Q(is_demo=True)))
    )
    return {line["start"]: _figures(line) for line in lines}, any(line["demo"] for line in lines)


def _busiest(counters: QuerySet[UsageCounter]) -> list[dict[str, Any]]:
    lines: Any = counters.values("token_id").annotate(**_sums())
    return list(lines.order_by("-spent", "-called", "token_id")[:ROWS_SHOWN])


def _tokens(busiest: list[dict[str, Any]], rows: Mapping[int, selectors.Row]) -> tuple[TokenLine, ...]:
    lines = [(rows[line["token_id"]], _figures(line)) for line in busiest if line["token_id"] in rows]
    measure = "credits" if any(figures.credits for _, figures in lines) else "calls"
    top = max([getattr(figures, measure) for _, figures in lines], default=0) or 1
    return tuple(TokenLine(row, figures, getattr(figures, measure) * 100 / top) for row, figures in lines)


def _datasets(counters: QuerySet[UsageCounter], workspace: Workspace) -> tuple[tuple[DatasetLine, ...], int]:
    answered = counters.exclude(REFUSED).exclude(dataset_id=0)
    operations = {
        f"n_{action.value}": Sum("calls", filter=Q(operation=action.value), default=0) for action in Action
    }
    grouped: Any = answered.values("dataset_id").annotate(
        **operations, called=Sum("calls"), returned=Sum("records"), spent=Sum("credits")
    )
    lines = list(grouped.order_by("-called", "dataset_id")[:ROWS_SHOWN])
    names = series.dataset_names([line["dataset_id"] for line in lines])
    used = answered.aggregate(n=Count("dataset_id", distinct=True))["n"]
    own = f"{workspace.name}/"
    return tuple(
        DatasetLine(
            name := names.get(line["dataset_id"], ""),
            name.removeprefix(own) if name.startswith(own) else "",
            line["n_read"], line["n_write"], line["n_delete"], line["returned"], line["spent"],
        )
        for line in lines
    ), used  # fmt: skip


def _refusals(counters: QuerySet[UsageCounter]) -> tuple[RefusalLine, ...]:
    lines = list(
        counters.filter(REFUSED)
        .values("outcome")
        .annotate(called=Sum("calls"))
        .order_by("-called", "outcome")
    )
    total = sum(line["called"] for line in lines) or 1
    return tuple(
        RefusalLine(
            line["outcome"],
            REFUSALS[line["outcome"]][1] if line["outcome"] in REFUSALS else line["outcome"],
            line["called"],
            line["called"] * 100 / total,
        )
        for line in lines
    )


def _forecast(
    bars: tuple[Bar, ...], total: Figures, row: selectors.Row | None, span: Span, now: datetime
) -> Forecast | None:
    """None in the first hour of a month, from which nothing can be told."""
    a_day = {name: forecasts.pace(getattr(total, name), now=now) for name in MEASURES}
    known = {name: each for name, each in a_day.items() if each is not None}
    if not known:
        return None
    limit = row.usage.limit if row else None
    limit_at = None
    if row:
        core = forecasts.pace(total.core, now=now)
        limit_at = forecasts.limit_met_at(row.usage.used, limit, core, now=now)
    whole = (span.end - span.start) / DAY
    return Forecast(round(known["credits"] * whole), known, limit, limit_at)


def tokens_to_choose(workspace: Workspace, *, count: int = 200) -> QuerySet[Token]:
    """Tokens for the filter, those with a name first; a larger account looks at a token from its own page."""
    return workspace.tokens.order_by(F("deleted_at").desc(nulls_first=True), "created_at", "pk")[:count]
