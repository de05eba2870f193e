"""Every query parameter that the API understands: ONE table for parsing and docs.

    PARAMETERS                                  name, operations, meaning, example, what is accepted, parser
    of(operation) -> {name: Parameter}          those of one operation, in order
    values(pairs, operation) -> dict | Refusal  the parsed value of each one present, by name
    IGNORED                                     names that older clients send, without effect
    SELECTING                                   names that select records; they prevent deleting a dataset

apperate.http.parameters says how values are read. The Tokens API's are in the table too, so that the docs
and the OpenAPI document are generated from, or compared with, this table. Pure.
Source: docs/query-parameters.md.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import timedelta
from functools import cache
from typing import Any

from apperate.http import parameters
from apperate.http.parameters import (
    A_FLAG,
    COUNT,
    COUNT_MAX,
    COUNTED,
    CURSOR,
    FLAG,
    LIMIT,
    RANGE,
    TEXT,
    Parameter,
    count_from,
    one_of,
    parse_flag,
)
from apperate.kernel.ranges import DATES_NEEDED, parse_day, parse_day_or_moment
from apperate.kernel.refusals import Refusal
from datasets.query.callback_names import CALLBACK_NEEDED, parse_callback
from datasets.query.filters import SUBATTRIBUTE_NEEDED, WHERE_NEEDED
from tokens.api.parameters import BY, TRASH

FORMATS = ("json", "csv", "psv", "ndjson", "parquet")
HANDLINGS = {"replace": True, "true": True, "ignore": False, "false": False}

_QUERY_ID = re.compile(r"[A-Za-z0-9]{1,3}")
_PERIOD = re.compile(r"([0-9]{1,4})([hdw])")
_HOURS = {"h": 1, "d": 24, "w": 168}


def parse_names(text: str) -> tuple[str, ...] | None:
    """Comma-separated names, each once, in the given order."""
    return tuple(dict.fromkeys(filter(None, text.split(",")))) or None


def parse_separator(text: str) -> str | None:
    """The separator between a batch's keys: anything but letters and digits."""
    return None if any(char.isalnum() for char in text) else text


def parse_query_id(text: str) -> str | None:
    """One to three letters or digits, case-sensitive."""
    return text if _QUERY_ID.fullmatch(text) else None


def parse_handling(text: str) -> bool | None:
    """Whether a record replaces the one with the same unique index."""
    return HANDLINGS.get(text.lower())


def parse_period(text: str) -> timedelta | None:
    """A period back from now: 12h, 7d, 2w; at most a year."""
    match = _PERIOD.fullmatch(text.lower())
    if match is None:
        return None
    period = int(match[1]) * timedelta(hours=_HOURS[match[2]])
    return period if timedelta(0) < period <= timedelta(days=366) else None


_NUMBERED = f"a whole number from 1 to {COUNT_MAX:,}"
DATE_FIELD_NEEDED = "the name of a date property of this dataset"

READ = ("read",)
LISTED = ("read", "jobs")  # both reads of records and lists of ingestion jobs accept these
STORING = ("write", "ingest")

PARAMETERS: tuple[Parameter, ...] = (
    Parameter(
        "last", LISTED, "the latest n records, newest first; overrides limit", "5", COUNTED, count_from(1),
        COUNT, selects=True,
    ),
    Parameter(
        "first", LISTED, "the earliest n records, oldest first; overrides limit", "5", COUNTED,
        count_from(1), COUNT, selects=True,
    ),
    Parameter(
        "next", READ, "the next n records after now, soonest first; overrides limit", "5", COUNTED,
        count_from(1), COUNT, selects=True,
    ),
    LIMIT,
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
    RANGE,
    Parameter(
        "calendar", READ, "ranges reach forward from today; oldest first", "true", A_FLAG, parse_flag, FLAG,
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
        "schema", READ, "the columns and their types instead of records", "true", A_FLAG, parse_flag, FLAG
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
        "adds _systemRecordProperties with id, key, subkey, date and updated", "true", A_FLAG, parse_flag,
        FLAG,
    ),
    CURSOR,
    Parameter(
        "callback", READ, "answer as JSONP, a call of this function", "show",
        CALLBACK_NEEDED, parse_callback, TEXT,
    ),
    Parameter(
        "queryId", READ, "only records added or changed since this id was last used, and all at first", "a1",
        "1 to 3 letters or digits", parse_query_id, TEXT | {"pattern": "^[A-Za-z0-9]{1,3}$"}, selects=True,
    ),
    Parameter(
        "export", READ, "all matching records of one dataset in one answer", "true", A_FLAG, parse_flag, FLAG,
        selects=True,
    ),
    Parameter(
        "duplicateKeyHandling", STORING,
        "what happens to a record whose unique index exists; ignored unless said", "replace",
        "replace or true, ignore or false", parse_handling, TEXT | {"enum": sorted(HANDLINGS)},
    ),
    Parameter(
        "overwrite", STORING, "true means replace; counts before duplicateKeyHandling", "true", A_FLAG,
        parse_flag, FLAG,
    ),
    Parameter(
        "createDatasetOnDemand", ("write",),
        "the secret token's records make a dataset that is missing, unless this is false", "false", A_FLAG,
        parse_flag, FLAG,
    ),
    Parameter(
        "wait", ("ingest",), "answer when the job has ended, or after a minute", "true", A_FLAG, parse_flag,
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
        "allow", ("messagebudget", "payasyougo"), "whether the owner agrees to pay for more", "true", A_FLAG,
        parse_flag, FLAG,
    ),
    Parameter(
        "period", ("logs",), "how far back the log is read; a day unless said", "7d",
        "a number with h, d or w, at most a year", parse_period, TEXT,
    ),
    TRASH,
    BY,
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
    """The parsed value of each parameter of an operation that is present, or the first fault."""
    return parameters.values(pairs, of(operation), forgives=operation != "delete")
