"""Jobs: made from a file, a large delete or a large restore; stopped and retried.

A job's row and its queue entry are made in one transaction. run.py does the work.
"""

from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from django.db import DatabaseError, transaction

from apperate.accounts import idempotency
from apperate.accounts.audit import trail
from apperate.accounts.models import User
from apperate.database import disk
from apperate.database.clock import database_now
from apperate.database.outage import UNAVAILABLE
from apperate.kernel.json_text import bad_body
from apperate.kernel.refusals import Refusal, storage_full
from datasets.files import parsing
from datasets.jobs.queue import ingest
from datasets.jobs.run import is_full
from datasets.models import Dataset, Deletion, IngestJob
from datasets.services import trash, writing
from datasets.services.writing import IngestOptions, dataset_gone
from datasets.storage import deletes, job_files, limits, writes
from datasets.storage.reservations import staged_name


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
    claim: idempotency.Claim | None = None,
) -> IngestJob | Refusal:
    """Store the file and queue the job. A file that cannot be used at all is refused at once.

    With is_queued=False the caller runs the job itself, by run(). A repeated `claim` returns the job made
    the first time.
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
    room = job_files.FileRoom(
        Dataset.objects.filter(pk=dataset_id).values_list("workspace", flat=True).first()
    )
    if refusal := room.allows(0):
        return refusal
    try:
        with job_files.kept(job).receiving(stays=not is_queued) as place:
            saved = _kept(job, place, file, room) or _saved(job, place, claim, is_queued=is_queued, now=now)
    except BaseException as error:
        # When the database went away, the job may have been saved; if not, the upkeep removes its file.
        if is_full(error) or not isinstance(error, UNAVAILABLE):
            with suppress(DatabaseError):
                job_files.kept(job).remove()
        if is_full(error):
            return storage_full()
        raise
    if saved is not job:
        job_files.kept(job).remove()
    return saved


def _kept(job: IngestJob, place: Path, file: IO[bytes], room: job_files.FileRoom) -> Refusal | None:
    """Write the file into a folder and keep it for the job's worker, unless none of it can be used."""
    size = job_files.keep(place, file, room)
    if isinstance(size, Refusal):
        return size
    job.size_bytes = size
    refusal = check_file(job.dataset_id, place / job_files.BODY, now=job.created_at)
    return refusal or job_files.kept(job).share(place, job_files.BODY)


def _saved(
    job: IngestJob, place: Path, claim: idempotency.Claim | None, *, is_queued: bool, now: datetime
) -> IngestJob | Refusal:
    """The job, or the one that the same request made before."""
    saved = idempotency.once(claim, lambda: _save(job, place, is_queued=is_queued), now=now)
    if isinstance(saved, Refusal) or saved["jobId"] == job.public_id:
        return saved if isinstance(saved, Refusal) else job
    return IngestJob.objects.filter(public_id=saved["jobId"]).first() or idempotency.already_done()


def _save(job: IngestJob, place: Path, *, is_queued: bool) -> idempotency.Document | Refusal:
    """Save the job and its queue entry, both or neither."""
    with writes.locked(job.dataset_id) as dataset:
        if dataset is None:
            return dataset_gone()
        if is_queued:
            _queued(job)
            # The file counts as storage until its records do.
            size_bytes = (place / job_files.BODY).stat().st_size
            staged = limits.stage(staged_name(job), dataset.workspace_id, size_bytes)
            if staged is not None:
                transaction.set_rollback(True)
                return staged
        else:
            job.save()
        if job.created_by is not None:
            _record_upload(job)
    return {"jobId": job.public_id}


def check_file(dataset_id: int, path: Path, *, now: datetime) -> Refusal | None:
    """Why no line of a file can go into a dataset, if so. Reads the whole file, writes nothing."""
    with writes.locked(dataset_id) as dataset:
        if dataset is None:
            return dataset_gone()
    rows = parsing.open_rows(path, dataset.schema, now)
    return rows if isinstance(rows, Refusal) else None


def delete_records(
    *, dataset_id: int, selection: writes.Selection, token_id: int | None, now: datetime
) -> int | IngestJob | Refusal:
    """Move the selected records to the trash: how many there were, or, for many, the job that will do it."""
    with writes.locked(dataset_id) as dataset:
        if dataset is None:
            return dataset_gone()
        if writes.count(dataset, selection, at_most=deletes.RECORDS_MAX + 1) <= deletes.RECORDS_MAX:
            return writing.delete_selected(dataset, selection, token_id=token_id, now=now)
        if refusal := disk.shortage():  # The trash takes up room before any is freed.
            return refusal
        return _queued(
            IngestJob(
                kind=IngestJob.Kind.DELETE, dataset_id=dataset_id, token_id=token_id,
                # A process's clock runs a little behind the database's; everything stored by now must go.
                created_at=max(now, database_now()),
                selection=deletes.delete_document(selection),
            )
        )  # fmt: skip


def restore_deletion(*, deletion: Deletion, by: Any, now: datetime) -> trash.Restored | IngestJob | Refusal:
    """Restore the records of one delete: how many there were, or, for many, the job that will do it."""
    if refusal := disk.shortage():
        return refusal
    if deletion.records <= deletes.RECORDS_MAX:
        return trash.restore_deletion(deletion=deletion, by=by, now=now)
    document = deletes.restore_document(deletion)
    with writes.locked(deletion.dataset_id) as dataset:
        if dataset is None:
            return dataset_gone()
        # A repeated request gets the job of the first one.
        Deletion.objects.select_for_update().filter(pk=deletion.pk).first()
        restores = IngestJob.objects.filter(kind=IngestJob.Kind.RESTORE, dataset_id=dataset.id)
        if job := restores.filter(selection=document).exclude(status__in=IngestJob.ENDED).first():
            return job
        return _queued(
            IngestJob(
                kind=IngestJob.Kind.RESTORE, dataset_id=dataset.id, created_by=by, created_at=now,
                selection=document,
            )
        )  # fmt: skip


def _queued(job: IngestJob) -> IngestJob:
    """Save the job and its queue entry, in the caller's transaction."""
    job.save()
    ingest.defer(job_id=job.pk)
    return job


def cancel(job: IngestJob, *, now: datetime, by: User | None = None) -> IngestJob | Refusal:
    """Stop a job: at once if it is waiting, within about a second if running. The dataset is unchanged."""
    with transaction.atomic():
        job = (
            IngestJob.objects.select_for_update(of=("self",))
            .select_related("dataset__workspace")
            .get(pk=job.pk)
        )
        if job.has_ended:
            return Refusal(
                "invalid-values",
                "The job has ended and cannot be cancelled any more.",
                received=job.status,
                needed="a job that waits or runs",
            )
        if job.cancel_requested_at is None:
            _record("job.cancel", job, by=by, now=now)
        job.cancel_requested_at = job.cancel_requested_at or now
        if job.status == IngestJob.Status.CREATED:
            job.status, job.ended_at = IngestJob.Status.CANCELLED, now
        job.save(update_fields=["cancel_requested_at", "status", "ended_at"])
    return job


def retry(job: IngestJob, *, by: User | None, now: datetime) -> IngestJob | Refusal:
    """Requeue a failed or cancelled job, with the file as it was sent. `by`: who asked for it."""
    if refusal := disk.shortage():
        return refusal
    with transaction.atomic():
        job = (
            IngestJob.objects.select_for_update(of=("self",))
            .select_related("dataset__workspace")
            .get(pk=job.pk)
        )
        if job.status not in {IngestJob.Status.ERROR, IngestJob.Status.CANCELLED}:
            return Refusal(
                "invalid-values",
                "Only a job that failed or was cancelled can be tried again.",
                received=job.status,
                needed="a job in the state ERROR or CANCELLED",
            )
        if not _has_what_it_needs(job):
            return bad_body(
                f"The file of this job was removed, {job_files.FILE_HOURS} hours after it ended.",
                needed="the file again",
            )
        _record("job.retry", job, by=by, now=now)
        job.status = job.last_good_status = IngestJob.Status.CREATED
        job.started_at = job.ended_at = job.cancel_requested_at = None
        job.message = job.refusal_code = ""
        job.lines = job.stored = job.duplicates = job.invalid = job.rows_done = job.bytes_done = 0
        # An upload keeps its time, which lists sort by, but the person who retried it now answers for it.
        job.created_by = by or job.created_by
        job.save()
        ingest.defer(job_id=job.pk)
    return job


def _record_upload(job: IngestJob) -> None:
    """Audit a person's upload; tokens' writes are in the usage counts and in the list of jobs."""
    trail.record(
        "job.upload", workspace=job.dataset.workspace, by=job.created_by, now=job.created_at,
        target=job.dataset.name, after={"job": job.public_id, "file": job.file_name},
    )  # fmt: skip


def _record(action: str, job: IngestJob, *, by: User | None, now: datetime) -> None:
    dataset, facts = job.dataset, {"job": job.public_id, "kind": job.kind}
    trail.record(
        action, workspace=dataset.workspace, by=by, now=now, target=dataset.name,
        before=facts | {"status": job.status}, after=facts,
    )  # fmt: skip


def can_retry(job: IngestJob) -> bool:
    """Whether retry() would find everything the job needs."""
    is_open = job.status in {IngestJob.Status.ERROR, IngestJob.Status.CANCELLED}
    return is_open and _has_what_it_needs(job)


def _has_what_it_needs(job: IngestJob) -> bool:
    return not job.has_file or job_files.kept(job).has(job_files.BODY)


def progress(job: IngestJob) -> float:
    """How much of the job is done, 0 to 1; work after the last line was read is not included."""
    if job.status == IngestJob.Status.INGESTED:
        return 1.0
    size_bytes = job_files.body_bytes(job)
    return round(min(job.bytes_done / size_bytes, 1.0) * 0.99, 4) if size_bytes else 0.0
