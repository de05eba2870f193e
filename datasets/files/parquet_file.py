"""A Parquet file as records, read by DuckDB, which can access only that file. Pure.

    read_parquet(path) -> iterator of (position, record | InvalidLine)

DuckDB writes each row as JSON text, which the parser of json_text.py reads: dates become ISO texts, nested
columns objects and arrays, and NaN is refused as everywhere else. It can neither open other files nor load
extensions.

A small file can hold a great deal: a repeated text is stored once, and pages are compressed. The output is
limited like gzip's (packed.py), and DuckDB may use at most READ_MEMORY, which is a real limit: it covers the
rows made at a time, 2,048 of them. Where those do not fit, rows are read in smaller batches.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb

from apperate.kernel.json_text import DECODE_ERRORS, DECODER, explain
from datasets.files.csv_file import InvalidLine
from datasets.files.file_text import PARQUET_MAGIC
from datasets.files.file_text import position as reading
from datasets.files.packed import RATIO_FREE_BYTES, RATIO_MAX, grows_too_much
from datasets.records.checking import RECORD_BYTES_MAX

# With a worker process of about 120 MB, the total stays below 200 MB.
READ_MEMORY = "64MB"
MEMORY_LIMIT = "256MB"
ROWS_AT_ONCE = 64
# DuckDB's own batch size.
VECTOR_ROWS = 2_048
# The description of the columns becomes objects that READ_MEMORY does not count.
FOOTER_BYTES_MAX = 300_000
# Nested columns count too; DuckDB is slow to look up names among very many.
COLUMNS_MAX = 10_000
# No record may be this long; json_text.py may make a text slightly shorter.
ROW_CHARS_MAX = 4 * RECORD_BYTES_MAX
READ = "(SELECT to_json(p)::VARCHAR AS text FROM {source} p)"
ALL = "read_parquet(?)"
PART = """(SELECT * EXCLUDE (file_row_number) FROM read_parquet(?, file_row_number = true)
            WHERE file_row_number >= ? AND file_row_number < ?)"""


def connect(path: Path) -> duckdb.DuckDBPyConnection:
    """A separate DuckDB that can read only this file."""
    quoted = str(path).replace("'", "''")
    return confined(f"allowed_paths = ['{quoted}']", memory=READ_MEMORY)


def confined(allowed: str, *, memory: str = MEMORY_LIMIT) -> duckdb.DuckDBPyConnection:
    """A DuckDB restricted by the setting `allowed`, and with its settings locked."""
    connection = duckdb.connect(":memory:")
    for setting in (
        allowed,
        "autoinstall_known_extensions = false",
        "autoload_known_extensions = false",
        f"memory_limit = '{memory}'",
        "temp_directory = ''",
        "threads = 1",
        "streaming_buffer_size = '64KB'",
        "TimeZone = 'UTC'",
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        connection.execute(f"SET {setting}")
    return connection


def read_parquet(path: Path) -> Iterator[tuple[int, dict[str, Any] | InvalidLine]]:
    """The rows of a Parquet file with their position from 1; a damaged file ends with an InvalidLine."""
    position = came_out = 0
    seen, size_bytes = reading.get(), path.stat().st_size
    if (footer := footer_bytes(path)) > FOOTER_BYTES_MAX:
        yield 1, InvalidLine(1, footer_fault(footer), ends=True)
        return
    with connect(path) as connection:
        try:
            if (columns := _count(connection, path, "parquet_schema")) > COLUMNS_MAX:
                yield 1, InvalidLine(1, columns_fault(columns), ends=True)
                return
            total = _count(connection, path)
            for rows in _rows(connection, path, total):
                for length, text in rows:
                    position += 1
                    came_out += length
                    if came_out > RATIO_FREE_BYTES and grows_too_much(came_out, size_bytes):
                        reason = growth_fault(came_out, size_bytes, position)
                        yield position, InvalidLine(position, reason, ends=True)
                        return
                    yield position, _too_long(position, length) if text is None else _record(text, position)
                if seen is not None:
                    seen.bytes = size_bytes * position // max(total, 1)
        except duckdb.OutOfMemoryException:
            yield position + 1, InvalidLine(position + 1, memory_fault(position + 1), ends=True)
        except duckdb.Error as error:
            # DuckDB's message may contain the file's path on the server.
            reason = f"not a Parquet file that can be read ({type(error).__name__})"
            yield position + 1, InvalidLine(position + 1, reason, ends=True)


def _rows(connection: duckdb.DuckDBPyConnection, path: Path, total: int) -> Iterator[list[tuple[Any, ...]]]:
    """The length and the JSON text of each row; no text where it is too long for a record.

    Where rows do not fit into READ_MEMORY, they are read in batches, which shrink while they do not fit and
    grow while they do: each batch has to seek its start again, so small ones are expensive.
    Raises OutOfMemoryException when not even a single row fits.
    """
    done = 0
    part = 0
    while done < total or not part:
        source, values = (PART, [str(path), done, done + part]) if part else (ALL, [str(path)])
        try:
            rows = connection.execute(
                f"""SELECT strlen(text), CASE WHEN strlen(text) <= {ROW_CHARS_MAX} THEN text END
                      FROM {READ.format(source=source)}""",  # noqa: S608  constants
                values,
            )
            end = done + part if part else total
            while found := rows.fetchmany(ROWS_AT_ONCE):
                done += len(found)
                yield found
            if not part:
                return
            done, part = end, part * 2
        except duckdb.OutOfMemoryException:
            if part == 1:
                raise
            part = max(1, (part or VECTOR_ROWS) // 4)


def _count(connection: duckdb.DuckDBPyConnection, path: Path, source: str = "read_parquet") -> int:
    """How many rows, or with parquet_schema columns, the file claims to have."""
    found = connection.execute(f"SELECT count(*) FROM {source}(?)", [str(path)]).fetchone()  # noqa: S608
    return int(found[0]) if found else 0


def footer_bytes(path: Path) -> int:
    """The claimed length of the footer that describes the columns; 0 when there cannot be one."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(size - 8, 0))
        end = file.read()
    length = int.from_bytes(end[:4], "little")
    return length if end[4:] == PARQUET_MAGIC and length <= size else 0


def footer_fault(footer: int) -> str:
    return (
        f"a Parquet file whose list of columns and row groups has {footer:,} bytes; "
        f"needed at most {FOOTER_BYTES_MAX:,}: fewer and larger row groups, or several smaller files"
    )


def columns_fault(columns: int) -> str:
    return f"a Parquet file with {columns:,} columns; needed at most {COLUMNS_MAX:,}"


def growth_fault(came_out: int, size_bytes: int, position: int) -> str:
    return (
        f"a Parquet file that grows to more than {RATIO_MAX} times its size: by record {position:,} "
        f"{came_out:,} bytes came out of {size_bytes:,}; needed at most {RATIO_MAX} times the size: "
        "the records as CSV or JSON, or several smaller files"
    )


def memory_fault(position: int) -> str:
    return (
        f"a Parquet file of which record {position:,} cannot be unpacked within {READ_MEMORY} of memory; "
        "needed smaller pages and row groups, shorter values, or the records as CSV or JSON"
    )


def _too_long(position: int, length: int) -> InvalidLine:
    reason = f"{length:,} bytes in one record, at most {RECORD_BYTES_MAX:,} are allowed"
    return InvalidLine(position, reason)


def _record(text: str, position: int) -> dict[str, Any] | InvalidLine:
    try:
        record: dict[str, Any] = DECODER.decode(text)
    except DECODE_ERRORS as error:
        return InvalidLine(position, explain(error))
    return record
