"""A workspace's or one token's usage in a span: sums by day or month, token, dataset and refusal.

    used(workspace, token, span) -> Used        the span, in one pass over its counters
    before(workspace, token, span) -> Figures   the span it is compared with

Figures are counts of calls and records, and credits; times are UTC. Index: tokens_usage_once.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.db import connection
from django.db.models import QuerySet

from apperate.accounts.models import PREMIUM, Workspace
from tokens.models import Token, UsageCounter
from tokens.usage.figures import Figures
from tokens.usage.periods import Span

# The counters are read and condensed once; the result is then summed in each of the four ways.
TOKENS = "SELECT id FROM tokens_token WHERE workspace_id = %(workspace)s AND id = coalesce(%(token)s, id)"
FOUND = f"""
    SELECT date_trunc(%(unit)s, minute, 'UTC') AS start, token_id, dataset_id, operation, outcome,
           sum(calls) AS calls, sum(records) AS records, sum(credits) AS credits, sum(core_credits) AS core,
           bool_or(is_demo) AS is_demo
      FROM tokens_usagecounter
     WHERE token_id IN ({TOKENS}) AND minute >= %(start)s AND minute < %(end)s
     GROUP BY 1, 2, 3, 4, 5
"""  # noqa: S608  Values are parameters.
SUMS = """
       sum(calls)::bigint, coalesce(sum(calls) FILTER (WHERE outcome <> 'ok'), 0)::bigint,
       sum(records)::bigint, sum(credits)::bigint, sum(core)::bigint,
       coalesce(sum(credits) FILTER (WHERE dataset_id IN (
           SELECT d.id FROM datasets_dataset d JOIN accounts_workspace w ON w.id = d.workspace_id
            WHERE w.name = %(premium)s)), 0)::bigint
"""
OPERATIONS = ", ".join(
    f"coalesce(sum(calls) FILTER (WHERE outcome = 'ok' AND operation = '{one}'), 0)::bigint"
    for one in ("read", "write", "delete")
)
USED = f"""
WITH found AS ({FOUND})
SELECT grouping(start, token_id, dataset_id, outcome), start, token_id, dataset_id, outcome,
       bool_or(is_demo), {OPERATIONS}, {SUMS}
  FROM found GROUP BY GROUPING SETS ((start), (token_id), (dataset_id), (outcome))
"""  # noqa: S608
BEFORE = f"WITH found AS ({FOUND}) SELECT {SUMS} FROM found"  # noqa: S608
# The value of grouping() for a row: one bit for each column it is not grouped by.
BY_START, BY_TOKEN, BY_DATASET, BY_OUTCOME = 0b0111, 0b1011, 0b1101, 0b1110


@dataclass(frozen=True, slots=True)
class Operations:
    """The answered calls of one dataset."""

    dataset_id: int
    reads: int
    writes: int
    deletes: int
    records: int
    credits: int

    @property
    def calls(self) -> int:
        return self.reads + self.writes + self.deletes


@dataclass(frozen=True, slots=True)
class Used:
    """The sums of a span. First the tokens that spent most, the datasets and refusals with most calls."""

    by_start: Mapping[datetime, Figures]
    by_token: Sequence[tuple[int, Figures]]
    by_dataset: Sequence[Operations]
    by_refusal: Sequence[tuple[str, int]]
    has_demo: bool


def used(workspace: Workspace, token: Token | None, span: Span) -> Used:
    with connection.cursor() as cursor:
        cursor.execute(USED, _given(workspace, token, span) | {"start": span.start, "end": span.end})
        rows = cursor.fetchall()
    by_start: dict[datetime, Figures] = {}
    by_token: list[tuple[int, Figures]] = []
    by_dataset: list[Operations] = []
    by_refusal: list[tuple[str, int]] = []
    for of, start, token_id, dataset_id, outcome, _, *numbers in rows:
        figures = Figures(*numbers[3:])
        if of == BY_START:
            by_start[start.astimezone(UTC)] = figures
        elif of == BY_TOKEN:
            by_token.append((token_id, figures))
        elif of == BY_DATASET:
            reads, writes, deletes = numbers[:3]
            line = Operations(dataset_id, reads, writes, deletes, figures.records, figures.credits)
            by_dataset += [line] if dataset_id and line.calls else []
        elif outcome != "ok":
            by_refusal.append((outcome, figures.calls))
    return Used(
        by_start,
        sorted(by_token, key=lambda one: (-one[1].credits, -one[1].calls, one[0])),
        sorted(by_dataset, key=lambda one: (-one.calls, one.dataset_id)),
        sorted(by_refusal, key=lambda one: (-one[1], one[0])),
        has_demo=any(row[5] for row in rows),
    )


def before(workspace: Workspace, token: Token | None, span: Span) -> Figures:
    given = _given(workspace, token, span) | {"start": span.before, "end": span.before_end}
    with connection.cursor() as cursor:
        cursor.execute(BEFORE, given)
        return Figures(*(number or 0 for number in cursor.fetchone()))


def total(figures: Iterable[Figures]) -> Figures:
    every = list(figures)
    return Figures(*(sum(getattr(one, name) for one in every) for name in Figures.__slots__))


def counters_of(workspace: Workspace, token: Token | None) -> QuerySet[UsageCounter]:
    """The counters of one token, or of all tokens the workspace ever had."""
    if token is not None:
        return UsageCounter.objects.filter(token_id=token.pk)
    return UsageCounter.objects.filter(token_id__in=workspace.tokens.values("pk"))


def _given(workspace: Workspace, token: Token | None, span: Span) -> dict[str, Any]:
    return {
        "workspace": workspace.pk,
        "token": token.pk if token else None,
        "unit": "month" if span.has_months else "day",
        "premium": PREMIUM,
    }
