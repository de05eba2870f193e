"""Which jobs a list shows, and in what order."""

from collections.abc import Callable, Mapping
from typing import Any

from django.db.models import Q

from datasets.api import job_documents
from datasets.models import IngestJob

LIMIT = 100
LOOKED_AT_MAX = 5_000


def list_jobs(
    workspace: str, values: Mapping[str, Any], *, may_see: Callable[[IngestJob], bool]
) -> list[dict[str, Any]]:
    """The documents of a workspace's jobs, newest first, at most 100 unless `limit` says otherwise.

    `values` are the parsed parameters of the operation "jobs": from and to are Spans of creation times;
    `last` and `first` count from the newest and the oldest and override `limit`. `may_see` is called with
    one job per dataset and kind, and decides for all of them.
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
    shown = _seen(found.select_related("dataset__workspace").order_by(*order), may_see, count)
    if is_oldest_first != from_oldest:
        shown.reverse()
    return [job_documents.document(job) for job in shown]


def _seen(found: Any, may_see: Callable[[IngestJob], bool], count: int) -> list[IngestJob]:
    """The first jobs that the token may see; each kind of job per dataset is checked once."""
    shown = Q(pk__in=[])
    for job in found.order_by("dataset_id", "kind").distinct("dataset_id", "kind"):
        if may_see(job):
            shown |= Q(dataset_id=job.dataset_id, kind=job.kind)
    return list(found.filter(shown)[: min(count, LOOKED_AT_MAX)])
