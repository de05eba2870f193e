"""report(): a workspace's or one token's activity in a span: figures, a chart, tables, a forecast.

sums.py adds up the usage; limits come from the row that the gate charges. The number of queries does not
depend on the span or the number of tokens. A count that takes too long is given up: None.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from django.db import OperationalError, connection, transaction
from django.db.models import F, QuerySet

from apperate.accounts.models import Workspace
from apperate.kernel.refusals import REFUSALS
from tokens import selectors
from tokens.models import Token
from tokens.usage import forecasts, series, sums
from tokens.usage.figures import MEASURES, Bar, DatasetLine, Figures, Forecast, RefusalLine, Report, TokenLine
from tokens.usage.periods import DAY, MONTH, Span
from tokens.usage.sums import Operations

MILLISECONDS_MAX = 5_000
ROWS_SHOWN = 10


def report(
    workspace: Workspace, token: Token | None, span: Span, *, now: datetime, shown: str = ""
) -> Report | None:
    """All data of the page. `shown`: one of MEASURES; by default credits, or calls if there are none."""
    try:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SELECT set_config('statement_timeout', %s, true)", [str(MILLISECONDS_MAX)])
            return _report(workspace, token, span, now, shown)
    except OperationalError:
        return None


def _report(workspace: Workspace, token: Token | None, span: Span, now: datetime, shown: str) -> Report:
    used = sums.used(workspace, token, span)
    bars = tuple(Bar(at, span.long(at), used.by_start.get(at, Figures())) for at in span.starts)
    total = sums.total(bar.figures for bar in bars)
    busiest = used.by_token[:ROWS_SHOWN]
    asked = [token.pk] if token else [token_id for token_id, _ in busiest]
    kept = selectors.of_workspace(workspace, now=now).filter(pk__in=asked)
    rows = {one.pk: selectors.row(one, now=now) for one in kept}
    row = rows.get(token.pk) if token else None
    return Report(
        span, bars, total, sums.before(workspace, token, span), _tokens(busiest, rows),
        _datasets(used.by_dataset[:ROWS_SHOWN], workspace), _refusals(used.by_refusal), used.has_demo, now,
        forecast=_forecast(bars, total, row, span, now) if span.period == MONTH else None,
        row=row,
        tokens_used=len(used.by_token),
        datasets_used=len(used.by_dataset),
        shown=shown or ("credits" if total.credits else "calls"),
    )  # fmt: skip


def _tokens(
    busiest: Sequence[tuple[int, Figures]], rows: Mapping[int, selectors.Row]
) -> tuple[TokenLine, ...]:
    lines = [(rows[token_id], figures) for token_id, figures in busiest if token_id in rows]
    measure = "credits" if any(figures.credits for _, figures in lines) else "calls"
    top = max([getattr(figures, measure) for _, figures in lines], default=0) or 1
    return tuple(TokenLine(row, figures, getattr(figures, measure) * 100 / top) for row, figures in lines)


def _datasets(lines: Sequence[Operations], workspace: Workspace) -> tuple[DatasetLine, ...]:
    names = series.dataset_names([line.dataset_id for line in lines])
    own = f"{workspace.name}/"
    return tuple(
        DatasetLine(
            name := names.get(line.dataset_id, ""),
            name.removeprefix(own) if name.startswith(own) else "",
            line.reads, line.writes, line.deletes, line.records, line.credits,
        )
        for line in lines
    )  # fmt: skip


def _refusals(lines: Sequence[tuple[str, int]]) -> tuple[RefusalLine, ...]:
    total = sum(calls for _, calls in lines) or 1
    return tuple(
        RefusalLine(code, REFUSALS[code][1] if code in REFUSALS else code, calls, calls * 100 / total)
        for code, calls in lines
    )


def _forecast(
    bars: tuple[Bar, ...], total: Figures, row: selectors.Row | None, span: Span, now: datetime
) -> Forecast | None:
    """None in the first hour of a month, which is too short to tell."""
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
    """Tokens for the filter, named ones first; larger workspaces reach other tokens from their own pages."""
    return workspace.tokens.order_by(F("deleted_at").desc(nulls_first=True), "created_at", "pk")[:count]
