"""Checks one record against a dataset's schema, and makes its row. Pure.

    RecordChecker(schema, now=…).check(record) -> Row | tuple[str, …]     errors, one sentence each
    Row(key, subkey, date, data)                                          what writes.py stores

The record is stored as sent: its own order of names, numbers as written, absent properties absent.
Without a key property the key is generated: the first 32 hex characters of SHA-256 over the record's
canonical JSON (names sorted, nulls left out, no white space), so the same record has the same key.
Without a date property the date is the UTC day of `now`. Source: docs/api.md.
"""

import hashlib
import math
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from apperate.kernel.dates import day_of, parse_date
from apperate.kernel.json_text import dumps, dumps_canonical, kind_of, shown
from datasets.records.schema import Property, PropertyType, Schema

RECORD_BYTES_MAX = 65_536
INDEXED_BYTES_MAX = 1_500
INDEX_BYTES_MAX = 2_600  # an index row holds 2,704 bytes, including the date and the ids
DEPTH_MAX = 100
ERRORS_MAX = 20
GENERATED_KEY_CHARS = 32
# Beyond this most clients, including JavaScript, read Infinity.
NUMBER_MAX = Decimal(repr(1.7976931348623157e308))
_INTEGER_MAX = int(NUMBER_MAX)
_EXPONENT_MAX = NUMBER_MAX.adjusted()


class Row(NamedTuple):
    """A checked record: its unique index (subkey "" if there is none), and its JSON text."""

    key: str
    subkey: str
    date: datetime
    data: str


class RecordChecker:
    """Checks records of one dataset; made once per dataset and request or job, whose time is `now`."""

    def __init__(self, schema: Schema, *, now: datetime) -> None:
        self.schema = schema
        self.day = day_of(now)
        self._faults = {found.name: FAULTS[found.type] for found in schema.properties}
        self._required = tuple(found for found in schema.properties if not found.nullable)

    def check(self, record: Mapping[str, Any]) -> Row | tuple[str, ...]:
        """A record's row, or its faults (at most 20): the property, what was received, what is right."""
        errors: list[str] = []
        faults = self._faults
        for name, value in record.items():
            find_fault = faults.get(name)
            if find_fault is None:
                errors.append(f"{shown(name)} is not a property of this dataset")
            elif value is not None and (needed := find_fault(value)):
                errors.append(f"{shown(name)}: received {_received(value)}, needed {needed}")
        errors.extend(_missing(found, record) for found in self._required if record.get(found.name) is None)
        if errors:
            return tuple(errors[:ERRORS_MAX])
        data = dumps(record)
        problem = text_fault(data)
        return (_named(problem, record),) if problem else self.row(record, data)

    def row(self, record: Mapping[str, Any], data: str) -> Row | tuple[str, ...]:
        """The row of a record whose values have the right types and whose text is known to be storable."""
        schema, errors = self.schema, []
        key = generated_key(record) if schema.key is None else index_text(record[schema.key])
        subkey = "" if schema.subkey is None else index_text(record[schema.subkey])
        for name, text in ((schema.key, key), (schema.subkey, subkey)):
            if name is not None and (needed := index_fault(text)):
                errors.append(f"{shown(name)}: received {_received(text)}, needed {needed}")
        if schema.key is not None and schema.subkey is not None and not errors:
            together = len(key.encode()) + len(subkey.encode())
            if together > INDEX_BYTES_MAX:
                errors.append(
                    f"{shown(schema.key)} and {shown(schema.subkey)}: received {together:,} bytes together, "
                    f"needed at most {INDEX_BYTES_MAX:,}, because they are the record's unique index"
                )
        moment = self.day if schema.date is None else parse_date(index_text(record[schema.date]))
        if moment is None and schema.date is not None:
            received = _received(record[schema.date])
            errors.append(f"{shown(schema.date)}: received {received}, needed {NEEDED[PropertyType.DATE]}")
        if errors or moment is None:
            return tuple(errors)
        return Row(key, subkey, moment, data)


def generated_key(record: Mapping[str, Any]) -> str:
    """The key of a record without a key property: a hash of its values, 32 lower-case hex characters."""
    present = {name: value for name, value in record.items() if value is not None}
    return hashlib.sha256(dumps_canonical(present).encode()).hexdigest()[:GENERATED_KEY_CHARS]


def index_text(value: Any) -> str:
    """The text that a key or subkey is stored and queried by: text as is, numbers as their JSON text."""
    return value if isinstance(value, str) else dumps(value)


def index_fault(text: str) -> str | None:
    """What an indexed text must be, if it is not."""
    if not text:
        return "a text that is not empty, because it is part of the record's unique index"
    if len(text) * 4 > INDEXED_BYTES_MAX and len(text.encode()) > INDEXED_BYTES_MAX:
        return f"at most {INDEXED_BYTES_MAX:,} bytes, because it is part of the record's unique index"
    return None


def text_fault(data: str) -> str | None:
    """Why a record's JSON text cannot be stored, if so: too long, NUL, or half a surrogate pair."""
    try:
        size_bytes = len(data.encode())
    except UnicodeEncodeError as error:
        return f"half of a surrogate pair, {ascii(data[error.start])}, is not a character"
    if size_bytes > RECORD_BYTES_MAX:
        return f"{size_bytes:,} bytes in one record, at most {RECORD_BYTES_MAX:,} are allowed"
    # After an even number of backslashes, u0000 is just letters, not a NUL.
    if "\\u0000" in data and "\\u0000" in data.replace("\\\\", ""):
        return "a NUL character (\\u0000) cannot be stored"
    return None


def _missing(found: Property, record: Mapping[str, Any]) -> str:
    came = "null" if found.name in record else "nothing"
    return f"{shown(found.name)}: received {came}, needed {NEEDED[found.type]}, because it is required"


def _named(problem: str, record: Mapping[str, Any]) -> str:
    """A problem with the record's text, with the property that has it."""
    at_fault = (name for name, value in record.items() if text_fault(dumps([name, value])) is not None)
    name = next(at_fault, None)
    return problem if name is None else f"{shown(name)}: {problem}"


def _received(value: Any) -> str:
    kind = kind_of(value)
    text = shown(value)
    return text if kind in ("null", "an object", "an array") else f"{kind.removeprefix('a ')} {text}"


def _number_fault(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | Decimal | float):
        return NEEDED[PropertyType.NUMBER]
    return _size_fault(value)


def _integer_fault(value: Any) -> str | None:
    if type(value) is int:
        return _size_fault(value)
    if isinstance(value, Decimal | float):
        # 5.0 is an integer in JSON Schema; it is stored as written.
        return _size_fault(value) or (None if value == int(value) else NEEDED[PropertyType.INTEGER])
    return NEEDED[PropertyType.INTEGER]


def _size_fault(value: int | Decimal | float) -> str | None:
    if isinstance(value, int):
        return None if -_INTEGER_MAX <= value <= _INTEGER_MAX else _SIZE_NEEDED
    if isinstance(value, float):
        return None if math.isfinite(value) else _SIZE_NEEDED
    # The exponent first: arithmetic with a huge one overflows the decimal context.
    if not value.is_finite() or (value and value.adjusted() > _EXPONENT_MAX) or value.copy_abs() > NUMBER_MAX:
        return _SIZE_NEEDED
    return None


def _string_fault(value: Any) -> str | None:
    return None if isinstance(value, str) else NEEDED[PropertyType.STRING]


def _boolean_fault(value: Any) -> str | None:
    return None if isinstance(value, bool) else NEEDED[PropertyType.BOOLEAN]


def _date_fault(value: Any) -> str | None:
    return None if isinstance(value, str) and parse_date(value) else NEEDED[PropertyType.DATE]


def _object_fault(value: Any) -> str | None:
    return _nested_fault(value) if isinstance(value, dict) else NEEDED[PropertyType.OBJECT]


def _array_fault(value: Any) -> str | None:
    return _nested_fault(value) if isinstance(value, list) else NEEDED[PropertyType.ARRAY]


def _nested_fault(value: Any) -> str | None:
    """What a nested value must be, if it is not; walks without recursion."""
    level, depth = [value], 1
    while level:
        depth += 1
        if depth > DEPTH_MAX + 1:
            return f"at most {DEPTH_MAX} levels of nesting"
        deeper: list[Any] = []
        for found in level:
            if isinstance(found, dict):
                if not all(isinstance(name, str) for name in found):
                    return "text as names in objects"
                deeper.extend(found.values())
            elif isinstance(found, list):
                deeper.extend(found)
            elif isinstance(found, int | Decimal | float):
                if fault := _size_fault(found):
                    return fault
            elif found is not None and not isinstance(found, str):
                return "JSON values"
        level = deeper
    return None


_SIZE_NEEDED = "a finite number between -1.8e308 and 1.8e308"
NEEDED: dict[PropertyType, str] = {
    PropertyType.DATE: "an ISO 8601 date that exists, like 2024-02-29 or 2024-02-29T12:30:00Z, or a year",
    PropertyType.NUMBER: "a number",
    PropertyType.INTEGER: "an integer",
    PropertyType.STRING: "text",
    PropertyType.OBJECT: "an object",
    PropertyType.ARRAY: "an array",
    PropertyType.BOOLEAN: "true or false",
    PropertyType.ANY: "a value",
}
FAULTS: dict[PropertyType, Callable[[Any], str | None]] = {
    PropertyType.DATE: _date_fault,
    PropertyType.NUMBER: _number_fault,
    PropertyType.INTEGER: _integer_fault,
    PropertyType.STRING: _string_fault,
    PropertyType.OBJECT: _object_fault,
    PropertyType.ARRAY: _array_fault,
    PropertyType.BOOLEAN: _boolean_fault,
    PropertyType.ANY: _nested_fault,
}
