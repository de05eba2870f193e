"""What the job of a large delete or restore stores about the request."""

from typing import Any

from django.utils.dateparse import parse_datetime

from datasets.models import Deletion, IngestJob
from datasets.storage.writes import Selection

# More records than this take too long for a request: a job deletes or restores them.
RECORDS_MAX = 100_000


def delete_document(selection: Selection) -> dict[str, Any]:
    """A selection in a job's stored form."""
    return {
        "key": selection.key,
        "subkey": selection.subkey,
        "from": selection.from_at.isoformat() if selection.from_at else None,
        "to": selection.to_at.isoformat() if selection.to_at else None,
    }


def selection_of(job: IngestJob) -> Selection:
    kept: dict[str, Any] = job.selection or {}
    return Selection(
        kept["key"],
        kept["subkey"],
        from_at=kept["from"] and parse_datetime(kept["from"]),
        to_at=kept["to"] and parse_datetime(kept["to"]),
    )


def restore_document(deletion: Deletion) -> dict[str, Any]:
    return {"key": deletion.key, "subkey": deletion.subkey, "deletion": deletion.pk}


def deletion_of(job: IngestJob) -> int:
    kept: dict[str, Any] = job.selection or {}
    return int(kept["deletion"])
