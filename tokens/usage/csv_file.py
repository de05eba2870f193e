"""A span's usage as a CSV: one row per day, token, dataset, operation and outcome.

csv_parts(workspace, token, span) -> parts     a query for each day or month of the span
"""

import csv
import io
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from asgiref.sync import sync_to_async
from django.db.models import Sum
from django.db.models.functions import TruncDate

from apperate.accounts.models import Workspace
from apperate.kernel.cells import escape_cell
from tokens.models import Token
from tokens.usage import series
from tokens.usage.periods import Span
from tokens.usage.sums import counters_of

COLUMNS = (
    "date", "tokenId", "nickname", "dataset", "operation", "outcome",
    "calls", "records", "credits", "coreCredits",
)  # fmt: skip


async def csv_parts(workspace: Workspace, token: Token | None, span: Span) -> AsyncIterator[bytes]:
    yield _text([COLUMNS])
    for place, start in enumerate(span.starts):
        end = span.starts[place + 1] if place + 1 < len(span.starts) else span.end
        if rows := await sync_to_async(_part)(workspace, token, start, end):
            yield _text(rows)


def _part(workspace: Workspace, token: Token | None, start: datetime, end: datetime) -> list[tuple[Any, ...]]:
    lines = list(
        counters_of(workspace, token)
        .filter(minute__gte=start, minute__lt=end)
        .annotate(day=TruncDate("minute", tzinfo=UTC))
        .values("day", "token_id", "dataset_id", "operation", "outcome")
        .annotate(n=Sum("calls"), returned=Sum("records"), spent=Sum("credits"), core=Sum("core_credits"))
        .order_by("day", "token_id", "dataset_id", "operation", "outcome")
    )
    tokens = workspace.tokens.in_bulk({line["token_id"] for line in lines})
    names = series.dataset_names([line["dataset_id"] for line in lines])
    return [
        (
            f"{line['day']:%Y-%m-%d}",
            tokens[line["token_id"]].public_id,
            escape_cell(tokens[line["token_id"]].nickname),
            names.get(line["dataset_id"], ""),
            line["operation"], line["outcome"], line["n"], line["returned"], line["spent"], line["core"],
        )
        for line in lines
        if line["token_id"] in tokens
    ]  # fmt: skip


def _text(rows: Any) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue().encode()
