"""JSON text in and out: numbers keep their digits, and every fault is a sentence. Pure.

    loads_json(body: bytes) -> Any | Refusal
    loads_records(body: bytes) -> list[dict[str, Any]] | Refusal        an object, or an array of objects
    dumps(value) -> str                                                 compact, decimals as written

Fractions are read as Decimal and integers as int. Duplicate names in one object, NaN, Infinity, deep
nesting, over-long integers and text that is not UTF-8 are refused; nothing here raises for bad input.
"""

import codecs
import json
from collections import Counter
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn

import simplejson

from apperate.kernel.refusals import Refusal

SHOWN_CHARS_MAX = 60
_FORGOTTEN = "[object "


class JsonFault(ValueError):
    """Raised inside the parser only, with the sentence that explains the refusal."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        name = counts.most_common(1)[0][0]
        raise JsonFault(f"the name {shown(name)} comes twice in one object")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise JsonFault(f"{name} is not a JSON value; null means no value")


DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_float=Decimal, parse_constant=_refuse_constant)
_ENCODER = simplejson.JSONEncoder(
    ensure_ascii=False, use_decimal=True, allow_nan=False, separators=(",", ":"), skipkeys=False
)
_CANONICAL = simplejson.JSONEncoder(
    ensure_ascii=False, use_decimal=True, allow_nan=False, separators=(",", ":"), sort_keys=True
)


def dumps(value: object) -> str:
    """Compact JSON text; Decimals keep their digits. Raises ValueError for NaN and Infinity."""
    return str(_ENCODER.encode(value))


def dumps_canonical(value: object) -> str:
    """JSON text that is identical for equal records: names sorted, no white space."""
    return str(_CANONICAL.encode(value))


def shown(value: object) -> str:
    """A short rendering of a value for an error message, on one line and valid UTF-8."""
    if isinstance(value, dict | list):
        return f"an {'object' if isinstance(value, dict) else 'array'} of {len(value)}"
    if isinstance(value, int) and value.bit_length() > SHOWN_CHARS_MAX * 3:
        return f"an integer of {value.bit_length()} bits"
    if isinstance(value, str | bool) or value is None:
        # Escapes show a control character or half a surrogate pair without sending it.
        cut = value[:SHOWN_CHARS_MAX] if isinstance(value, str) else value
        plain = not isinstance(cut, str) or cut.isprintable()
        text = json.dumps(cut, ensure_ascii=not plain)
        if cut != value:
            text += "…"
        return text
    text = str(value)
    return text if len(text) <= SHOWN_CHARS_MAX else text[: SHOWN_CHARS_MAX - 1] + "…"


def explain(fault: Exception) -> str:
    """A clause saying why a JSON text could not be read. Accepts what DECODER may raise."""
    match fault:
        case JsonFault():
            return str(fault)
        case json.JSONDecodeError():
            message = fault.msg.removesuffix(" at")
            return f"{message[0].lower()}{message[1:]} at line {fault.lineno}, column {fault.colno}"
        case RecursionError():
            return "it is nested too deeply"
        case InvalidOperation():
            return "it holds a number whose exponent is too large"
        case _:
            return "it holds an integer of too many digits"


# What DECODER raises for untrusted text: ValueError covers faults, bad syntax and long integers.
DECODE_ERRORS = (ValueError, RecursionError, InvalidOperation)


def loads_json(body: bytes) -> Any | Refusal:
    """The value of a JSON body, or why it cannot be read."""
    if body.startswith(codecs.BOM_UTF8):
        body = body[len(codecs.BOM_UTF8) :]
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        return bad_body(f"The body is not UTF-8: byte {error.start + 1}, in line {line}, is not valid.")
    stripped = text.lstrip()
    if not stripped:
        return bad_body("The body is empty.", needed="JSON")
    if stripped.startswith(_FORGOTTEN):
        return forgotten_serialisation()
    try:
        return DECODER.decode(text)
    except DECODE_ERRORS as error:
        return bad_body(f"The body is not valid JSON: {explain(error)}.")


def loads_records(body: bytes) -> list[dict[str, Any]] | Refusal:
    """The records of a JSON body: one object, or an array of at least one object."""
    value = loads_json(body)
    if isinstance(value, Refusal):
        return value
    needed = "a JSON object, or an array of JSON objects"
    if isinstance(value, dict):
        return [value]
    if not isinstance(value, list):
        return bad_body(f"The body is {kind_of(value)}, not a record.", needed=needed)
    if not value:
        return bad_body("The body is an empty array: there is no record in it.", needed=needed)
    for index, element in enumerate(value):
        if not isinstance(element, dict):
            detail = f"Element {index} of the array is {kind_of(element)}, not an object."
            return bad_body(detail, needed=needed)
    return value


def kind_of(value: object) -> str:
    """A JSON value's type, with its article: "a number", "an array"."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case str():
            return "text"
        case dict():
            return "an object"
        case list() | tuple():
            return "an array"
        case _:
            return "a number"


def forgotten_serialisation() -> Refusal:
    """The refusal of `[object Object]`, which JavaScript sends for an object nobody serialised."""
    return bad_body(
        "The body is the text [object Object]: the client forgot to serialise it. "
        "Send JSON.stringify(data) instead of data.",
        received="[object Object]",
        needed="JSON or CSV text",
    )


def bad_body(detail: str, *, received: str | None = None, needed: str | None = None) -> Refusal:
    """A 400 about the body as a whole."""
    return Refusal("invalid-values", detail, check="body", received=received, needed=needed)
