"""A CSV file as lines of cells: bounded in memory, every bad line reported with its number. Pure.

    read_csv(path, delimiter) -> Table | Refusal
    Table.header, Table.lines() -> iterator of (line_number, list of cells | InvalidLine)

The standard library's parser is used because it continues after a bad line, accepts mixed line ends, and
knows the line each row begins on. Blank lines are skipped. An unclosed quote costs the lines up to the
field limit, and the report says so. Source: docs/security-checks.md, S41.
"""

import csv
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TextIO

from apperate.kernel.cells import unescape_cell
from apperate.kernel.json_text import bad_body, shown
from apperate.kernel.refusals import Refusal
from datasets.files.file_text import open_text
from datasets.records.schema import PROPERTIES_MAX, name_fault

FIELD_CHARS_MAX = 131_072
LINE_CHARS_MAX = 1_000_000
NAMES_SHOWN_MAX = 10


class InvalidLine(NamedTuple):
    """A line that is not a record, and why. `ends`: the file cannot be read beyond it."""

    line: int
    reason: str
    ends: bool = False


class LineTooLong(ValueError):
    """Raised by Lines for one line; the lines after it can still be read."""


class Lines(Iterator[str]):
    """The lines of a text file; at most LINE_CHARS_MAX of one are held in memory."""

    def __init__(self, file: TextIO) -> None:
        self.number = 0
        self._file = file

    def __next__(self) -> str:
        line = self._file.readline(LINE_CHARS_MAX)
        if not line:
            raise StopIteration
        self.number += 1
        if len(line) == LINE_CHARS_MAX and not line.endswith(("\n", "\r")):
            while (rest := self._file.readline(LINE_CHARS_MAX)) and not rest.endswith(("\n", "\r")):
                pass
            raise LineTooLong(f"the line has more than {LINE_CHARS_MAX:,} characters")
        return line


@dataclass(frozen=True, slots=True)
class Table:
    """A CSV file with a valid header. Each call of lines() reads the file again."""

    path: Path
    delimiter: str
    header: tuple[str, ...]

    def lines(self) -> Iterator[tuple[int, list[str] | InvalidLine]]:
        """Each row with the number of the line it begins on; a row has as many cells as the header."""
        with open_text(self.path) as file:
            rows = _rows(file, self.delimiter)
            next(rows, None)
            for number, cells in rows:
                if isinstance(cells, list) and len(cells) != len(self.header):
                    came = f"{len(cells)} column{'s' if len(cells) > 1 else ''}"
                    yield number, InvalidLine(number, f"received {came}, needed {len(self.header)}")
                else:
                    yield number, cells


def read_csv(path: Path, delimiter: str) -> Table | Refusal:
    """The table in a CSV file, or what is wrong with its header."""
    with open_text(path) as file:
        first = next(_rows(file, delimiter), None)
    if first is None:
        return bad_body("The file is empty.", needed="a header line and at least one row")
    if isinstance(first[1], InvalidLine):
        return bad_body(f"The header in line {first[0]} cannot be read: {first[1].reason}.")
    header = tuple(unescape_cell(name) for name in first[1])
    return _header_fault(header) or Table(path, delimiter, header)


def _header_fault(header: tuple[str, ...]) -> Refusal | None:
    if len(header) > PROPERTIES_MAX:
        return bad_body(
            f"The header has {len(header):,} columns, at most {PROPERTIES_MAX:,} are allowed.",
            received=f"{len(header):,} columns",
            needed=f"at most {PROPERTIES_MAX:,} columns",
        )
    twice = [shown(name) for name, count in Counter(header).items() if count > 1 and name]
    if twice:
        names = ", ".join(twice[:NAMES_SHOWN_MAX])
        return bad_body(
            f"The header names columns twice: {names}.", received=names, needed="names that differ"
        )
    for position, name in enumerate(header, 1):
        if not name.strip():
            return bad_body(f"Column {position} has no name in the header.", needed="a name for each column")
        if fault := name_fault(name):
            return bad_body(
                f"The name of column {position} cannot be used: needed {fault}.", received=shown(name)
            )
    return None


def _rows(file: TextIO, delimiter: str) -> Iterator[tuple[int, list[str] | InvalidLine]]:
    """Every row that is not blank, with the number of the line it begins on."""
    lines = Lines(file)
    rows = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        number = lines.number + 1
        try:
            cells = next(rows)
        except StopIteration:
            return
        except (csv.Error, LineTooLong) as error:
            yield number, InvalidLine(number, _explain(error, number, lines.number))
        else:
            if cells:
                yield number, cells


def _explain(error: Exception, first: int, last: int) -> str:
    """Why the row on these lines cannot be read, in terms of the file rather than the parser."""
    reason = str(error)
    if "field limit" in reason:
        reason = f"a field has more than {FIELD_CHARS_MAX:,} characters"
    elif "unexpected end" in reason:
        reason = "a quote is not closed"
    elif "expected after" in reason:
        reason = "a quoted field goes on after its closing quote; a quote inside is written twice"
    if last > first:
        reason += f"; lines {first} to {last} were taken as one row, because of a quote"
    return reason
