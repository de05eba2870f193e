"""usage_series(): a token's usage by UTC day and one more dimension. One query. Index: tokens_usage_once."""

from datetime import UTC, datetime
from typing import Any

from django.apps import apps
from django.db.models import F, Q, Sum
from django.db.models.functions import TruncDate

from tokens.models import Token, UsageCounter

# What rows are grouped by (vocabulary.USAGE_BY) → its column, besides the day.
COLUMNS = {"day": None, "dataset": "dataset_id", "operation": "operation", "outcome": "outcome"}
ROWS_MAX = 10_000


def usage_series(token: Token, *, start: datetime | None, end: datetime | None, by: str) -> dict[str, Any]:
    """Calls, refused ones, records and credits from `start` to before `end`, oldest day first."""
    column = COLUMNS[by]
    counters = UsageCounter.objects.filter(token_id=token.pk)
    if start:
        counters = counters.filter(minute__gte=start)
    if end:
        counters = counters.filter(minute__lt=end)
    keys = ["day", *([column] if column else [])]
    found = (
        counters.annotate(day=TruncDate("minute", tzinfo=UTC))
        .values(*keys)
        .annotate(
            called=Sum("calls"),
            refused=Sum("calls", filter=~Q(outcome="ok"), default=0),
            returned=Sum("records"),
            spent=Sum("credits"),
            core=Sum("core_credits"),
        )
        .order_by(*(F(key) for key in keys))[:ROWS_MAX]
    )
    rows = list(found)
    names = dataset_names([row["dataset_id"] for row in rows]) if by == "dataset" else {}
    return {
        "by": by,
        "from": f"{start:%Y-%m-%d}" if start else None,
        "to": f"{end:%Y-%m-%d}" if end else None,
        "series": [
            {
                "date": f"{row['day']:%Y-%m-%d}",
                **_named(by, column, row, names),
                "calls": row["called"],
                "refused": row["refused"],
                "records": row["returned"],
                "credits": row["spent"],
                "coreCredits": row["core"],
            }
            for row in rows
        ],
    }


def dataset_names(ids: list[int]) -> dict[int, str]:
    """Datasets of any workspace as WORKSPACE/NAME; including the trash, because they were used."""
    datasets = apps.get_model("datasets", "Dataset")
    found = datasets.objects.filter(pk__in=set(ids)).values_list("pk", "workspace__name", "name")
    return {pk: f"{workspace}/{name}" for pk, workspace, name in found}


def _named(by: str, column: str | None, row: dict[str, Any], names: dict[int, str]) -> dict[str, Any]:
    if column is None:
        return {}
    return {by: names.get(row[column]) if by == "dataset" else row[column]}
