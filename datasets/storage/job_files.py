"""The files of an ingestion job: what was sent, and the CSV of its invalid lines."""

import contextlib
import csv
import io
import shutil
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import IO

from django.conf import settings
from django.db import transaction

from apperate.database import disk
from apperate.kernel.refusals import Refusal
from datasets.files import packed
from datasets.models import IngestJob
from datasets.storage import file_chunks, limits
from datasets.storage.kept_folders import UPLOADS, KeptFolder, make_folder
from datasets.storage.reservations import staged_name

BODY, PACKED, INVALID = "body", "body.gz", "invalid.csv"
FILE_HOURS = 24
# A file is stored moments before its job is saved; this is long after.
ORPHAN_HOURS = 1
JOB_DAYS = 90
UPLOAD_HOURS = 24
JOBS_PURGED_MAX = 10_000
CHUNK_BYTES = 1 << 20
STEP_BYTES = 8_000_000
INVALID_SHOWN_MAX = 20
_HEAD = b"jobId,lineNumber,error\r\n"


def kept(job: IngestJob) -> KeptFolder:
    """The job's files, wherever they are."""
    return KeptFolder(staged_name(job))


def folder(job: IngestJob) -> Path:
    """Where the job's file and its invalid lines are if they are on this host."""
    return kept(job).place


def body(job: IngestJob) -> Path:
    return folder(job) / BODY


def body_bytes(job: IngestJob) -> int:
    """The size of the job's file, unzipped, as long as it counts as storage; else 0."""
    return limits.staged_bytes(staged_name(job))


class FileRoom:
    """Whether a file may keep growing: by the server's disk and the workspace's plan, step by step."""

    def __init__(self, workspace_id: int | None) -> None:
        self._workspace_id = workspace_id
        self._next = 0

    def allows(self, file_bytes: int) -> Refusal | None:
        """Why the file may not have this many bytes, if so."""
        if file_bytes < self._next:
            return None
        self._next = file_bytes + STEP_BYTES
        if refusal := disk.shortage():
            return refusal
        if self._workspace_id is None:
            return None
        return limits.usage_of(self._workspace_id).refusal(max(file_bytes, 1))


def keep(place: Path, file: IO[bytes], room: FileRoom) -> int | Refusal:
    """Write a file into a folder as its body, unzipped; returns the size as sent. Raises OSError."""
    return keep_chunks(place, iter(lambda: file.read(CHUNK_BYTES), b""), room)


def keep_chunks(place: Path, chunks: Iterable[bytes], room: FileRoom) -> int | Refusal:
    """keep() for data that arrives in chunks."""
    written = 0
    with (place / PACKED).open("wb") as kept:
        for chunk in chunks:
            written += kept.write(chunk)
            if refusal := room.allows(written):
                return refusal
    return unpack(place, room)


def unpack(place: Path, room: FileRoom) -> int | Refusal:
    """Make a folder's body from what was sent; returns the size as sent."""
    sent = place / PACKED
    size_bytes = sent.stat().st_size
    if not packed.is_gzip(sent):
        sent.rename(place / BODY)
        return size_bytes
    refusal = packed.unpack(sent, place / BODY, bytes_max=settings.UPLOAD_BYTES_MAX, allows=room.allows)
    sent.unlink()
    return size_bytes if refusal is None else refusal


def remove_body(job: IngestJob) -> None:
    """Remove the job's file where it is on this host; from the database _end_well() in run.py removes it."""
    body(job).unlink(missing_ok=True)
    if settings.UPLOADS == "database":
        shutil.rmtree(folder(job), ignore_errors=True)  # Nothing else is kept there.


def keep_invalid(job: IngestJob, place: Path) -> None:
    """Keep the invalid lines that were logged in a folder. Raises OSError."""
    if settings.UPLOADS == "database":
        file_chunks.write(staged_name(job), INVALID, place / INVALID)
        (place / INVALID).unlink()  # Beside a file that is on this host it would stay, and be found first.
    elif place != folder(job):
        with contextlib.suppress(FileExistsError):
            make_folder(folder(job))
        shutil.move(place / INVALID, folder(job) / INVALID)


def keep_invalid_of_failed(job: IngestJob, place: Path) -> None:
    """The same for a run that stored nothing, unless another run has the job now."""
    with transaction.atomic():
        mine = IngestJob.objects.filter(pk=job.pk, run_number=job.run_number)
        if mine.exclude(status__in=IngestJob.ENDED).select_for_update().exists():
            keep_invalid(job, place)


def invalid_lines(job: IngestJob) -> bytes:
    """The CSV of the job's invalid lines: jobId, lineNumber, error."""
    found = kept(job).read(INVALID)
    return _HEAD if found is None else found


def first_invalid(job: IngestJob) -> list[tuple[str, str]]:
    """Line number and reason of the first invalid lines, for the job's page."""
    try:
        found = kept(job).read(INVALID, is_beginning=True) or b""
        log = io.StringIO(found.decode(errors="ignore"), newline="")
        rows = islice(csv.reader(log), 1, INVALID_SHOWN_MAX + 1)
        return [(row[1], row[2]) for row in rows if len(row) == 3]
    except (OSError, csv.Error):
        return []


def purge(*, now: datetime) -> int:
    """Remove the files of jobs that ended badly a day ago, and those of no job; returns of how many jobs."""
    before = now - timedelta(hours=FILE_HOURS)
    gone = file_chunks.drop_orphans(before=now - timedelta(hours=ORPHAN_HOURS))
    gone |= file_chunks.drop_of_ended_jobs(BODY, before=before)
    for place in _old_folders(before):
        name = f"job/{place.name}"
        job = IngestJob.objects.filter(public_id=place.name).first()
        if job is None:
            shutil.rmtree(place, ignore_errors=True)
            gone.add(name)
        elif job.has_ended and (job.ended_at is None or job.ended_at <= before):
            if (place / BODY).exists():
                gone.add(name)
            (place / BODY).unlink(missing_ok=True)
            limits.unstage(name)
    for name in gone:
        limits.unstage(name)
    return len(gone)


def purge_uploads(*, now: datetime) -> int:
    """Remove uploads whose sender has not decided for a day; returns how many."""
    before = now - timedelta(hours=UPLOAD_HOURS)
    gone = file_chunks.drop_old("upload", before=before)
    for place in (Path(settings.INGEST_DIR) / UPLOADS).glob("*"):
        with contextlib.suppress(FileNotFoundError):
            if place.stat().st_mtime < before.timestamp():
                shutil.rmtree(place, ignore_errors=True)
                gone.add(f"upload/{place.name}")
    for name in gone:
        limits.unstage(name)
    return len(gone)


def purge_jobs(*, now: datetime) -> int:
    """Forget jobs that ended JOB_DAYS ago, at most JOBS_PURGED_MAX; how many. Their folders go later."""
    ended = IngestJob.objects.filter(status__in=IngestJob.ENDED, ended_at__lt=now - timedelta(days=JOB_DAYS))
    oldest = list(ended.order_by("ended_at").values_list("pk", flat=True)[:JOBS_PURGED_MAX])
    return IngestJob.objects.filter(pk__in=oldest).delete()[0]


def _old_folders(before: datetime) -> Iterator[Path]:
    """Job folders made before then."""
    for place in Path(settings.INGEST_DIR).glob("[0-9a-f]" * 32):
        with contextlib.suppress(FileNotFoundError):
            if place.stat().st_mtime <= before.timestamp():
                yield place
