"""Maintenance of the storage counters: corrects what a crash or a race left wrong.

    recount(workspace_id) -> int     the difference that was found and corrected
    upkeep(now=…)                    every hour: vanished reservations and files, and recounts that are due

Rows and counters are read in one snapshot, and only their difference is written, so writers continue and
nothing is locked. Reading a large workspace's rows takes long: it happens at most once a day, and is given
up after SECONDS_MAX; the counters then stay as they are.
"""

import logging
from datetime import datetime, timedelta

from django.db import DatabaseError, connection, transaction

from apperate.accounts.models import Workspace
from datasets.models import IngestJob, StagedFile, StorageRecount, StorageReservation
from datasets.storage import limits
from datasets.storage.job_files import BODY
from datasets.storage.kept_folders import KeptFolder

DUE_HOURS = 24
SECONDS_MAX = 300
# A file is staged a moment before or after its folder gets its final name; this is long after.
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
    """Correct a workspace's counters; returns by how many bytes. Raises OperationalError if too slow."""
    with transaction.atomic(), connection.cursor() as cursor:
        # One statement sees one snapshot: the rows and their counters belong to the same transactions.
        cursor.execute("SELECT set_config('statement_timeout', %s, true)", [str(seconds_max * 1000)])
        cursor.execute("SELECT id FROM datasets_dataset WHERE workspace_id = %s", [workspace_id])
        ids = [row[0] for row in cursor.fetchall()]
        cursor.execute(DIFFERENCE, {"workspace": workspace_id, "ids": ids})
        difference = int(cursor.fetchone()[0])
    if difference:
        limits.add(workspace_id, difference)
    return difference


def upkeep(*, now: datetime) -> None:
    """Everything that is due; a workspace that cannot be counted does not stop the others."""
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
        # Even after a failure: what takes too long is not retried within the hour.
        StorageRecount.objects.update_or_create(workspace_id=workspace_id, defaults={"counted_at": now})


def drop_reservations() -> None:
    """Drop the reservations of jobs that ended or are gone."""
    open_jobs = IngestJob.objects.filter(status__in=IngestJob.RUNNING).values("pk")
    StorageReservation.objects.exclude(job_id__in=open_jobs).delete()


def drop_files(*, now: datetime) -> None:
    """Stop counting files that are no longer there: a process may have died before doing so."""
    before = now - timedelta(seconds=UNSURE_SECONDS)
    for name in StagedFile.objects.filter(staged_at__lte=before).values_list("name", flat=True):
        if not KeptFolder(name).has(BODY):
            limits.unstage(name)
