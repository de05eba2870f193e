"""A file of unknown format as records or as checked rows. Pure.

    sniff(path) -> Sniffed | Refusal                 what the bytes are, whatever their name says
    open_rows(path, schema, now) -> Iterator[(line_number, Row | InvalidLine)] | Refusal
    open_source(path) -> Table | Records | Refusal   the same before any schema: header and cells, or objects

Faults of the whole file are Refusals (check "body"); faults of one line are InvalidLine(line, reason, ends)
among the rows. `ends=True` means that the file is broken there: nothing after it was read. Lines are numbered
from 1; in a JSON array and in Parquet the number is the record's position. Memory is bounded whatever the
size of the file or of a line.
"""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from apperate.kernel.json_text import DECODE_ERRORS, DECODER, bad_body, forgotten_serialisation
from apperate.kernel.refusals import Refusal
from datasets.files.csv_file import InvalidLine, Table, read_csv
from datasets.files.csv_rows import Item, csv_rows
from datasets.files.file_text import file_fault, is_parquet, read_sample
from datasets.files.json_file import read_json, read_jsonl
from datasets.files.parquet_file import read_parquet
from datasets.records.checking import RecordChecker, Row
from datasets.records.schema import Schema

DELIMITERS = (",", "\t", "|")
SNIFFED_ROWS_MAX = 50
_FORGOTTEN = "[object "


class Format(StrEnum):
    """The formats a file may have."""

    CSV = "csv"
    JSON = "json"
    JSONL = "jsonl"
    PARQUET = "parquet"


class Sniffed(NamedTuple):
    """What a file is; `delimiter` applies only to CSV."""

    format: Format
    delimiter: str = ","


@dataclass(frozen=True, slots=True)
class Records:
    """A JSON, JSON-lines or Parquet file. Each call of lines() reads the file again."""

    path: Path
    format: Format

    def lines(self) -> Iterator[tuple[int, dict[str, Any] | InvalidLine]]:
        """Each record with its position or line number."""
        readers = {Format.JSON: read_json, Format.JSONL: read_jsonl, Format.PARQUET: read_parquet}
        return readers[self.format](self.path)


def sniff(path: Path) -> Sniffed | Refusal:
    """What a file is by its content; Refusal when it is not storable text."""
    if is_parquet(path):
        return Sniffed(Format.PARQUET)
    if refusal := file_fault(path):
        return refusal
    sample, is_all = read_sample(path)
    beginning = sample.lstrip()
    if beginning.startswith(_FORGOTTEN):
        return forgotten_serialisation()
    if beginning.startswith("["):
        return Sniffed(Format.JSON)
    if beginning.startswith("{"):
        return Sniffed(Format.JSONL if _is_line_of_json(beginning) else Format.JSON)
    return Sniffed(Format.CSV, _delimiter(sample, is_all=is_all))


def _is_line_of_json(beginning: str) -> bool:
    """Whether the first line is, or tries to be, an object by itself, not the start of a multi-line one."""
    first = beginning.splitlines()[0].rstrip()
    try:
        return isinstance(DECODER.decode(first), dict)
    except DECODE_ERRORS:
        return len(first) > 1 and first.endswith("}")


def _delimiter(sample: str, *, is_all: bool) -> str:
    """The delimiter by which most rows have as many columns as the first row, and more than one."""
    best, best_score = DELIMITERS[0], (0.0, 1)
    for delimiter in DELIMITERS:
        counts: list[int] = []
        try:
            for cells in csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter):
                counts.extend([len(cells)] if cells else [])
                if len(counts) > SNIFFED_ROWS_MAX:
                    break
        except csv.Error:
            pass
        if not is_all and len(counts) > 1:
            # The last row of a sample may be cut off.
            counts.pop()
        if counts and counts[0] > 1:
            score = (sum(count == counts[0] for count in counts) / len(counts), counts[0])
            best, best_score = (delimiter, score) if score > best_score else (best, best_score)
    return best


def open_source(path: Path) -> Table | Records | Refusal:
    """The file as something to read line by line, before any schema is known."""
    sniffed = sniff(path)
    if isinstance(sniffed, Refusal):
        return sniffed
    if sniffed.format is Format.CSV:
        return read_csv(path, sniffed.delimiter)
    return Records(path, sniffed.format)


def open_rows(path: Path, schema: Schema, now: datetime) -> Iterator[Item] | Refusal:
    """The file's lines as rows of a dataset; Refusal when none of it can be used.

    Each item is (line_number, Row) or (line_number, InvalidLine). Close the iterator if you stop before
    the end.
    """
    source = open_source(path)
    if isinstance(source, Refusal):
        return source
    rows = csv_rows(source, schema, now) if isinstance(source, Table) else json_rows(source, schema, now)
    if isinstance(rows, Refusal):
        return rows
    first = next(rows, None)
    if first is None:
        return bad_body("The file has no rows.", needed="at least one record")
    if isinstance(first[1], InvalidLine) and first[1].ends:
        return bad_body(f"The file is {first[1].reason}.", needed="JSON, or CSV with a header line")
    return _from_first(first, rows)


def json_rows(records: Records, schema: Schema, now: datetime) -> Iterator[Item]:
    """The records of a JSON or Parquet file as rows."""
    checker = RecordChecker(schema, now=now)
    for number, record in records.lines():
        if isinstance(record, InvalidLine):
            yield number, record
            continue
        row = checker.check(record)
        yield number, row if isinstance(row, Row) else InvalidLine(number, "; ".join(row))


def _from_first(first: Item, rest: Iterator[Item]) -> Iterator[Item]:
    """The item that was read to look at, then the rest."""
    yield first
    yield from rest
