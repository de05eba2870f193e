"""Files kept in the database, as rows of chunks, so that every host which shares it can read them.

    write(folder, name, path)                   replaces what is there under this name
    copy_out(folder, name, path) -> bool        whether there was such a file
    beginning(folder, name), read(folder, name), exists(folder, name), remove(folder, name=None)

A file is named by a folder, "job/" or "upload/" and a public id, and a name in it. It is written in one
transaction, so it exists whole or not at all, and passes through in constant memory both ways.
Source: docs/decisions/0023-files-of-jobs.md.
"""

from datetime import datetime
from pathlib import Path
from typing import Any

from django.db import connection, transaction
from django.db.models import Value
from django.db.models.functions import Concat

from datasets.models import FileChunk, IngestJob
from datasets.storage.writes import lift_time_limits

CHUNK_BYTES = 1 << 20
_COPY_IN = "COPY datasets_filechunk (folder, name, number, data) FROM STDIN (FORMAT BINARY)"
_COLUMNS = ("text", "text", "int8", "bytea")

# The chunks of a file in order, each at most CHUNK_BYTES. Index: the primary key.
_CHUNKS = "SELECT data FROM datasets_filechunk WHERE folder = %s AND name = %s ORDER BY number"

# Files of jobs that do not exist. One row for each chunk; the table is read whole, which is short: the data
# lies beside it.
_DROP_ORPHANS = """
DELETE FROM datasets_filechunk c
 WHERE c.folder LIKE 'job/%%' AND c.stored_at <= %s
   AND NOT EXISTS (SELECT 1 FROM datasets_ingestjob j WHERE 'job/' || j.public_id = c.folder)
RETURNING c.folder"""

# Files of jobs that ended by then. One row for each chunk, as above.
_DROP_OF_ENDED = """
DELETE FROM datasets_filechunk c USING datasets_ingestjob j
 WHERE 'job/' || j.public_id = c.folder AND c.name = %s AND c.stored_at <= %s
   AND j.status = ANY(%s) AND (j.ended_at IS NULL OR j.ended_at <= %s)
RETURNING c.folder"""


def write(folder: str, name: str, path: Path) -> None:
    """Store a file under this name, in place of one that is there. In the caller's transaction, if any."""
    with transaction.atomic(), connection.cursor() as cursor, path.open("rb") as file:
        lift_time_limits()
        FileChunk.objects.filter(folder=folder, name=name).delete()
        with (
            connection.wrap_database_errors,
            cursor.copy(_COPY_IN) as copy,
        ):
            copy.set_types(_COLUMNS)
            number = 0
            # An empty file is one empty chunk, so that it exists.
            while (data := file.read(CHUNK_BYTES)) or number == 0:
                copy.write_row((folder, name, number, data))
                number += 1


def copy_out(folder: str, name: str, path: Path) -> bool:
    """Write a stored file to a path; False, and nothing written, when there is none. Raises OSError."""
    with transaction.atomic(), connection.cursor() as cursor:
        lift_time_limits()
        if not exists(folder, name):
            return False
        with (
            path.open("wb") as file,
            connection.wrap_database_errors,
            cursor.copy(f"COPY ({_CHUNKS}) TO STDOUT (FORMAT BINARY)", [folder, name]) as copy,
        ):
            copy.set_types(["bytea"])
            for (data,) in copy.rows():
                file.write(data)
    return True


def exists(folder: str, name: str) -> bool:
    return FileChunk.objects.filter(folder=folder, name=name, number=0).exists()


def has_any(folder: str) -> bool:
    return FileChunk.objects.filter(folder=folder).exists()


def beginning(folder: str, name: str) -> bytes | None:
    """The first CHUNK_BYTES of a file; None when there is none."""
    return _first(FileChunk.objects.filter(folder=folder, name=name, number=0))


def read(folder: str, name: str) -> bytes | None:
    """All of a file, which must be small enough for memory; None when there is none."""
    chunks = FileChunk.objects.filter(folder=folder, name=name).order_by("number")
    found = [bytes(data) for data in chunks.values_list("data", flat=True).iterator(chunk_size=16)]
    return b"".join(found) if found else None


def _first(chunks: Any) -> bytes | None:
    data = chunks.values_list("data", flat=True).first()
    return None if data is None else bytes(data)


def remove(folder: str, name: str | None = None) -> None:
    """Remove a file, or all in its folder; nothing when there is none. In the caller's transaction."""
    with transaction.atomic():
        lift_time_limits()  # Gigabytes take longer than a request may.
        chunks = FileChunk.objects.filter(folder=folder)
        (chunks if name is None else chunks.filter(name=name)).delete()


def remove_of_dataset(dataset_id: int) -> None:
    """Remove the files of all jobs of a dataset. In the caller's transaction."""
    lift_time_limits()
    jobs = IngestJob.objects.filter(dataset_id=dataset_id)
    names = jobs.annotate(folder=Concat(Value("job/"), "public_id")).values("folder")
    FileChunk.objects.filter(folder__in=names).delete()


def drop_orphans(*, before: datetime) -> set[str]:
    """Remove what was stored before then for jobs that do not exist; returns their folders."""
    return _dropped(_DROP_ORPHANS, [before])


def drop_of_ended_jobs(name: str, *, before: datetime) -> set[str]:
    """Remove the files of this name of jobs that ended before then; returns their folders."""
    return _dropped(_DROP_OF_ENDED, [name, before, [str(status) for status in IngestJob.ENDED], before])


def drop_old(prefix: str, *, before: datetime) -> set[str]:
    """Remove all that was stored before then in folders of this kind; returns them."""
    sql = "DELETE FROM datasets_filechunk WHERE folder LIKE %s AND stored_at <= %s RETURNING folder"
    return _dropped(sql, [f"{prefix}/%", before])


def _dropped(sql: str, values: list[Any]) -> set[str]:
    with transaction.atomic(), connection.cursor() as cursor:
        lift_time_limits()
        cursor.execute(sql, values)
        return {folder for (folder,) in cursor.fetchall()}
