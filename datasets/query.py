"""What a read asks for: the query string of a data request as one frozen Query. Pure.

    parse(pairs, schema, now=…, path_key=…, path_subkey=…) -> Query | Refusal
    PARAMETERS      every parameter that means something: name, meaning, example, parser. Docs read it too.
    IGNORED         names that older clients send and that change nothing
    SELECTING       names that choose records; a dataset must not be deleted with one of them present

`undefined`, `null` and empty values are absent, unknown names are ignored, enum values may have any case.
A bad value of a known name is a Refusal that names it, and so is one name with two different values.
Dates narrow each other: `range` and `from` together mean their overlap. A limit above 5,000 is taken and
answered with 5,000 records. Source: http-api.md, Reading records.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from apperate.refusals import Refusal, invalid_value
from datasets.ranges import (
    DATES_NEEDED,
    MOMENT,
    RANGES_NEEDED,
    Span,
    later,
    needs_calendar,
    parse_day,
    parse_day_or_moment,
    parse_range,
)
from datasets.schema import Schema

LIMIT_MAX = 5_000
KEYS_MAX = 2_000
COUNT_MAX = 1_000_000_000
FORMATS = ("json", "csv", "psv", "ndjson")
ABSENT = frozenset({"", "undefined", "null"})

_COUNT = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Query:
    """What to read. `keys` empty means every key; dates are the half-open span [from_at, to_at) in UTC.

    Select `limit` records after skipping `offset`, in `order` of date, for each key; then turn the
    selection round if `turned` (as in `last=5&sort=asc`). `filter` names the properties to keep, in order.
    """

    keys: tuple[str, ...] = ()
    subkey: str | None = None
    order: str = "desc"
    turned: bool = False
    limit: int = 1
    offset: int = 0
    from_at: datetime | None = None
    to_at: datetime | None = None
    filter: tuple[str, ...] | None = None
    format: str = "json"
    schema_only: bool = False


@dataclass(frozen=True, slots=True)
class Parameter:
    """One name of the query string. `parse` gives the value, or None when the text is not `needed`."""

    name: str
    meaning: str
    example: str
    needed: str
    parse: Callable[[str], Any]
    selects: bool = True


def parse_flag(text: str) -> bool | None:
    """The truth value a client wrote, `True`, `true` or `1` as Python, JavaScript and curl users do."""
    return {"true": True, "1": True, "false": False, "0": False}.get(text.lower())


def count_from(lowest: int) -> Callable[[str], int | None]:
    """A parser of whole numbers from `lowest` to a thousand million."""

    def parse_count(text: str) -> int | None:
        count = int(text) if _COUNT.fullmatch(text) else -1
        return count if lowest <= count <= COUNT_MAX else None

    return parse_count


def one_of(*values: str) -> Callable[[str], str | None]:
    """A parser of the given lower-case words, in any case."""
    return lambda text: text.lower() if text.lower() in values else None


def parse_names(text: str) -> tuple[str, ...] | None:
    """Comma-separated names, each once, in the order given."""
    return tuple(dict.fromkeys(filter(None, text.split(",")))) or None


def parse_separator(text: str) -> str | None:
    """What stands between the keys of a batch: anything but letters and digits."""
    return None if any(char.isalnum() for char in text) else text


def refuse_unsupported(text: str) -> None:
    """Nothing is accepted: answering as if the parameter were absent would give other records."""


_COUNTED = f"a whole number from 1 to {COUNT_MAX:,}; at most {LIMIT_MAX:,} records are returned"
_FLAG = "true or false"
_UNSUPPORTED = "to be left out, it is not supported"

PARAMETERS: tuple[Parameter, ...] = (
    Parameter("last", "the latest n records, newest first; overrides limit", "5", _COUNTED, count_from(1)),
    Parameter("first", "the earliest n records, oldest first; overrides limit", "5", _COUNTED, count_from(1)),
    Parameter(
        "next", "the next n records after now, soonest first; overrides limit", "5", _COUNTED, count_from(1)
    ),
    Parameter(
        "limit",
        f"at most n records; 1 unless a date is asked for, then {LIMIT_MAX:,}",
        "100",
        _COUNTED,
        count_from(1),
    ),
    Parameter(
        "offset", "skip n records first", "100", f"a whole number from 0 to {COUNT_MAX:,}", count_from(0)
    ),
    Parameter("on", "the records of one UTC day", "2024-02-29", DATES_NEEDED, parse_day),
    Parameter(
        "from", "records on or after this day or moment", "2024-01-01", DATES_NEEDED, parse_day_or_moment
    ),
    Parameter(
        "to", "records on or before this day or moment", "2024-01-31", DATES_NEEDED, parse_day_or_moment
    ),
    Parameter("range", f"records of a span: {RANGES_NEEDED}", "last-month", RANGES_NEEDED, str),
    Parameter("calendar", "ranges reach forward from today; oldest first", "true", _FLAG, parse_flag),
    Parameter("sort", "order by date; newest first unless said", "asc", "asc or desc", one_of("asc", "desc")),
    Parameter(
        "filter",
        "only these properties, in this order",
        "day,close",
        "names of properties",
        parse_names,
        False,
    ),
    Parameter(
        "format", "the form of the answer", "csv", "one of " + ", ".join(FORMATS), one_of(*FORMATS), False
    ),
    Parameter("schema", "the columns and their types instead of records", "true", _FLAG, parse_flag, False),
    Parameter(
        "batchSeparator",
        "what separates the keys in the path, a comma unless said",
        "|",
        "no letters and no digits",
        parse_separator,
        False,
    ),
    Parameter("interval", "every n-th record", "2", _UNSUPPORTED, refuse_unsupported),
    Parameter("dateField", "apply dates to another property", "paidOn", _UNSUPPORTED, refuse_unsupported),
    Parameter("subattribute", "only records with that value", "sector|IT", _UNSUPPORTED, refuse_unsupported),
    Parameter("where", "only records that meet a condition", "close gt 1", _UNSUPPORTED, refuse_unsupported),
    Parameter("queryId", "only what is new since the last use", "a1", _UNSUPPORTED, refuse_unsupported),
    Parameter("export", "all matching records", "true", _UNSUPPORTED, refuse_unsupported),
    Parameter("callback", "answer as JSONP", "show", _UNSUPPORTED, refuse_unsupported, False),
)
BY_NAME: Mapping[str, Parameter] = {parameter.name: parameter for parameter in PARAMETERS}
SELECTING = frozenset(found.name for found in PARAMETERS if found.selects) | {"key", "subkey", "date"}
IGNORED = frozenset(
    {"token", "cache", "cacheTTL", "forward", "future", "updated", "collectionName", "transform"}
)
_COUNTS = ("last", "first", "next")


def parse(
    pairs: Sequence[tuple[str, str]],
    schema: Schema,
    *,
    now: datetime,
    path_key: str | None = None,
    path_subkey: str | None = None,
) -> Query | Refusal:
    """The Query that decoded name-value pairs and the path mean, or the first thing wrong with them."""
    values = _values(pairs)
    if isinstance(values, Refusal):
        return values
    if refusal := _conflict(values, schema):
        return refusal
    span = _span(values, now)
    if isinstance(span, Refusal):
        return span
    keys = _keys(path_key, values.get("batchSeparator", ","))
    if isinstance(keys, Refusal):
        return keys
    counted = next((name for name in _COUNTS if name in values), None)
    dated = any(name in values for name in ("on", "from", "to", "range"))
    limit = values.get(counted or "limit", LIMIT_MAX if dated else 1)
    natural = "asc" if counted in ("first", "next") or values.get("calendar") else "desc"
    sort = values.get("sort", "desc" if counted == "last" else natural)
    # last, first and next say which records are meant, so sort can only turn what they select.
    order = {"last": "desc", "first": "asc", "next": "asc"}.get(counted or "", sort)
    return Query(
        keys=keys,
        subkey=path_subkey,
        order=order,
        turned=order != sort,
        limit=min(limit, LIMIT_MAX),
        offset=values.get("offset", 0),
        from_at=span.start,
        to_at=span.end,
        filter=values.get("filter"),
        format=values.get("format", "json"),
        schema_only=values.get("schema", False),
    )


def _values(pairs: Sequence[tuple[str, str]]) -> dict[str, Any] | Refusal:
    """The parsed value of each known name that is present."""
    texts: dict[str, str] = {}
    for name, text in pairs:
        if name not in BY_NAME or text.lower() in ABSENT:
            continue
        if texts.setdefault(name, text) != text:
            return invalid_value(name, f"{texts[name]} and {text}", "one value")
    values: dict[str, Any] = {}
    for name, text in texts.items():
        parameter = BY_NAME[name]
        value = parameter.parse(text)
        if value is None:
            return invalid_value(name, text, parameter.needed)
        values[name] = value
    return values


def _conflict(values: Mapping[str, Any], schema: Schema) -> Refusal | None:
    """What single values cannot show: counts that exclude each other, names the schema does not have."""
    counted = [name for name in _COUNTS if name in values]
    if len(counted) > 1:
        return invalid_value(counted[1], values[counted[1]], f"{counted[0]} or {counted[1]}, not both")
    for name in values.get("filter", ()):
        if schema.get(name) is None:
            return invalid_value("filter", name, "names of properties of this dataset")
    start, end = values.get("from"), values.get("to")
    if start and end and end.end is not None and start.start >= end.end:
        return invalid_value("from", start.start.isoformat(), "a day or moment that is not after to")
    return None


def _span(values: Mapping[str, Any], now: datetime) -> Span | Refusal:
    """The overlap of every date given; without any it has no bounds."""
    spans: list[Span] = []
    if "on" in values:
        spans.append(values["on"])
    if "from" in values:
        spans.append(Span(values["from"].start, None))
    if "to" in values:
        spans.append(Span(None, values["to"].end))
    if "next" in values:
        spans.append(Span(later(now, MOMENT), None))
    if "range" in values:
        calendar = values.get("calendar", False)
        if needs_calendar(values["range"]) and not calendar:
            return invalid_value("range", values["range"], "calendar=true with a range in the future")
        span = parse_range(values["range"], now=now, calendar=calendar)
        if span is None:
            return invalid_value("range", values["range"], RANGES_NEEDED)
        spans.append(span)
    starts = [span.start for span in spans if span.start is not None]
    ends = [span.end for span in spans if span.end is not None]
    return Span(max(starts, default=None), min(ends, default=None))


def _keys(path_key: str | None, separator: str) -> tuple[str, ...] | Refusal:
    """The keys of the path, each once."""
    keys = tuple(dict.fromkeys(filter(None, (path_key or "").split(separator))))
    if len(keys) > KEYS_MAX:
        return invalid_value("key", f"{len(keys)} keys", f"at most {KEYS_MAX:,} keys in one request")
    return keys
