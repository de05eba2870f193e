"""Ingestion jobs: a file on disk becomes records, whole or not at all, in the job worker.

The job row and the queue's entry are made in one transaction; the records and the job's final counts
are committed in one transaction, so a job is never half visible.
"""

import asyncio
import csv
import logging
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import simplejson
from django.conf import settings
from django.db import InterfaceError, OperationalError, transaction
from procrastinate import JobContext, RetryStrategy
from procrastinate.contrib.django import app

from apperate import pool
from apperate.clock import database_now
from apperate.problems import JSON
from apperate.refusals import Refusal
from datasets import parsing, store
from datasets.gate import Answer
from datasets.json_text import bad_body
from datasets.models import IngestJob
from datasets.records import Row
from datasets.writing import IngestOptions, dataset_gone

WAIT_SECONDS_MAX = 60
WAIT_POLL_SECONDS = 0.05
RECORDS_MAX = 20_000_000
ENTRY_HOURS = 24
RETRIES_MAX = 20
RETRY_SECONDS = 5
FAULT_CHARS_MAX = 300
INVALID_FILE = "invalid.csv"
logger = logging.getLogger("apperate.jobs")


def folder(job: IngestJob) -> Path:
    """Where the job's file and its invalid lines are."""
    return Path(settings.INGEST_DIR) / job.public_id


def create(
    *,
    dataset_id: int,
    file: IO[bytes],
    options: IngestOptions,
    now: datetime,
    token_id: int | None = None,
    by: Any = None,
    file_name: str = "",
    is_queued: bool = True,
) -> IngestJob | Refusal:
    """Keep the file and queue the job. A file that cannot be taken at all is refused at once.

    With is_queued=False the caller runs the job itself, by run().
    """
    job = IngestJob(
        dataset_id=dataset_id,
        file_name=file_name[:255],
        replaces_duplicates=options.replaces,
        invalid_max=options.invalid_max,
        token_id=token_id,
        created_by=by,
        created_at=now,
    )
    place = folder(job)
    place.mkdir(mode=0o700, parents=True)  # What customers send is for this account alone.
    try:
        with (place / "body").open("wb") as kept:
            shutil.copyfileobj(file, kept, 1 << 20)
        job.size_bytes = (place / "body").stat().st_size
        refusal = check_file(dataset_id, place / "body", now=now)
        if refusal is None:
            with store.locked(dataset_id) as dataset:
                if dataset is None:
                    refusal = dataset_gone()
                else:
                    job.save()
                    if is_queued:
                        ingest.defer(job_id=job.pk)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    if refusal is not None:
        shutil.rmtree(place)
        return refusal
    return job


def check_file(dataset_id: int, path: Path, *, now: datetime) -> Refusal | None:
    """Why nothing of a file can be taken into a dataset, if so. Reads the whole file, writes nothing."""
    with store.locked(dataset_id) as dataset:
        if dataset is None:
            return dataset_gone()
    rows = parsing.open_rows(path, dataset.schema, now)
    return rows if isinstance(rows, Refusal) else None


# What the database says when it is away or busy: the file is still there, so the job can wait.
AWAY = (OperationalError, InterfaceError)


@app.task(
    name="ingest",
    queue="ingest",
    pass_context=True,
    retry=RetryStrategy(max_attempts=RETRIES_MAX, wait=RETRY_SECONDS, retry_exceptions=AWAY),
)
def ingest(context: JobContext, job_id: int) -> None:
    """The queue's entry: run one job, unless its dataset was removed meanwhile."""
    job = IngestJob.objects.select_related("dataset").filter(pk=job_id).first()
    if job is not None:
        run(job, may_retry=context.job.attempts < RETRIES_MAX)


@app.periodic(cron="* * * * *")
@app.task(name="retry_stalled", queue="ingest", queueing_lock="retry_stalled")
async def retry_stalled(timestamp: int) -> None:
    """Every minute: what a worker had begun that has died since waits again; old entries are dropped."""
    for stalled in await app.job_manager.get_stalled_jobs():
        await app.job_manager.retry_job(stalled)
    await app.job_manager.delete_old_jobs(nb_hours=ENTRY_HOURS, include_failed=True)


def run(job: IngestJob, *, may_retry: bool = False) -> None:
    """Read, check and store the job's file. Every end is a state of the job, never an exception.

    With may_retry=True the error of a database that is away is raised, and the job left as it was.
    """
    if job.has_ended:
        return
    now = database_now()
    _note(job, IngestJob.Status.PROCESSING, started_at=now)
    try:
        refusal = _store_file(job, now=now)
    except Exception as error:  # A fault of ours: the job says so, the log has the rest.
        if may_retry and isinstance(error, AWAY):
            raise
        logger.exception("ingestion job failed job=%s", job.public_id)
        refusal = Refusal("internal-error", "Storing the file failed on our side; nothing was stored.")
    if refusal is not None:
        _note(
            job,
            IngestJob.Status.ERROR,
            ended_at=database_now(),
            message=sentence(refusal),
            lines=job.lines,
            invalid=job.invalid,
            stored=0,
            duplicates=0,
        )
    (folder(job) / "body").unlink(missing_ok=True)


def sentence(refusal: Refusal) -> str:
    """A refusal in one line for the job's page."""
    parts = [refusal.detail]
    if refusal.received:
        parts.append(f"Received: {refusal.received}.")
    if refusal.needed:
        parts.append(f"Needed: {refusal.needed}.")
    return " ".join(parts)


class TooManyInvalid(Exception):
    """More invalid lines than the job allows."""


class TooManyRecords(Exception):
    """More records than one job may hold."""


class BrokenFile(Exception):
    """The file's syntax broke, at the place that is said: what follows cannot be read."""


def _store_file(job: IngestJob, *, now: datetime) -> Refusal | None:
    """One transaction: the records and the job's counts, or nothing and the reason."""
    with ExitStack() as stack:
        dataset = stack.enter_context(store.locked(job.dataset_id))
        if dataset is None:
            return dataset_gone()
        # A worker that was taken for dead may still be at it; whoever comes second leaves the job alone.
        free = IngestJob.objects.select_for_update(skip_locked=True).exclude(status__in=IngestJob.ENDED)
        if free.filter(pk=job.pk).first() is None:
            return None
        # Looking through a large file takes longer than a transaction may otherwise stand still.
        store.lift_time_limits()
        rows = parsing.open_rows(folder(job) / "body", dataset.schema, now)
        if isinstance(rows, Refusal):
            return rows
        first_fault: list[str] = []
        log = stack.enter_context((folder(job) / INVALID_FILE).open("w", newline="", encoding="utf-8"))
        try:
            valid = _valid(job, rows, csv.writer(log), first_fault)
            copied = store.copy_in(dataset, valid, replaces=job.replaces_duplicates, now=now)
        except TooManyInvalid:
            transaction.set_rollback(True)
            return Refusal(
                "invalid-values",
                f"More than {job.invalid_max:,} lines are not valid; nothing was stored.",
                check="body",
                needed="fewer invalid lines, or a higher maximumValidationErrors",
            )
        except TooManyRecords:
            transaction.set_rollback(True)
            return bad_body(
                f"The file has more than {RECORDS_MAX:,} records; nothing was stored.",
                needed="several smaller files",
            )
        except BrokenFile as broken:
            transaction.set_rollback(True)
            return bad_body(f"The file is {broken}. Nothing was stored.")
        if job.invalid == job.lines:
            return bad_body(f"None of the {job.lines:,} lines is valid; nothing was stored. {first_fault[0]}")
        _note(
            job,
            IngestJob.Status.INGESTED,
            ended_at=database_now(),
            lines=job.lines,
            stored=copied.stored,
            duplicates=copied.duplicates,
            invalid=job.invalid,
        )
    return None


def _valid(
    job: IngestJob, rows: Iterator[tuple[int, Any]], log: Any, first_fault: list[str]
) -> Iterator[Row]:
    """The valid rows; the others go to the log with line number and reason."""
    log.writerow(("jobId", "lineNumber", "error"))
    for line_number, row in rows:
        job.lines += 1
        if job.lines > RECORDS_MAX:
            raise TooManyRecords
        if isinstance(row, Row):
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


def _note(job: IngestJob, status: str, **facts: Any) -> None:
    """Move the job to a state, with what is known then."""
    if status != IngestJob.Status.ERROR:
        job.last_good_status = status
    job.status = status
    for name, value in facts.items():
        setattr(job, name, value)
    job.save(update_fields=["status", "last_good_status", *facts])


def job_url(job: IngestJob) -> str:
    return f"/v1/jobs/{job.dataset.workspace.name}/ingest/{job.public_id}"


def document(job: IngestJob) -> dict[str, Any]:
    """A job as the API tells it; times in epoch milliseconds."""
    return {
        "jobId": job.public_id,
        "datasetId": job.dataset.name,
        "status": job.status,
        "lastGoodStatus": job.last_good_status,
        "progress": 1.0 if job.status == IngestJob.Status.INGESTED else 0.0,
        "sizeBytes": job.size_bytes,
        "lines": job.lines,
        "recordsIngested": job.stored,
        "duplicates": job.duplicates,
        "invalid": job.invalid,
        "message": job.message,
        "invalidRecordsLog": f"{job_url(job)}/invalid-records-log",
        "created": _milliseconds(job.created_at),
        "started": _milliseconds(job.started_at),
        "ended": _milliseconds(job.ended_at),
    }


def _milliseconds(at: datetime | None) -> int | None:
    return None if at is None else int(at.timestamp() * 1000)


def invalid_lines(job: IngestJob) -> bytes:
    """The CSV of the job's invalid lines: jobId, lineNumber, error."""
    place = folder(job) / INVALID_FILE
    return place.read_bytes() if place.exists() else b"jobId,lineNumber,error\r\n"


def created_document(job: IngestJob, *, workspace: str, dataset: str) -> dict[str, Any]:
    """What an upload is answered with."""
    return {
        "success": True,
        "message": f"Data upload of {size_text(job.size_bytes)} for {dataset} completed, "
        f"jobId: {job.public_id} has been created",
        "jobId": job.public_id,
        "jobUrl": f"/v1/jobs/{workspace}/ingest/{job.public_id}",
    }


def size_text(size_bytes: int) -> str:
    """579B, 12KB, 3MB: as old clients know it."""
    for unit in ("B", "KB", "MB"):
        if size_bytes < 1000:
            return f"{size_bytes:.0f}{unit}"
        size_bytes = round(size_bytes / 1000)
    return f"{size_bytes:.0f}GB"


async def wait_for(job: IngestJob) -> Answer | Refusal | None:
    """The answer of a job that has ended; None when it has not within a minute."""
    sql = "SELECT status, stored, message FROM datasets_ingestjob WHERE id = %(id)s"
    for _ in range(int(WAIT_SECONDS_MAX / WAIT_POLL_SECONDS)):
        status, stored, message = (await pool.fetch_all(sql, {"id": job.pk}))[0]
        if status == IngestJob.Status.INGESTED:
            text = f"Ingestion job successful, {stored} records ingested"
            document = {"success": True, "message": text, "jobId": job.public_id}
            return Answer(simplejson.dumps(document).encode(), JSON, records=stored, is_free=True)
        if status in IngestJob.ENDED:
            return Refusal("invalid-values", message or "The job was cancelled.", check="body")
        await asyncio.sleep(WAIT_POLL_SECONDS)
    return None
