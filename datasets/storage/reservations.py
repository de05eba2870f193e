"""Storage for a running job: what it produces is reserved as it goes, before any of it is stored.

    room = JobRoom(job, dataset); room.take(row) for each row; room.close()
    settle_job(job, …)       in the job's transaction: the true figure replaces the reservation
    release(job)             wherever a job ends

A reservation is written on a separate connection, so that other writers see it while the job's transaction
is still open. It stays a step ahead of the job, so that parallel jobs cannot exceed the limit together.
A small job needs none: its true figure is checked before it commits.
"""

import contextlib
from typing import Any

import psycopg
from django.db import connection

from apperate.database import disk
from apperate.database.pool import connection_arguments
from apperate.kernel.refusals import Refusal
from datasets.models import IngestJob, StorageReservation
from datasets.records.checking import Row
from datasets.storage import limits
from datasets.storage.catalog import Metadata

STEP_BYTES = 8_000_000

_RESERVE = """
INSERT INTO datasets_storagereservation AS held (job_id, run_number, workspace_id, bytes)
SELECT %(job)s, %(run)s, w.id, %(bytes)s FROM accounts_workspace w WHERE w.id = %(workspace)s
ON CONFLICT (job_id) DO UPDATE SET run_number = excluded.run_number, bytes = excluded.bytes
 WHERE held.run_number <= excluded.run_number"""


class NoRoom(Exception):
    """The job may store no more; `refusal` says why."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.detail)
        self.refusal = refusal


class JobRoom:
    """Counts what a job produces. `bytes`: the total so far."""

    def __init__(self, job: IngestJob, dataset: Metadata) -> None:
        self.bytes = 0
        self._next = STEP_BYTES
        self._job, self._dataset = job, dataset
        # The file counts until its records do, and then no longer.
        self._own_bytes = limits.staged_bytes(staged_name(job))
        self._replaced_bytes: int | None = None
        self._connection: psycopg.Connection[Any] | None = None

    def take(self, row: Row) -> None:
        """Count a row. Raises NoRoom, also when the server's disk is nearly full."""
        data = row.data
        self.bytes += (len(data) if data.isascii() else len(data.encode())) + limits.ROW_BYTES
        if self.bytes >= self._next:
            self._next = self.bytes + STEP_BYTES
            self._reserve()

    def check_disk(self) -> None:
        """Check before all is stored in one statement, which takes its size in the table and in the log."""
        if refusal := disk.shortage(wants_bytes=2 * self.bytes if self.bytes > STEP_BYTES else 0):
            raise NoRoom(refusal)

    def _reserve(self) -> None:
        if refusal := disk.shortage():
            raise NoRoom(refusal)
        if self._connection is None:
            self._connection = psycopg.connect(**connection_arguments())
        workspace = {"workspace": self._dataset.workspace_id}
        ahead = self.bytes + STEP_BYTES
        facts = {"job": self._job.pk, "run": self._job.run_number, "bytes": ahead}
        self._connection.execute(_RESERVE, workspace | facts)
        found = limits.usage(self._connection.execute(limits.USED, workspace).fetchall())
        found = found.without(self._own_bytes)
        if found.has_room(0) or found.without(self._replaced()).has_room(0):
            return
        refusal = found.without(ahead).refusal(ahead)
        if refusal is not None:
            raise NoRoom(refusal)

    def _replaced(self) -> int:
        """The most that disappears as this is stored: for a job that replaces, all its dataset holds."""
        if not self._job.replaces_duplicates or self._connection is None:
            return 0
        if self._replaced_bytes is None:
            self._connection.execute("SET statement_timeout = 0")
            sql = f"SELECT sum({limits.record_bytes('r')}) FROM records r WHERE dataset_id = %s"  # noqa: S608
            row = self._connection.execute(sql, (self._dataset.id,)).fetchone()
            self._replaced_bytes = int(row[0] or 0) if row else 0
        return self._replaced_bytes

    def close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                self._connection.close()


def staged_name(job: IngestJob) -> str:
    return f"job/{job.public_id}"


def settle_job(job: IngestJob, workspace_id: int, more_bytes: int) -> Refusal | None:
    """In the transaction that stored the job's records: whether the plan allows them.

    Stops counting the reservation and the file exactly when the records begin to count.
    """
    StorageReservation.objects.filter(job_id=job.pk).delete()
    limits.unstage(staged_name(job))
    before = limits.usage_of(workspace_id).without(more_bytes)
    return limits.settle(workspace_id, more_bytes, before=before)


def release(job: IngestJob) -> None:
    """Return what this or an earlier run of the job has reserved."""
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM datasets_storagereservation WHERE job_id = %s AND run_number <= %s",
            [job.pk, job.run_number],
        )
