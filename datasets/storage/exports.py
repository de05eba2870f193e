"""export=true: all of a dataset's matching records, written to a temporary file before sending starts.

    spool(dataset, query, …) -> Export | Refusal | Outdated

So the number of records, their cost and the length are known when the answer begins, and memory stays
constant however many there are. The rows come through a cursor on a separate connection, from one snapshot.
Two exports at a time per token; shares.EXPORTS limits those of a worker process. Runs in a thread.
"""

import contextlib
import errno
import gzip
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psycopg
import zstandard

from apperate.database import disk, pool, shares
from apperate.http import delivery
from apperate.kernel.refusals import Refusal, storage_full
from datasets.answers import renderers
from datasets.answers.parquet_output import ParquetOutput
from datasets.query.parsing import Query
from datasets.records.schema import PropertyType
from datasets.records.system_properties import System
from datasets.storage import reads
from datasets.storage.catalog import Metadata

TOKEN_LOCKS = (4_150_001, 4_150_002)  # classes of advisory locks, one for each export a token may run
SECONDS_MAX = 600
ROWS_AT_ONCE = 2_000
# Exports take long: in threads of their own they delay no other work.
threads = ThreadPoolExecutor(shares.EXPORTS.places, thread_name_prefix="export")


@dataclass(frozen=True, slots=True)
class Export:
    """A file at its start, its length, and its number of records. No file: the metadata is outdated."""

    file: IO[bytes] | None
    size_bytes: int = 0
    records: int = 0


@dataclass(frozen=True, slots=True)
class Form:
    """How the records are written: the property types in order, whether `filter` chose them, the encoding."""

    columns: Mapping[str, PropertyType]
    keeps: bool
    encoding: str
    texts_of: Any  # (list of texts, list of System) → list of texts with the platform's properties


def spool(dataset: Metadata, query: Query, form: Form, *, token_id: int) -> Export | Refusal:
    """Write the export to a file. Raises QueryCanceled after SECONDS_MAX."""
    try:
        with psycopg.connect(**pool.connection_arguments()) as connection:
            if not _lock(connection, token_id):
                return busy(f"this token has {len(TOKEN_LOCKS)} exports under way")
            return _spool(connection, dataset, query, form)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            return storage_full()
        raise


def busy(reason: str) -> Refusal:
    return Refusal(
        "rate-limited",
        f"The export was not begun, because {reason}. Begin it when one of them has ended.",
        check="rate",
        received="export=true",
        needed=f"at most {len(TOKEN_LOCKS)} exports at a time",
        retry_after_seconds=10,
    )


def _lock(connection: Any, token_id: int) -> bool:
    """Take one of the token's places; it is released when the connection ends."""
    return any(
        connection.execute("SELECT pg_try_advisory_lock(%s, %s)", (place, token_id % 2**31)).fetchone()[0]
        for place in TOKEN_LOCKS
    )


def _spool(connection: Any, dataset: Metadata, query: Query, form: Form) -> Export | Refusal:
    connection.execute(f"SET statement_timeout = '{SECONDS_MAX}s'")
    with contextlib.ExitStack() as stack, connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        found = connection.execute(
            "SELECT version FROM datasets_dataset WHERE id = %s AND deleted_at IS NULL", (dataset.id,)
        ).fetchone()
        if found is None or found[0] != dataset.version:
            return Export(None)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="apperate-export-")))
        output = (
            ParquetOutput(folder, form.columns)
            if query.format == "parquet"
            else TextOutput(folder, query.format, form)
        )
        stack.callback(output.close)
        count = 0
        for texts, systems in _chunks(connection, dataset, query):
            if refusal := disk.shortage():
                return refusal
            output.add(form.texts_of(texts, systems))
            count += len(texts)
        path = output.finish()
        # The file outlives its name, so nothing is left behind whatever happens to the answer.
        return Export(path.open("rb"), path.stat().st_size, count)


def _chunks(connection: Any, dataset: Metadata, query: Query) -> Iterator[tuple[list[str], list[System]]]:
    """The texts and facts of every matching record, key by key, in the requested order."""
    for key in query.keys or (None,):
        with connection.cursor(name="export") as cursor:
            cursor.execute(*export_statement(dataset, query, key))
            while rows := cursor.fetchmany(ROWS_AT_ONCE):
                yield [row[0] for row in rows], [System(*row[1:]) for row in rows]


def export_statement(dataset: Metadata, query: Query, key: str | None) -> tuple[str, dict[str, Any]]:
    """The records of one key, or of all. Indexes: the primary key; records_by_date without a key."""
    parameters: dict[str, Any] = {
        "dataset": dataset.id, "k": key, "limit": query.limit, "offset": query.offset,
        "interval": query.interval,
    }  # fmt: skip

    def bind(value: Any) -> str:
        name = f"v{len(parameters)}"
        parameters[name] = value
        return f"%({name})s"

    conditions, order, _ = reads.conditions_of(query, bind)
    columns = "r.data::text AS data, r.key, r.subkey, r.date, r.updated"
    sql = f"""SELECT {columns} FROM datasets_dataset d CROSS JOIN (SELECT %(k)s::text AS key) k
                CROSS JOIN records r WHERE d.id = %(dataset)s AND {" AND ".join(conditions)}
               ORDER BY {order} LIMIT %(limit)s OFFSET %(offset)s"""  # noqa: S608
    if query.interval > 1:
        sql = f"""SELECT f.data, f.key, f.subkey, f.date, f.updated
                    FROM (SELECT s.*, row_number() OVER () AS n FROM ({sql}) s) f
                   WHERE (f.n - 1) %% %(interval)s = 0 ORDER BY f.n"""  # noqa: S608
    return sql, parameters


class TextOutput:
    """A file of JSON, CSV, PSV or JSON lines, written chunk by chunk, compressed on request."""

    def __init__(self, folder: Path, answer_format: str, form: Form) -> None:
        self.format, self.path = answer_format, folder / "records"
        self.columns = tuple(form.columns)
        self.filter = self.columns if form.keeps else None
        self.head = renderers.render(answer_format, [], self.columns, self.filter)
        self.is_empty = True
        self._raw = self.path.open("wb")
        self._file = _encoder(self._raw, form.encoding)
        if answer_format == "json":
            self._file.write(b"[")
        else:
            self._file.write(self.head)

    def add(self, texts: list[str]) -> None:
        body = renderers.render(self.format, texts, self.columns, self.filter)
        if self.format == "json":
            self._file.write((b"" if self.is_empty else b",") + body[1:-1])
        else:
            self._file.write(body[len(self.head) :])
        self.is_empty = False

    def finish(self) -> Path:
        if self.format == "json":
            self._file.write(b"]")
        self.close()
        return self.path

    def close(self) -> None:
        self._file.close()
        self._raw.close()


def _encoder(file: IO[bytes], encoding: str) -> Any:
    if encoding == "zstd":
        return zstandard.ZstdCompressor(level=delivery.ZSTD_LEVEL).stream_writer(file, closefd=False)
    if encoding == "gzip":
        return gzip.GzipFile(fileobj=file, mode="wb", compresslevel=delivery.GZIP_LEVEL, mtime=0)
    return file
