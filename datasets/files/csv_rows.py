"""The lines of a CSV as rows of a dataset: cells become JSON according to the schema's types. Pure.

Each column's conversion is chosen once per file and a row's JSON text is written directly, which is why a
million lines take only seconds. The text is the same that checking.py would write for these values.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from json.encoder import encode_basestring

from apperate.kernel.dates import day_of, parse_date
from apperate.kernel.json_text import DECODER, bad_body, shown
from apperate.kernel.refusals import Refusal
from datasets.files.csv_file import NAMES_SHOWN_MAX, InvalidLine, Table
from datasets.records.checking import (
    ERRORS_MAX,
    NEEDED,
    RECORD_BYTES_MAX,
    Row,
    generated_key,
    index_fault,
    text_fault,
)
from datasets.records.coercion import CONVERSIONS, CellFault, cell_error
from datasets.records.schema import PropertyType, Schema

UTF8_BYTES_MAX = 4

# A line number, and the row on that line or why there is none.
Item = tuple[int, Row | InvalidLine]


def csv_rows(table: Table, schema: Schema, now: datetime) -> Iterator[Item] | Refusal:
    """The rows of a table; Refusal when its header does not match the schema."""
    unknown = [shown(name) for name in table.header if schema.get(name) is None]
    if unknown:
        names = ", ".join(unknown[:NAMES_SHOWN_MAX])
        detail = f"The header names columns that are not properties of the dataset: {names}."
        return bad_body(detail, received=names, needed=_some(schema.names))
    missing = [
        found.name for found in schema.properties if not found.nullable and found.name not in table.header
    ]
    if missing:
        names = _some(missing)
        return bad_body(f"The header lacks required columns: {names}.", needed=names)
    return _rows(table, schema, now)


def _some(names: Sequence[str]) -> str:
    more = ", …" if len(names) > NAMES_SHOWN_MAX else ""
    return ", ".join(map(shown, names[:NAMES_SHOWN_MAX])) + more


def _rows(table: Table, schema: Schema, now: datetime) -> Iterator[Item]:
    convert = RowConverter(table.header, schema, now)
    for number, cells in table.lines():
        if isinstance(cells, InvalidLine):
            yield number, cells
            continue
        row = convert.row(cells)
        yield number, row if isinstance(row, Row) else InvalidLine(number, "; ".join(row))


class RowConverter:
    """Turns the cells of one file's rows into rows of a dataset."""

    def __init__(self, header: Sequence[str], schema: Schema, now: datetime) -> None:
        self._day = day_of(now)
        found = [schema.get(name) for name in header]
        self._columns = [column for column in found if column is not None]
        self._prefixes = [f"{encode_basestring(name)}:" for name in header]
        self._conversions: list[Callable[[str], str]] = [CONVERSIONS[column.type] for column in self._columns]
        self._required = [at for at, column in enumerate(self._columns) if not column.nullable]
        position = {name: index for index, name in enumerate(header)}
        self._key = None if schema.key is None else position[schema.key]
        self._subkey = None if schema.subkey is None else position[schema.subkey]
        self._date = None if schema.date is None else position[schema.date]

    def row(self, cells: Sequence[str]) -> Row | tuple[str, ...]:
        """The row from as many cells as the header has, or its faults, at most 20."""
        try:
            texts = [
                convert(cell) if cell else "null"
                for convert, cell in zip(self._conversions, cells, strict=True)
            ]
        except CellFault:
            return self._errors(cells)
        for at in self._required:
            if not cells[at]:
                return self._errors(cells)
        data = f"{{{','.join(map(str.__add__, self._prefixes, texts))}}}"
        if len(data) * UTF8_BYTES_MAX > RECORD_BYTES_MAX and (fault := text_fault(data)):
            return (fault,)
        return self._indexed(texts, data)

    def _indexed(self, texts: Sequence[str], data: str) -> Row | tuple[str, ...]:
        key = generated_key(DECODER.decode(data)) if self._key is None else plain(texts[self._key])
        subkey = "" if self._subkey is None else plain(texts[self._subkey])
        date = self._day if self._date is None else parse_date(plain(texts[self._date]))
        if date is not None and not index_fault(key) and (self._subkey is None or not index_fault(subkey)):
            return Row(key, subkey, date, data)
        faults = [
            cell_error(self._columns[at].name, text, fault)
            for at, text in ((self._key, key), (self._subkey, subkey))
            if at is not None and (fault := index_fault(text))
        ]
        if date is None and self._date is not None:
            name = self._columns[self._date].name
            faults.append(cell_error(name, plain(texts[self._date]), NEEDED[PropertyType.DATE]))
        return tuple(faults)

    def _errors(self, cells: Sequence[str]) -> tuple[str, ...]:
        """Every fault of a row, found by parsing it again cell by cell."""
        errors: list[str] = []
        for column, convert, cell in zip(self._columns, self._conversions, cells, strict=True):
            if not cell:
                if not column.nullable:
                    needed = f"{NEEDED[column.type]}, because it is required"
                    errors.append(f"{shown(column.name)}: received an empty cell, needed {needed}")
                continue
            try:
                convert(cell)
            except CellFault as fault:
                errors.append(cell_error(column.name, cell, fault))
        return tuple(errors[:ERRORS_MAX])


def plain(text: str) -> str:
    """The text that a key or date is stored and queried by, from its JSON text."""
    if text[0] != '"':
        return text
    return text[1:-1] if "\\" not in text else str(DECODER.decode(text))
