"""The files of an ingestion job: what was sent, and the CSV of its invalid lines."""

import contextlib
import csv
import shutil
import stat
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import IO

from django.conf import settings

from apperate.database import disk
from apperate.kernel.refusals import Refusal
from datasets.files import packed
from datasets.models import IngestJob
from datasets.storage import limits

BODY, PACKED, INVALID = "body", "body.gz", "invalid.csv"
UPLOADS = "uploads"
FILE_HOURS = 24
JOB_DAYS = 90
JOBS_PURGED_MAX = 10_000
CHUNK_BYTES = 1 << 20
STEP_BYTES = 8_000_000
INVALID_SHOWN_MAX = 20
_HEAD = b"jobId,lineNumber,error\r\n"


def folder(job: IngestJob) -> Path:
    """The folder with the job's file and its invalid lines."""
    return Path(settings.INGEST_DIR) / job.public_id


def body(job: IngestJob) -> Path:
    return folder(job) / BODY


def body_bytes(job: IngestJob) -> int:
    """The size of the job's file, unzipped; 0 when it does not exist."""
    try:
        return body(job).stat().st_size
    except OSError:
        return 0


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


def make_folder(place: Path) -> None:
    """Make a folder, and its parents: customers' files must be private to this account."""
    make_private()
    place.parent.mkdir(mode=0o700, exist_ok=True)
    place.mkdir(mode=0o700)


def make_private() -> None:
    """Make the folder for customers' files, and close what others could look into."""
    root = Path(settings.INGEST_DIR)
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    for place in (root, root / UPLOADS):
        if place.exists() and stat.S_IMODE(place.stat().st_mode) & 0o077:
            place.chmod(0o700)


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


def invalid_lines(job: IngestJob) -> bytes:
    """The CSV of the job's invalid lines: jobId, lineNumber, error."""
    place = folder(job) / INVALID
    return place.read_bytes() if place.exists() else _HEAD


def first_invalid(job: IngestJob) -> list[tuple[str, str]]:
    """Line number and reason of the first invalid lines, for the job's page."""
    try:
        with (folder(job) / INVALID).open(newline="", encoding="utf-8") as log:
            rows = islice(csv.reader(log), 1, INVALID_SHOWN_MAX + 1)
            return [(row[1], row[2]) for row in rows if len(row) == 3]
    except (OSError, csv.Error):
        return []


def purge(*, now: datetime) -> int:
    """Remove the files of jobs that ended badly a day ago, and orphaned folders; returns how many."""
    before = now - timedelta(hours=FILE_HOURS)
    count = 0
    for place in _old_folders(before):
        job = IngestJob.objects.filter(public_id=place.name).first()
        if job is None:
            shutil.rmtree(place, ignore_errors=True)
            limits.unstage(f"job/{place.name}")
            count += 1
        elif job.has_ended and (job.ended_at is None or job.ended_at <= before):
            sent = place / BODY
            count += sent.exists()
            sent.unlink(missing_ok=True)
            limits.unstage(f"job/{place.name}")
    return count


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
