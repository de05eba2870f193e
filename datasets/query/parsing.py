"""What a read selects: a data request's query string as one frozen Query. Pure.

    parse(pairs, schema, now=…, path_key=…, path_subkey=…) -> Query | Refusal

parameters.py has the names and what each accepts; this module combines them.
Dates narrow each other: `range` and `from` together mean their overlap. A limit above 5,000 is accepted
but returns 5,000 records. Source: docs/query-parameters.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from apperate.http.parameters import COUNT_MAX, CURSOR_NEEDED, LIMIT_MAX
from apperate.kernel.ranges import MOMENT, RANGES_NEEDED, Span, later, needs_calendar, parse_range
from apperate.kernel.refusals import Refusal, invalid_value
from datasets.query import parameters
from datasets.query.cursors import Place, question_of, read_cursor
from datasets.query.filters import All, Condition, parse_subattribute, parse_where
from datasets.query.parameters import DATE_FIELD_NEEDED
from datasets.records.schema import Schema

KEYS_MAX = 2_000
_COUNTS = ("last", "first", "next")


@dataclass(frozen=True, slots=True)
class Query:
    """What to read. Empty `keys` mean every key; dates are the half-open span [from_at, to_at) in UTC.

    Select `limit` records after skipping `offset`, in `order` of date, for each key; then reverse the
    selection if `turned` (as in `last=5&sort=asc`). Every `interval`-th selected record is returned.
    `is_paged`: limit is the size of a page, and what comes after it is on the next one. `after` is where
    the previous page ended, `records_max` the most that one page holds. `date_field` is the date property
    that dates and order apply to, when it is not the indexed one. `filter` names the properties to keep, in
    order. `reads_system`: the platform's facts about each record are read too, and shown in a property of
    their own if `with_system`. `exports`: every record at once, in one file. `query_id` names a query that
    is repeated; it selects only records written at or after `updated_from`.
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
    interval: int = 1
    date_field: str | None = None
    condition: Condition | None = None
    with_system: bool = False
    reads_system: bool = False
    callback: str | None = None
    is_paged: bool = False
    exports: bool = False
    query_id: str | None = None
    updated_from: datetime | None = None
    question: str = ""
    after: Place | None = None
    records_max: int = LIMIT_MAX

    @property
    def asks_values(self) -> bool:
        """Whether record values, or when they changed, decide what is selected, and not only the index."""
        return self.condition is not None or self.date_field is not None or self.query_id is not None

    @property
    def records_at_most(self) -> int:
        """How many records an answer may have."""
        wanted = -(-self.limit // self.interval) * max(1, len(self.keys))
        return wanted if self.exports else min(wanted, self.records_max)


def parse(
    pairs: Sequence[tuple[str, str]],
    schema: Schema,
    *,
    now: datetime,
    path_key: str | None = None,
    path_subkey: str | None = None,
    name: str = "",
    answer_format: str = "json",
    more_names: Sequence[str] = (),
    cursor_key: bytes = b"",
) -> Query | Refusal:
    """The Query for the decoded name-value pairs and the path, or the first fault in them.

    `name` is the dataset's, `answer_format` the default when the pairs name none, `more_names` are
    properties beside the schema's that `filter` may keep, `cursor_key` encrypts its cursors, if they
    are encrypted.
    """
    values = parameters.values(pairs, "read")
    if isinstance(values, Refusal):
        return values
    if refusal := _conflict(values, schema, more_names):
        return refusal
    span = _span(values, now)
    if isinstance(span, Refusal):
        return span
    keys = _keys(path_key, values.get("batchSeparator", ","))
    if isinstance(keys, Refusal):
        return keys
    condition = _condition(values, schema)
    if isinstance(condition, Refusal):
        return condition
    question = question_of(name, (path_key, path_subkey), pairs)
    after = read_cursor(values["cursor"], question, key=cursor_key) if "cursor" in values else None
    if "cursor" in values and (after is None or after.key_number >= max(1, len(keys))):
        return invalid_value("cursor", values["cursor"], CURSOR_NEEDED)
    counted = next((name for name in _COUNTS if name in values), None)
    interval = values.get("interval", 1)
    date_field = values.get("dateField")
    exports = values.get("export", False)
    many = any(name in values for name in ("on", "from", "to", "range", "queryId"))
    default = COUNT_MAX if exports else LIMIT_MAX if many else 1
    limit = values.get(counted or "limit", default)
    natural = "asc" if counted in ("first", "next") or values.get("calendar") else "desc"
    sort = values.get("sort", "desc" if counted == "last" else natural)
    # last, first and next choose the records, so sort can only reverse what they select.
    order = {"last": "desc", "first": "asc", "next": "asc"}.get(counted or "", sort)
    return Query(
        keys=keys,
        subkey=path_subkey,
        order=order,
        turned=order != sort,
        limit=min(limit, LIMIT_MAX * interval) if counted is None and not exports else limit,
        offset=values.get("offset", 0),
        from_at=span.start,
        to_at=span.end,
        filter=values.get("filter"),
        format=values.get("format", "json" if "callback" in values else answer_format),
        schema_only=values.get("schema", False),
        interval=interval,
        date_field=None if date_field == schema.date else date_field,
        condition=condition,
        with_system=values.get("includeSystemRecordProperties", False),
        reads_system=bool(more_names) or values.get("includeSystemRecordProperties", False),
        callback=values.get("callback"),
        is_paged=counted is None and len(keys) <= 1 and not exports,
        exports=exports,
        query_id=values.get("queryId"),
        question=question,
        after=after,
    )


def _conflict(values: Mapping[str, Any], schema: Schema, more_names: Sequence[str]) -> Refusal | None:
    """Faults that single values cannot show: counts that exclude each other, names not in the schema."""
    counted = [name for name in _COUNTS if name in values]
    if len(counted) > 1:
        return invalid_value(counted[1], values[counted[1]], f"{counted[0]} or {counted[1]}, not both")
    for name in values.get("filter", ()):
        if schema.get(name) is None and name not in more_names:
            return invalid_value("filter", name, "names of properties of this dataset")
    if "dateField" in values and values["dateField"] not in schema.date_names:
        return invalid_value("dateField", values["dateField"], DATE_FIELD_NEEDED)
    if values.get("export"):
        for name in (*_COUNTS, "cursor", "callback", "queryId", "schema"):
            if values.get(name):
                return invalid_value(name, values[name], "to be left out with export=true")
    if "callback" in values and values.get("format", "json") != "json":
        return invalid_value("callback", values["callback"], "format=json with it, or no callback")
    start, end = values.get("from"), values.get("to")
    if start and end and end.end is not None and start.start >= end.end:
        return invalid_value("from", start.start.isoformat(), "a day or moment that is not after to")
    return None


def _condition(values: Mapping[str, Any], schema: Schema) -> Condition | None | Refusal:
    """The combined condition of `where` and `subattribute`."""
    parts: list[Condition] = []
    for name, parse_condition in (("where", parse_where), ("subattribute", parse_subattribute)):
        if name in values:
            condition = parse_condition(values[name], schema)
            if isinstance(condition, str):
                return invalid_value(name, values[name], condition)
            parts.append(condition)
    return All(tuple(parts)) if parts else None


def _span(values: Mapping[str, Any], now: datetime) -> Span | Refusal:
    """The overlap of all given dates; unbounded without any."""
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
    """The keys in the path, each once."""
    keys = tuple(dict.fromkeys(filter(None, (path_key or "").split(separator))))
    if len(keys) > KEYS_MAX:
        return invalid_value("key", f"{len(keys)} keys", f"at most {KEYS_MAX:,} keys in one request")
    return keys
