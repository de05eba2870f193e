"""Every parameter of the query string that means something: ONE table for parsing and docs.

    PARAMETERS                                  name, operations, meaning, example, what is accepted, parser
    of(operation) -> {name: Parameter}          those of one operation, in order
    values(pairs, operation) -> dict | Refusal  the parsed value of each that is present, by name
    IGNORED                                     names that older clients send and that change nothing
    SELECTING                                   names that choose records; a dataset is not deleted with one

`undefined`, `null` and empty values are absent, unknown names are ignored, enum values may have any case.
A bad value of a known name is a Refusal that names it, and so is one name with two different values.
The docs and the OpenAPI document are made from, or compared with, this table. Pure.
Source: http-api.md, Reading records and Endpoints.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

from apperate.kernel.ranges import DATES_NEEDED, RANGES_NEEDED, parse_day, parse_day_or_moment
from apperate.kernel.refusals import Refusal, invalid_value
from datasets.query.callback_names import CALLBACK_NEEDED, parse_callback
from datasets.query.cursors import CURSOR_NEEDED
from datasets.query.filters import SUBATTRIBUTE_NEEDED, WHERE_NEEDED
from tokens.rules.vocabulary import USAGE_BY

LIMIT_MAX = 5_000
COUNT_MAX = 1_000_000_000
FORMATS = ("json", "csv", "psv", "ndjson", "parquet")
ABSENT = frozenset({"", "undefined", "null"})
HANDLINGS = {"replace": True, "true": True, "ignore": False, "false": False}

_COUNT = re.compile(r"[0-9]{1,18}")
_QUERY_ID = re.compile(r"[A-Za-z0-9]{1,3}")
_PERIOD = re.compile(r"([0-9]{1,4})([hdw])")
_HOURS = {"h": 1, "d": 24, "w": 168}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One name of the query string.

    `of` names the operations that know it. `parse` gives the value, or None when the text is not what
    is `needed`. `schema` describes it as JSON Schema. `selects`: it chooses records.
    """

    name: str
    of: tuple[str, ...]
    meaning: str
    example: str
    needed: str
    parse: Callable[[str], Any]
    schema: Mapping[str, Any]
    selects: bool = False

    @property
    def summary(self) -> str:
        """The meaning without a list of what is accepted, which `needed` has."""
        return self.meaning.split(":")[0]


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


def parse_query_id(text: str) -> str | None:
    """One to three letters or digits, in their case."""
    return text if _QUERY_ID.fullmatch(text) else None


def parse_handling(text: str) -> bool | None:
    """Whether a record replaces the one with the same unique index."""
    return HANDLINGS.get(text.lower())


def parse_period(text: str) -> timedelta | None:
    """A span of time back from now: 12h, 7d, 2w; at most a year."""
    match = _PERIOD.fullmatch(text.lower())
    if match is None:
        return None
    period = int(match[1]) * timedelta(hours=_HOURS[match[2]])
    return period if timedelta(0) < period <= timedelta(days=366) else None


_COUNTED = f"a whole number from 1 to {COUNT_MAX:,}; at most {LIMIT_MAX:,} records are returned"
_NUMBERED = f"a whole number from 1 to {COUNT_MAX:,}"
_FLAG = "true or false"
DATE_FIELD_NEEDED = "the name of a date property of this dataset"

TEXT: dict[str, Any] = {"type": "string"}
FLAG: dict[str, Any] = {"type": "boolean"}
COUNT: dict[str, Any] = {"type": "integer", "minimum": 1, "maximum": COUNT_MAX}

READ = ("read",)
LISTED = ("read", "jobs")  # records are read by them, and lists of ingestion jobs
COUNTED = (*LISTED, "list", "tokens")  # lists of datasets and of tokens, too
STORING = ("write", "ingest")

PARAMETERS: tuple[Parameter, ...] = (
    Parameter(
        "last", LISTED, "the latest n records, newest first; overrides limit", "5", _COUNTED, count_from(1),
        COUNT, selects=True,
    ),
    Parameter(
        "first", LISTED, "the earliest n records, oldest first; overrides limit", "5", _COUNTED,
        count_from(1), COUNT, selects=True,
    ),
    Parameter(
        "next", READ, "the next n records after now, soonest first; overrides limit", "5", _COUNTED,
        count_from(1), COUNT, selects=True,
    ),
    Parameter(
        "limit", COUNTED, f"at most n records; 1 unless a date is asked for, then {LIMIT_MAX:,}", "100",
        _COUNTED, count_from(1), COUNT, selects=True,
    ),
    Parameter(
        "offset", READ, "skip n records first", "100", f"a whole number from 0 to {COUNT_MAX:,}",
        count_from(0), COUNT | {"minimum": 0}, selects=True,
    ),
    Parameter(
        "on", READ, "the records of one UTC day", "2024-02-29", DATES_NEEDED, parse_day, TEXT, selects=True
    ),
    Parameter(
        "from", (*LISTED, "delete"), "records on or after this day or moment", "2024-01-01", DATES_NEEDED,
        parse_day_or_moment, TEXT, selects=True,
    ),
    Parameter(
        "to", (*LISTED, "delete"), "records on or before this day or moment", "2024-01-31", DATES_NEEDED,
        parse_day_or_moment, TEXT, selects=True,
    ),
    Parameter(
        "range", ("read", "usage"), f"records of a span: {RANGES_NEEDED}", "last-month", RANGES_NEEDED,
        str, TEXT, selects=True,
    ),
    Parameter(
        "calendar", READ, "ranges reach forward from today; oldest first", "true", _FLAG, parse_flag, FLAG,
        selects=True,
    ),
    Parameter(
        "sort", LISTED, "order by date; newest first unless said", "asc", "asc or desc",
        one_of("asc", "desc"), TEXT | {"enum": ["asc", "desc", "ASC", "DESC"]}, selects=True,
    ),
    Parameter(
        "filter", READ, "only these properties, in this order", "day,close", "names of properties",
        parse_names, TEXT,
    ),
    Parameter(
        "format", READ, "the form of the answer", "csv", "one of " + ", ".join(FORMATS), one_of(*FORMATS),
        TEXT | {"enum": list(FORMATS)},
    ),
    Parameter(
        "schema", READ, "the columns and their types instead of records", "true", _FLAG, parse_flag, FLAG
    ),
    Parameter(
        "batchSeparator", READ, "what separates the keys in the path, a comma unless said", "|",
        "no letters and no digits", parse_separator, TEXT | {"minLength": 1},
    ),
    Parameter(
        "interval", READ, "every n-th of the records asked for", "5", _NUMBERED, count_from(1), COUNT,
        selects=True,
    ),
    Parameter(
        "dateField", READ, "apply dates, and the order, to this date property", "day", DATE_FIELD_NEEDED, str,
        TEXT, selects=True,
    ),
    Parameter(
        "subattribute", READ, "only records with these values, name|value equal, name~value not equal",
        "ticker|AAPL", SUBATTRIBUTE_NEEDED, str, TEXT, selects=True,
    ),
    Parameter(
        "where", READ, "only records that meet a condition", "close gt 100 and ticker in (AAPL, MSFT)",
        WHERE_NEEDED, str, TEXT, selects=True,
    ),
    Parameter(
        "includeSystemRecordProperties", READ,
        "adds _systemRecordProperties with id, key, subkey, date and updated", "true", _FLAG, parse_flag,
        FLAG,
    ),
    Parameter(
        "cursor", ("read", "tokens"), "go on where an answer ended", "WyJkMmY4", CURSOR_NEEDED, str,
        TEXT, selects=True,
    ),
    Parameter(
        "callback", READ, "answer as JSONP, a call of this function", "show",
        CALLBACK_NEEDED, parse_callback, TEXT,
    ),
    Parameter(
        "queryId", READ, "only records added or changed since this id was last used, and all at first", "a1",
        "1 to 3 letters or digits", parse_query_id, TEXT | {"pattern": "^[A-Za-z0-9]{1,3}$"}, selects=True,
    ),
    Parameter(
        "export", READ, "all matching records of one dataset in one answer", "true", _FLAG, parse_flag, FLAG,
        selects=True,
    ),
    Parameter(
        "duplicateKeyHandling", STORING,
        "what happens to a record whose unique index exists; ignored unless said", "replace",
        "replace or true, ignore or false", parse_handling, TEXT | {"enum": sorted(HANDLINGS)},
    ),
    Parameter(
        "overwrite", STORING, "true means replace; counts before duplicateKeyHandling", "true", _FLAG,
        parse_flag, FLAG,
    ),
    Parameter(
        "createDatasetOnDemand", ("write",),
        "the secret token's records make a dataset that is missing, unless this is false", "false", _FLAG,
        parse_flag, FLAG,
    ),
    Parameter(
        "wait", ("ingest",), "answer when the job has ended, or after a minute", "true", _FLAG, parse_flag,
        FLAG,
    ),
    Parameter(
        "maximumValidationErrors", ("ingest",),
        "more invalid lines than this store nothing; any number unless said", "10", "a whole number from 0",
        count_from(0), COUNT | {"minimum": 0},
    ),
    Parameter(
        "totalMessages", ("messagebudget",), "the credits a month is meant to cost; 0 means no budget",
        "500000", f"a whole number from 0 to {COUNT_MAX:,}", count_from(0), COUNT | {"minimum": 0},
    ),
    Parameter(
        "allow", ("messagebudget", "payasyougo"), "whether the owner agrees to pay for more", "true", _FLAG,
        parse_flag, FLAG,
    ),
    Parameter(
        "period", ("logs",), "how far back the log is read; a day unless said", "7d",
        "a number with h, d or w, at most a year", parse_period, TEXT,
    ),
    Parameter(
        "trash", ("tokens",), "the tokens in the trash instead of the others", "true", _FLAG, parse_flag, FLAG
    ),
    Parameter(
        "by", ("usage",), "what a row stands for beside its day", "dataset",
        "one of " + ", ".join(USAGE_BY), one_of(*USAGE_BY), TEXT | {"enum": list(USAGE_BY)},
    ),
)  # fmt: skip
SELECTING = frozenset(found.name for found in PARAMETERS if found.selects) | {"key", "subkey", "date"}
IGNORED = frozenset(
    {"token", "cache", "cacheTTL", "forward", "future", "updated", "collectionName", "transform"}
)


@cache
def of(operation: str) -> Mapping[str, Parameter]:
    """The parameters of one operation by name, in the order of the table."""
    return {found.name: found for found in PARAMETERS if operation in found.of}


def values(pairs: Iterable[tuple[str, str]], operation: str) -> dict[str, Any] | Refusal:
    """The parsed value of each parameter of an operation that is present, or the first thing wrong."""
    known = of(operation)
    texts: dict[str, str] = {}
    for name, text in pairs:
        # An absent value beside a present one is forgiven, but not in a delete, which takes what it is given.
        if name not in known or (text.lower() in ABSENT and operation != "delete"):
            continue
        if texts.setdefault(name, text) != text:
            return invalid_value(name, f"{texts[name]} and {text}", "one value")
    parsed: dict[str, Any] = {}
    for name, text in texts.items():
        if text.lower() in ABSENT:
            continue
        value = known[name].parse(text)
        if value is None:
            return invalid_value(name, text, known[name].needed)
        parsed[name] = value
    return parsed
