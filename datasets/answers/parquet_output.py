"""Records as a Parquet file, written by DuckDB, which can access only one temporary folder.

    ParquetOutput(folder, columns): add(texts) …, then finish() -> path of the file
    parquet_bytes(texts, columns) -> bytes

`columns` maps names to PropertyTypes, in order. Integers are 64-bit, or text in a column that holds a
larger one; numbers are doubles, dates are UTC timestamps; objects, arrays and values of any type are JSON
text. Every answer can be written: a refusal would reveal something about values nobody has paid for. Pure.
"""

import contextlib
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from apperate.kernel.dates import parse_date
from apperate.kernel.json_text import DECODER, dumps
from datasets.files.parquet_file import confined
from datasets.records.schema import PropertyType

INTEGER_MAX = 2**63 - 1
OBJECT_BYTES_MAX = 1 << 24


def _is_wide(value: Any) -> bool:
    """Whether an integer needs more than 64 bits."""
    return not -INTEGER_MAX - 1 <= value <= INTEGER_MAX


def _moment(value: Any) -> str | None:
    moment = parse_date(value) if isinstance(value, str) else None
    return moment.isoformat() if moment else None


# How a value is written for DuckDB, and the type of its column.
_WRITTEN: Mapping[PropertyType, tuple[str, Callable[[Any], Any]]] = {
    PropertyType.STRING: ("VARCHAR", str),
    PropertyType.INTEGER: ("BIGINT", int),
    PropertyType.NUMBER: ("DOUBLE", float),
    PropertyType.BOOLEAN: ("BOOLEAN", bool),
    PropertyType.DATE: ("TIMESTAMPTZ", _moment),
    PropertyType.OBJECT: ("VARCHAR", dumps),
    PropertyType.ARRAY: ("VARCHAR", dumps),
    PropertyType.ANY: ("VARCHAR", dumps),
}


class ParquetOutput:
    """Collects records in a file of lines, and converts that to Parquet at the end, in bounded memory."""

    def __init__(self, folder: Path, columns: Mapping[str, PropertyType]) -> None:
        self.folder = folder
        self.columns = [(name, *_WRITTEN[kind]) for name, kind in columns.items()]
        self.texts: set[int] = set()  # integer columns that are written as text
        self.lines = folder / "rows.ndjson"
        self._file = self.lines.open("w", encoding="utf-8")

    def add(self, texts: Iterable[str]) -> None:
        """The next records, as JSON texts."""
        for text in texts:
            record = DECODER.decode(text)
            row: dict[str, Any] = {}
            for number, (name, kind, write) in enumerate(self.columns):
                if (value := record.get(name)) is not None:
                    row[f"c{number}"] = written = write(value)
                    if kind == "BIGINT" and _is_wide(written):
                        self.texts.add(number)
            self._file.write(dumps(row) + "\n")

    def close(self) -> None:
        self._file.close()

    def finish(self) -> Path:
        """The file with every record, its columns in order."""
        self.close()
        path = self.folder / "records.parquet"
        types = ", ".join(
            f"c{number}: '{'VARCHAR' if number in self.texts else kind}'"
            for number, (_, kind, _) in enumerate(self.columns)
        )
        names = ", ".join(f"c{number} AS {quoted(name)}" for number, (name, *_) in enumerate(self.columns))
        with confined(f"allowed_directories = ['{_literal(self.folder)}']") as connection:
            connection.execute(
                f"""COPY (SELECT {names} FROM read_json('{_literal(self.lines)}', format='newline_delimited',
                         columns={{{types}}}, maximum_object_size={OBJECT_BYTES_MAX}))
                      TO '{_literal(path)}' (FORMAT parquet, COMPRESSION zstd)"""  # noqa: S608
            )
        self.lines.unlink()
        return path


def parquet_bytes(texts: Iterable[str], columns: Mapping[str, PropertyType]) -> bytes:
    """A whole Parquet file."""
    with (
        tempfile.TemporaryDirectory(prefix="apperate-parquet-") as name,
        contextlib.closing(ParquetOutput(Path(name), columns)) as output,
    ):
        output.add(texts)
        return output.finish().read_bytes()


def quoted(name: str) -> str:
    """A property name as a quoted column name."""
    return '"' + name.replace('"', '""') + '"'


def _literal(path: Path) -> str:
    return str(path).replace("'", "''")
