"""The schema inferred from data: types, date, key and subkey by fixed rules. Pure.

    infer_file(path) -> Schema | Refusal                    CSV, JSON or JSON lines, read in full
    infer_records(records) -> Schema | Refusal              parsed JSON records

The date is the first property whose values are all ISO 8601 dates. The key is the first text property that is
unique together with the date; else the first text property, with the first other property that makes the pair
unique as the subkey; else keys are generated. Without a date property the date is the day of ingestion, so
the key must be unique by itself. Index properties have a value in every record. `01/02/2020` stays text, as
do `007` and 5 beside "5". Lines that cannot be read are skipped.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from apperate.kernel.dates import has_time, parse_iso
from apperate.kernel.json_text import bad_body, shown
from apperate.kernel.refusals import Refusal
from datasets.files.csv_file import InvalidLine, Table
from datasets.files.parsing import open_source
from datasets.records.checking import INDEXED_BYTES_MAX
from datasets.records.coercion import INTEGER, type_of
from datasets.records.schema import KEY_TYPES, PROPERTIES_MAX, Property, PropertyType, Schema, name_fault

# How many values may be held to decide on uniqueness: about 80 bytes each.
ENTRIES_MAX = 2_000_000
# How many times the data may be read to find an index, before keys are generated.
PASSES_MAX = 20

# Texts longer than this are measured in bytes; shorter ones fit whatever their characters.
_SURE_CHARS = INDEXED_BYTES_MAX // 4

# A property's place in a record: a position among cells, a name among JSON properties.
Place = int | str
Record = Any  # list[str] of a CSV or dict[str, Any] of JSON; record[place] is the value
Reader = Callable[[], Iterator[Record]]


class Column:
    """What the values seen so far say about one property."""

    def __init__(self, name: str, place: Place) -> None:
        self.name = name
        self.place = place
        self.type: PropertyType | None = None
        self.present = 0
        self.has_time = False
        self.fits_index = True

    def see_cell(self, cell: str) -> None:
        """Take a CSV cell into account."""
        if not cell:
            return
        if self.type is PropertyType.INTEGER and INTEGER.fullmatch(cell):
            self.present += 1
            return
        # A text column stays one whatever follows; checking the type again would only cost time.
        kind = PropertyType.STRING if self.type is PropertyType.STRING else type_of(cell)
        self._see(kind, cell)
        if self.type is PropertyType.ANY:
            self.type = PropertyType.STRING

    def see_value(self, value: Any) -> None:
        """Take a parsed JSON value into account."""
        if value is not None:
            self._see(type_of_value(value), value if isinstance(value, str) else "")

    def _see(self, kind: PropertyType, text: str) -> None:
        self.present += 1
        if self.type is not kind:
            self.type = kind if self.type is None else merged(self.type, kind)
        if kind is PropertyType.DATE:
            self.has_time = self.has_time or has_time(text.strip())
        elif kind is PropertyType.STRING and not fits_index(text):
            self.fits_index = False

    def property(self, default: PropertyType, *, nullable: bool) -> Property:
        """The property inferred from these values; a column without values gets the default type."""
        kind = self.type or default
        is_moment = kind is PropertyType.DATE and self.has_time
        return Property(self.name, kind, nullable, date_format="date-time" if is_moment else "date")

    def can_be_indexed(self, rows: int) -> bool:
        """Whether every record has a value whose type and size fit an index."""
        return self.present == rows and self.type in KEY_TYPES and self.fits_index


def fits_index(text: str) -> bool:
    """Whether a text may be a key or subkey: not empty, and not too long."""
    return bool(text) and (
        len(text) <= _SURE_CHARS or len(text.encode(errors="replace")) <= INDEXED_BYTES_MAX
    )


def merged(one: PropertyType, other: PropertyType) -> PropertyType:
    """The type of a property with values of two JSON types."""
    kinds = {one, other}
    if kinds == {PropertyType.INTEGER, PropertyType.NUMBER}:
        return PropertyType.NUMBER
    if kinds == {PropertyType.DATE, PropertyType.STRING}:
        return PropertyType.STRING
    return PropertyType.ANY


def infer_file(path: Path) -> Schema | Refusal:
    """The schema inferred from a file, or why nothing can be read from it."""
    source = open_source(path)
    if isinstance(source, Refusal):
        return source
    broken: list[InvalidLine] = []

    def read() -> Iterator[Record]:
        for _, found in source.lines():
            if not isinstance(found, InvalidLine):
                yield found
            elif found.ends:
                broken.append(found)

    schema = _infer_table(source.header, read) if isinstance(source, Table) else _infer_json(read)
    if broken:
        return bad_body(f"The file is {broken[0].reason}.", needed="JSON, or CSV with a header line")
    return schema


def infer_records(records: Iterable[Mapping[str, Any]]) -> Schema | Refusal:
    """The schema inferred from parsed JSON records."""
    kept = list(records)
    return _infer_json(lambda: iter(kept))


def _infer_table(header: Sequence[str], read: Reader) -> Schema | Refusal:
    columns = [Column(name, place) for place, name in enumerate(header)]
    sights = [column.see_cell for column in columns]
    rows = 0
    for cells in read():
        rows += 1
        for see, cell in zip(sights, cells, strict=True):
            see(cell)
    return _schema(columns, rows, read, PropertyType.STRING)


def _infer_json(read: Reader) -> Schema | Refusal:
    columns: dict[str, Column] = {}
    rows = 0
    for record in read():
        rows += 1
        for name, value in record.items():
            column = columns.get(name)
            if column is None:
                if fault := name_fault(name):
                    return bad_body(f"The property name {shown(name)} cannot be used: needed {fault}.")
                if len(columns) == PROPERTIES_MAX:
                    return bad_body(f"The records have more than {PROPERTIES_MAX:,} different properties.")
                column = columns[name] = Column(name, name)
            column.see_value(value)
    return _schema(list(columns.values()), rows, read, PropertyType.ANY)


def type_of_value(value: Any) -> PropertyType:
    """The type of one non-null JSON value."""
    match value:
        case bool():
            return PropertyType.BOOLEAN
        case int():
            return PropertyType.INTEGER
        case Decimal() | float():
            return PropertyType.NUMBER
        case str():
            return PropertyType.DATE if parse_iso(value) else PropertyType.STRING
        case dict():
            return PropertyType.OBJECT
        case _:
            return PropertyType.ARRAY


def _schema(columns: Sequence[Column], rows: int, read: Reader, default: PropertyType) -> Schema | Refusal:
    """The properties, and the index found by rereading the data."""
    if not rows or not columns:
        return bad_body("The data has no records that can be read.", needed="at least one record")
    fitting = [column for column in columns if column.can_be_indexed(rows)]
    date = next((column for column in fitting if column.type is PropertyType.DATE), None)
    texts = [column for column in fitting if column.type is PropertyType.STRING]
    seconds = [column for column in fitting if texts and column not in (texts[0], date)]
    candidates: list[tuple[Place, ...]] = [(column.place,) for column in texts]
    candidates += [(texts[0].place, column.place) for column in seconds]
    index = first_unique(candidates, date.place if date else None, rows, read)
    name_at = {column.place: column.name for column in columns}
    key, subkey = ([name_at[place] for place in index] + [None, None])[:2]
    indexed = {key, subkey, date.name if date else None}
    properties = tuple(column.property(default, nullable=column.name not in indexed) for column in columns)
    return Schema(properties, key, subkey, date.name if date else None)


def first_unique(
    candidates: Sequence[tuple[Place, ...]], date: Place | None, rows: int, read: Reader
) -> tuple[Place, ...]:
    """The first candidate, one or two places, whose values are unique with the date; () for none.

    The data is read at most PASSES_MAX times and at most ENTRIES_MAX values are held: candidates are tried
    in groups that fit, and one that does not fit by itself is split into parts.
    """
    size = max(1, ENTRIES_MAX // rows)
    parts = -(-rows // ENTRIES_MAX)
    passes = 0
    for start in range(0, len(candidates), size):
        group = list(candidates[start : start + size])
        for part in range(parts):
            passes += 1
            if passes > PASSES_MAX:
                return ()
            group = _unique_in(group, date, read, part, parts)
            if not group:
                break
        if group:
            return group[0]
    return ()


def _unique_in(
    group: Sequence[tuple[Place, ...]], date: Place | None, read: Reader, part: int, parts: int
) -> list[tuple[Place, ...]]:
    """The candidates of a group that are unique among the values whose hash falls into this part."""
    seen: dict[tuple[Place, ...], set[int]] = {candidate: set() for candidate in group}
    for record in read():
        day = None if date is None else parse_iso(record[date].strip())
        for candidate, hashes in list(seen.items()):
            digest = hash((day, *[record[place] for place in candidate]))
            if digest % parts != part:
                continue
            if digest in hashes:
                del seen[candidate]
            else:
                hashes.add(digest)
        if not seen:
            break
    return list(seen)
