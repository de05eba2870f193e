"""CSV cells as JSON: the type of a text, and its JSON text for a property's type. Pure.

Only JSON's own spelling is a number, so `007` and `1,5` stay text. Spaces around numbers, dates and
booleans are dropped; text is unchanged. An empty cell is null. JSON text is made without going through
Python numbers, so digits stay as written.
"""

import re
from collections.abc import Callable
from json.encoder import encode_basestring

from apperate.kernel.cells import unescape_cell
from apperate.kernel.dates import parse_date, parse_iso
from apperate.kernel.json_text import DECODE_ERRORS, DECODER, dumps, explain, shown
from datasets.records.checking import FAULTS, NEEDED, text_fault
from datasets.records.schema import PropertyType

INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,307})")
NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,307})(?:\.[0-9]{1,1000})?(?:[eE][+-]?[0-9]{1,3})?")
# Numbers without an exponent, whose size needs no check.
_PLAIN_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,307})(?:\.[0-9]{1,1000})?").fullmatch
TRUTHS = {"true": "true", "false": "false"}


class CellFault(ValueError):
    """Raised only inside a conversion, with what the cell should be."""


def _number(cell: str) -> str:
    if _PLAIN_NUMBER(cell):
        return cell
    text = cell.strip()
    if not NUMBER.fullmatch(text):
        raise CellFault(NEEDED[PropertyType.NUMBER])
    _check(PropertyType.NUMBER, text)
    return text


def _integer(cell: str) -> str:
    if INTEGER.fullmatch(cell):
        return cell
    text = cell.strip()
    if not INTEGER.fullmatch(text):
        _check(PropertyType.INTEGER, text if NUMBER.fullmatch(text) else "null")
    return text


def _boolean(cell: str) -> str:
    truth = TRUTHS.get(cell.strip().lower())
    if truth is None:
        raise CellFault(NEEDED[PropertyType.BOOLEAN])
    return truth


def _date(cell: str) -> str:
    text = cell.strip()
    if parse_date(text) is None:
        raise CellFault(NEEDED[PropertyType.DATE])
    return f'"{text}"'


def _string(cell: str) -> str:
    return encode_basestring(unescape_cell(cell))


def _any(cell: str) -> str:
    text = cell.strip()
    if truth := TRUTHS.get(text):
        return truth
    return _number(text) if NUMBER.fullmatch(text) else _string(cell)


def _object(cell: str) -> str:
    return _check(PropertyType.OBJECT, cell)


def _array(cell: str) -> str:
    return _check(PropertyType.ARRAY, cell)


def _check(kind: PropertyType, text: str) -> str:
    """The JSON text of a value whose type is known only after parsing it."""
    try:
        value = DECODER.decode(text)
    except DECODE_ERRORS as error:
        raise CellFault(f"{NEEDED[kind]} as JSON; {explain(error)}") from None
    if fault := NEEDED[kind] if value is None else FAULTS[kind](value):
        raise CellFault(fault)
    written = dumps(value)
    if fault := text_fault(written):
        raise CellFault(f"{NEEDED[kind]} without faults; {fault}")
    return written


# The JSON text of a non-empty cell. Each raises CellFault.
CONVERSIONS: dict[PropertyType, Callable[[str], str]] = {
    PropertyType.DATE: _date,
    PropertyType.NUMBER: _number,
    PropertyType.INTEGER: _integer,
    PropertyType.STRING: _string,
    PropertyType.OBJECT: _object,
    PropertyType.ARRAY: _array,
    PropertyType.BOOLEAN: _boolean,
    PropertyType.ANY: _any,
}


def cell_error(name: str, cell: str, needed: object) -> str:
    """The sentence about a cell that does not fit its column."""
    return f"{shown(name)}: received {shown(cell)}, needed {needed}"


def type_of(cell: str) -> PropertyType:
    """The narrowest type of a non-empty cell."""
    text = cell.strip()
    if INTEGER.fullmatch(text):
        return PropertyType.INTEGER
    if NUMBER.fullmatch(text) and not FAULTS[PropertyType.NUMBER](DECODER.decode(text)):
        return PropertyType.NUMBER
    if text.lower() in TRUTHS:
        return PropertyType.BOOLEAN
    return PropertyType.DATE if parse_iso(text) else PropertyType.STRING
