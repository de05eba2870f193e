"""Which ingestion jobs a list shows, and in which order."""

from collections.abc import Callable, Mapping
from typing import Any

from datasets import jobs
from datasets.models import IngestJob

LIMIT = 100
LOOKED_AT_MAX = 5_000


def list_jobs(
    workspace: str, values: Mapping[str, Any], *, may_write: Callable[[IngestJob], bool]
) -> list[dict[str, Any]]:
    """The documents of a workspace's jobs, newest first, at most 100 unless `limit` says otherwise.

    `values` are the parsed parameters of the operation "jobs": from and to are Spans of the time a job was
    made at; `last` and `first` count from the newest and the oldest and override `limit`. `may_write` says
    of one job per dataset whether its dataset's jobs are shown.
    """
    found = IngestJob.objects.filter(dataset__workspace__name=workspace, dataset__deleted_at=None)
    if (span := values.get("from")) is not None and span.start is not None:
        found = found.filter(created_at__gte=span.start)
    if (span := values.get("to")) is not None and span.end is not None:
        found = found.filter(created_at__lt=span.end)
    is_oldest_first = values.get("sort", "asc" if "first" in values else "desc") == "asc"
    from_oldest = "first" in values or ("last" not in values and is_oldest_first)
    count = values.get("last") or values.get("first") or values.get("limit") or LIMIT
    order = ("created_at", "pk") if from_oldest else ("-created_at", "-pk")
    shown = _writable(found.select_related("dataset__workspace").order_by(*order), may_write, count)
    if is_oldest_first != from_oldest:
        shown.reverse()
    return [jobs.document(job) for job in shown]


def _writable(found: Any, may_write: Callable[[IngestJob], bool], count: int) -> list[IngestJob]:
    """The first jobs whose dataset the token may write; each dataset is asked about once."""
    verdicts: dict[int, bool] = {}
    first_of = {job.dataset_id: job for job in found.order_by("dataset_id").distinct("dataset_id")}
    for dataset_id, job in first_of.items():
        verdicts[dataset_id] = may_write(job)
    allowed = [dataset_id for dataset_id, may in verdicts.items() if may]
    return list(found.filter(dataset_id__in=allowed)[: min(count, LOOKED_AT_MAX)])
