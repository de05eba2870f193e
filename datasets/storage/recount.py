"""Upkeep of the storage counters: what a crash or a race left of them is put right.

    recount(workspace_id) -> int     the difference that was found and corrected
    upkeep(now=…)                    every hour: reservations and files that are gone, and the recounts due

Rows and counters are read in one snapshot, and only their difference is written, so writers go on meanwhile
and nothing is locked. Reading the rows of a large workspace takes long: it is done once a day at most, and
given up after SECONDS_MAX; the counters then stay as they are.
"""

import logging
from datetime import datetime, timedelta
from pathlib import Path

from django.conf import settings
from django.db import DatabaseError, connection, transaction

from apperate.accounts.models import Workspace
from datasets.models import IngestJob, StagedFile, StorageRecount, StorageReservation
from datasets.storage import limits

DUE_HOURS = 24
SECONDS_MAX = 300
# A file is staged a moment before its folder has its last name, or after; this is long after.
UNSURE_SECONDS = 3_600
logger = logging.getLogger("apperate.storage")

# One row. Indexes: the primary keys of both tables of records, by dataset.
DIFFERENCE = f"""
SELECT (SELECT coalesce(sum({limits.record_bytes("r")}), 0) FROM records r WHERE r.dataset_id = ANY(%(ids)s))
     + (SELECT coalesce(sum({limits.record_bytes("g")}), 0)
          FROM deleted_records g WHERE g.dataset_id = ANY(%(ids)s))
     + (SELECT coalesce(sum(s.bytes), 0) FROM datasets_stagedfile s WHERE s.workspace_id = %(workspace)s)
     - (SELECT coalesce(sum(c.bytes), 0) FROM datasets_storagecounter c WHERE c.workspace_id = %(workspace)s)
"""  # noqa: S608  a constant


def recount(workspace_id: int, *, seconds_max: int = SECONDS_MAX) -> int:
    """Correct a workspace's counters; by how many bytes. Raises OperationalError when it takes too long."""
    with transaction.atomic(), connection.cursor() as cursor:
        # A statement sees one moment: the rows and their counters are of the same transactions.
        cursor.execute("SELECT set_config('statement_timeout', %s, true)", [str(seconds_max * 1000)])
        cursor.execute("SELECT id FROM datasets_dataset WHERE workspace_id = %s", [workspace_id])
        ids = [row[0] for row in cursor.fetchall()]
        cursor.execute(DIFFERENCE, {"workspace": workspace_id, "ids": ids})
        difference = int(cursor.fetchone()[0])
    if difference:
        limits.add(workspace_id, difference)
    return difference


def upkeep(*, now: datetime) -> None:
    """What is due of it; a workspace that cannot be counted does not stop the others."""
    drop_reservations()
    drop_files(now=now)
    counted = StorageRecount.objects.filter(counted_at__gt=now - timedelta(hours=DUE_HOURS))
    due = Workspace.objects.exclude(pk__in=counted.values("workspace"))
    for workspace_id in due.order_by("pk").values_list("pk", flat=True):
        try:
            difference = recount(workspace_id)
        except DatabaseError:
            logger.exception("storage was not recounted workspace_id=%s", workspace_id)
        else:
            if difference:
                logger.warning("storage recounted workspace_id=%s by=%s", workspace_id, difference)
        # Also after a fault: what takes too long is not tried again within the hour.
        StorageRecount.objects.update_or_create(workspace_id=workspace_id, defaults={"counted_at": now})


def drop_reservations() -> None:
    """Those of jobs that ended, or that are gone."""
    open_jobs = IngestJob.objects.filter(status__in=IngestJob.RUNNING).values("pk")
    StorageReservation.objects.exclude(job_id__in=open_jobs).delete()


def drop_files(*, now: datetime) -> None:
    """Count no longer what is no longer on disk: a process may have died between the two."""
    before = now - timedelta(seconds=UNSURE_SECONDS)
    for name in StagedFile.objects.filter(staged_at__lte=before).values_list("name", flat=True):
        kind, _, public_id = name.partition("/")
        folder = Path(settings.INGEST_DIR) / ("uploads" if kind == "upload" else "") / public_id
        if not (folder / "body").exists():
            limits.unstage(name)
