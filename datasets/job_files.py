"""Where the files of an ingestion job are: what was sent, and the CSV of its invalid lines."""

import contextlib
import csv
import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import IO

from django.conf import settings

from apperate.refusals import Refusal
from datasets import packed
from datasets.models import IngestJob

BODY, PACKED, INVALID = "body", "body.gz", "invalid.csv"
KEPT_HOURS = 24
CHUNK_BYTES = 1 << 20
INVALID_SHOWN_MAX = 20
_HEAD = b"jobId,lineNumber,error\r\n"


def folder(job: IngestJob) -> Path:
    """Where the job's file and its invalid lines are."""
    return Path(settings.INGEST_DIR) / job.public_id


def body(job: IngestJob) -> Path:
    return folder(job) / BODY


def body_bytes(job: IngestJob) -> int:
    """How long the job's file is, out of its gzip; 0 when it is not there."""
    try:
        return body(job).stat().st_size
    except OSError:
        return 0


def keep(place: Path, file: IO[bytes]) -> int | Refusal:
    """Write a file to a folder's body, out of its gzip; the size as it was sent. Raises OSError."""
    sent = place / PACKED
    with sent.open("wb") as kept:
        shutil.copyfileobj(file, kept, CHUNK_BYTES)
    return unpack(place)


def unpack(place: Path) -> int | Refusal:
    """Make a folder's body of what was sent; the size as it was sent."""
    sent = place / PACKED
    size_bytes = sent.stat().st_size
    if not packed.is_gzip(sent):
        sent.rename(place / BODY)
        return size_bytes
    refusal = packed.unpack(sent, place / BODY, bytes_max=settings.UPLOAD_BYTES_MAX)
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
    """Remove what was sent for jobs that ended badly a day ago, and folders no job knows; how many."""
    before = now - timedelta(hours=KEPT_HOURS)
    count = 0
    for place in _old_folders(before):
        job = IngestJob.objects.filter(public_id=place.name).first()
        if job is None:
            shutil.rmtree(place, ignore_errors=True)
            count += 1
        elif job.has_ended and (job.ended_at is None or job.ended_at <= before):
            sent = place / BODY
            count += sent.exists()
            sent.unlink(missing_ok=True)
    return count


def _old_folders(before: datetime) -> Iterator[Path]:
    """Folders of jobs that were made before then."""
    for place in Path(settings.INGEST_DIR).glob("[0-9a-f]" * 32):
        with contextlib.suppress(FileNotFoundError):
            if place.stat().st_mtime <= before.timestamp():
                yield place
