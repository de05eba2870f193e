"""A Parquet file as records, read by DuckDB, which sees that one file and nothing else. Pure.

    read_parquet(path) -> iterator of (position, record | InvalidLine)

DuckDB writes each row as JSON text, which the parser of json_text.py reads: dates become ISO texts, nested
columns objects and arrays, and NaN is refused as everywhere. It may neither open other files nor load
extensions, and holds at most MEMORY_LIMIT.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb

from datasets.csv_file import InvalidLine
from datasets.file_text import position as reading
from datasets.json_text import DECODE_ERRORS, DECODER, explain

MEMORY_LIMIT = "256MB"
ROWS_AT_ONCE = 1_000


def connect(path: Path) -> duckdb.DuckDBPyConnection:
    """A DuckDB of its own that can read this file alone."""
    quoted = str(path).replace("'", "''")
    return confined(f"allowed_paths = ['{quoted}']")


def confined(allowed: str) -> duckdb.DuckDBPyConnection:
    """A DuckDB that sees what the setting `allowed` says, and whose settings cannot be changed any more."""
    connection = duckdb.connect(":memory:")
    for setting in (
        allowed,
        "autoinstall_known_extensions = false",
        "autoload_known_extensions = false",
        f"memory_limit = '{MEMORY_LIMIT}'",
        "temp_directory = ''",
        "threads = 1",
        "TimeZone = 'UTC'",
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        connection.execute(f"SET {setting}")
    return connection


def read_parquet(path: Path) -> Iterator[tuple[int, dict[str, Any] | InvalidLine]]:
    """The rows of a Parquet file with their position from 1; a damaged file ends with an InvalidLine."""
    position = 0
    seen, size_bytes = reading.get(), path.stat().st_size
    with connect(path) as connection:
        try:
            total = _count(connection, path)
            rows = connection.execute("SELECT to_json(p)::VARCHAR FROM read_parquet(?) p", [str(path)])
            while texts := rows.fetchmany(ROWS_AT_ONCE):
                for (text,) in texts:
                    position += 1
                    yield position, _record(text, position)
                if seen is not None:
                    seen.bytes = size_bytes * position // max(total, 1)
        except duckdb.Error as error:
            # DuckDB's message may name the file's place on the server.
            reason = f"not a Parquet file that can be read ({type(error).__name__})"
            yield position + 1, InvalidLine(position + 1, reason, ends=True)


def _count(connection: duckdb.DuckDBPyConnection, path: Path) -> int:
    """How many rows the file says it has."""
    found = connection.execute("SELECT count(*) FROM read_parquet(?)", [str(path)]).fetchone()
    return int(found[0]) if found else 0


def _record(text: str, position: int) -> dict[str, Any] | InvalidLine:
    try:
        record: dict[str, Any] = DECODER.decode(text)
    except DECODE_ERRORS as error:
        return InvalidLine(position, explain(error))
    return record
