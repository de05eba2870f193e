"""One run of a job: stores the records of its file, or does its delete or restore.

Every valid record and the job's final counts are committed in one transaction, or none of them. Each run
first takes the job's next number, and its last statement succeeds only while that number is still its own:
a worker presumed dead, or the run of a cancelled job, leaves no trace.
"""

import csv
import errno
import logging
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
from django.db import DatabaseError, InterfaceError, transaction
from django.db.models import F

from apperate.accounts.audit import trail
from apperate.database.clock import database_now
from apperate.database.outage import UNAVAILABLE
from apperate.kernel.json_text import bad_body
from apperate.kernel.refusals import Refusal, storage_full
from datasets.files import parsing
from datasets.files.file_text import position
from datasets.jobs.watch import Stopped, Watch
from datasets.models import IngestJob
from datasets.records.checking import Row
from datasets.services import trash, writing
from datasets.services.writing import dataset_gone
from datasets.storage import deletes, file_chunks, job_files, reservations, writes
from datasets.storage.reservations import JobRoom, NoRoom
from tokens.models import Token

RECORDS_MAX = 20_000_000
FAULT_CHARS_MAX = 300
CHECK_ROWS = 256
Kind = IngestJob.Kind
Status = IngestJob.Status
logger = logging.getLogger("apperate.jobs")


class TooManyInvalid(Exception):
    """More invalid lines than the job allows."""


class TooManyRecords(Exception):
    """More records than one job may hold."""


class BrokenFile(Exception):
    """The file's syntax broke at the reported place; what follows cannot be read."""


def run(job: IngestJob, *, may_retry: bool = False, is_watched: bool = True) -> None:
    """Read, check and store the job's file. Every outcome is a state of the job, never an exception.

    With may_retry=True the error of an unreachable database is raised, and the job waits unchanged.
    With is_watched=False no progress is published: for a job that is part of a larger transaction.
    """
    now = database_now()
    if not _begin(job, now=now):
        if job.status == Status.INGESTED and job.has_file:
            job_files.remove_body(job)  # Whoever stored its records was killed before this.
        return
    try:
        _work(job, now=now, may_retry=may_retry, is_watched=is_watched)
    finally:
        # If the database is unreachable, maintenance does this later.
        with suppress(DatabaseError, InterfaceError):
            reservations.release(job)


def give_up(job: IngestJob) -> None:
    """End a job that has killed its worker each time, or it would go on doing so for ever."""
    refusal = Refusal(
        "internal-error",
        f"The job was begun {job.run_number:,} times, and its process died each time; nothing was stored.",
    )
    _end_badly(job, Watch(job), refusal)
    reservations.release(job)


def _work(job: IngestJob, *, now: datetime, may_retry: bool, is_watched: bool) -> None:
    watch = Watch(job)
    try:
        with ExitStack() as stack:
            if is_watched:
                stack.enter_context(watch)
            refusal = WORK[Kind(job.kind)](job, watch, now=now)
    except Exception as error:
        watch.end()
        if watch.is_stopped or isinstance(error, Stopped):
            _end_cancelled(job)
            return
        if may_retry and isinstance(error, UNAVAILABLE) and not is_full(error):
            raise
        logger.exception("ingestion job failed job=%s", job.public_id)
        refusal = storage_full() if is_full(error) else _our_fault()
    if refusal is not None:
        _end_badly(job, watch, refusal)
    elif job.status == Status.INGESTED and job.has_file:
        job_files.remove_body(job)  # Its records count now, so the file no longer does.


def _begin(job: IngestJob, *, now: datetime) -> bool:
    """Take the job's next number and record its start, before the first record is read."""
    jobs = IngestJob.objects.filter(pk=job.pk).exclude(status__in=IngestJob.ENDED)
    jobs.filter(cancel_requested_at__isnull=False).update(status=Status.CANCELLED, ended_at=now)
    begun = jobs.update(
        status=Status.VALIDATING, last_good_status=Status.VALIDATING, started_at=now,
        run_number=F("run_number") + 1, rows_done=0, bytes_done=0,
    )  # fmt: skip
    # Refresh the caller's object, but keep its loaded relations.
    job.refresh_from_db(fields=["status", "last_good_status", "started_at", "run_number", "ended_at"])
    job.lines = job.invalid = 0
    return bool(begun)


def _end_cancelled(job: IngestJob) -> None:
    """End a job that somebody stopped; does nothing when another worker has it now."""
    mine = IngestJob.objects.filter(pk=job.pk, run_number=job.run_number, cancel_requested_at__isnull=False)
    mine.exclude(status__in=IngestJob.ENDED).update(status=Status.CANCELLED, ended_at=database_now())
    job.refresh_from_db()


def _end_badly(job: IngestJob, watch: Watch, refusal: Refusal) -> None:
    mine = IngestJob.objects.filter(pk=job.pk, run_number=job.run_number)
    mine.exclude(status__in=IngestJob.ENDED).update(
        status=Status.ERROR, last_good_status=watch.phase, ended_at=database_now(),
        message=sentence(refusal), refusal_code=refusal.code,
        lines=job.lines, invalid=job.invalid, rows_done=watch.rows,
    )  # fmt: skip
    job.refresh_from_db()


def sentence(refusal: Refusal) -> str:
    """A refusal as one line for the job's page."""
    parts = [refusal.detail]
    if refusal.received:
        parts.append(f"Received: {refusal.received}.")
    if refusal.needed:
        parts.append(f"Needed: {refusal.needed}.")
    return " ".join(parts)


def is_full(error: BaseException) -> bool:
    """Whether an error means that a disk is full, the database's or this machine's."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, OSError):
        return error.errno in {errno.ENOSPC, errno.EDQUOT}
    return isinstance(error, psycopg.errors.DiskFull)


def _our_fault() -> Refusal:
    return Refusal("internal-error", "The job failed on our side; nothing was changed.")


def _gone() -> Refusal:
    return bad_body("The file of this job is no longer there; nothing was stored.", needed="the file again")


def _store_file(job: IngestJob, watch: Watch, *, now: datetime) -> Refusal | None:
    """The records and the job's counts, or the reason why not; with the list of invalid lines either way."""
    with job_files.kept(job).at_hand(job_files.BODY) as place:
        if place is None:
            return _gone()
        refusal = _store_lines(job, watch, place, now=now)
        if refusal is not None and job.invalid:
            job_files.keep_invalid_of_failed(job, place)
        return refusal


def _store_lines(job: IngestJob, watch: Watch, place: Path, *, now: datetime) -> Refusal | None:
    """One transaction: the records and the job's counts, or nothing and the reason."""
    body = place / job_files.BODY
    with ExitStack() as stack:
        dataset = stack.enter_context(writes.locked(job.dataset_id))
        if dataset is None:
            return dataset_gone()
        # Reading a large file takes longer than a transaction may otherwise idle.
        writes.lift_time_limits()
        token = position.set(watch.position)
        stack.callback(position.reset, token)
        rows = parsing.open_rows(body, dataset.schema, now)
        if isinstance(rows, Refusal):
            return rows
        first_fault: list[str] = []
        path = place / job_files.INVALID
        log = stack.enter_context(path.open("w", newline="", encoding="utf-8"))
        try:
            room = JobRoom(job, dataset)
            stack.callback(room.close)
            valid = _valid(job, rows, csv.writer(log), first_fault, watch, room)
            copied = writes.copy_in(
                dataset, valid, replaces=job.replaces_duplicates, now=now, may_store=room.check_disk
            )
        except (TooManyInvalid, TooManyRecords, BrokenFile, NoRoom) as fault:
            transaction.set_rollback(True)
            return _in_words(fault, job)
        log.flush()
        if job.invalid == job.lines:
            return bad_body(f"None of the {job.lines:,} lines is valid; nothing was stored. {first_fault[0]}")
        if refusal := reservations.settle_job(job, dataset.workspace_id, copied.bytes):
            transaction.set_rollback(True)
            return refusal
        _end_well(job, watch, copied, bytes_done=body.stat().st_size)
        # After the statement that made sure that the job is still this run's.
        if job.invalid:
            job_files.keep_invalid(job, place)
        if place != job_files.folder(job):
            file_chunks.remove(reservations.staged_name(job), job_files.BODY)
    return None


def _delete(job: IngestJob, watch: Watch, *, now: datetime) -> Refusal | None:
    """Move the selected records to the trash, except those written after the request."""
    with writes.locked(job.dataset_id) as dataset:
        if dataset is None:
            return dataset_gone()
        writes.lift_time_limits()
        watch.phase = Status.PROCESSING
        selection = replace(deletes.selection_of(job), until=job.created_at)
        with trail.asked_by(address="", actor=_asker(job)):
            count = writing.delete_selected(dataset, selection, token_id=job.token_id, now=now)
        job.lines = watch.rows = count
        _end_well(job, watch, writes.Copied(count, count))
    return None


def _asker(job: IngestJob) -> str:
    """The token that requested a job, as the audit log names it."""
    public_id = Token.objects.filter(pk=job.token_id).values_list("public_id", flat=True).first()
    return f"token {public_id}" if public_id else "system"


def _restore(job: IngestJob, watch: Watch, *, now: datetime) -> Refusal | None:
    """Restore the records of a delete."""
    with writes.locked(job.dataset_id) as dataset:
        writes.lift_time_limits()
        watch.phase = Status.PROCESSING
        deletion_id = deletes.deletion_of(job)
        outcome = trash.put_back(dataset, deletion_id, asked_at=job.created_at, by=job.created_by, now=now)
        if isinstance(outcome, Refusal):
            return outcome
        job.lines = watch.rows = outcome.records + outcome.kept
        _end_well(job, watch, writes.Copied(job.lines, outcome.records))
    return None


WORK = {Kind.INGEST: _store_file, Kind.DELETE: _delete, Kind.RESTORE: _restore}


def _in_words(fault: Exception, job: IngestJob) -> Refusal:
    """Why a file was abandoned halfway."""
    if isinstance(fault, NoRoom):
        return fault.refusal
    if isinstance(fault, TooManyInvalid):
        return Refusal(
            "invalid-values",
            f"More than {job.invalid_max:,} lines are not valid; nothing was stored.",
            check="body",
            needed="fewer invalid lines, or a higher maximumValidationErrors",
        )
    if isinstance(fault, TooManyRecords):
        return bad_body(
            f"The file has more than {RECORDS_MAX:,} records; nothing was stored.",
            needed="several smaller files",
        )
    return bad_body(f"The file is {fault}. Nothing was stored.")


def _end_well(job: IngestJob, watch: Watch, copied: writes.Copied, *, bytes_done: int = 0) -> None:
    """Write the job's counts, in its records' transaction. Raises Stopped when another run owns the job."""
    watch.end()
    watch.check()
    mine = IngestJob.objects.filter(
        pk=job.pk, run_number=job.run_number, cancel_requested_at=None, status__in=IngestJob.RUNNING
    )
    facts = {
        "status": Status.INGESTED, "last_good_status": Status.INGESTED, "ended_at": database_now(),
        "lines": job.lines, "stored": copied.stored, "duplicates": copied.duplicates, "invalid": job.invalid,
        "rows_done": watch.rows, "bytes_done": bytes_done, "message": "",
    }  # fmt: skip
    if not mine.update(**facts):
        raise Stopped
    for name, value in facts.items():
        setattr(job, name, value)


def _valid(
    job: IngestJob,
    rows: Iterator[tuple[int, Any]],
    log: Any,
    first_fault: list[str],
    watch: Watch,
    room: JobRoom,
) -> Iterator[Row]:
    """The valid rows; the others are logged with line number and reason."""
    log.writerow(("jobId", "lineNumber", "error"))
    for line_number, row in rows:
        job.lines += 1
        if not job.lines % CHECK_ROWS:
            watch.rows = job.lines
            watch.check()
            if job.lines > RECORDS_MAX:
                raise TooManyRecords
        if isinstance(row, Row):
            room.take(row)
            yield row
            continue
        if row.ends:
            raise BrokenFile(row.reason)
        job.invalid += 1
        if not first_fault:
            first_fault.append(f"Line {line_number:,}: {row.reason}."[:FAULT_CHARS_MAX])
        log.writerow((job.public_id, line_number, row.reason))
        if job.invalid_max is not None and job.invalid > job.invalid_max:
            raise TooManyInvalid
    if job.lines > RECORDS_MAX:
        raise TooManyRecords
    watch.rows = job.lines
    watch.check()
    watch.phase = Status.PROCESSING
