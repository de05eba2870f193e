"""How many stored records would not fit a schema: counted in the database, within a time limit.

    count_breaking(table=…, …, rules=…) -> (records, broken per rule), or None when time ran out

One pass over the records counts all rules. Dates are parsed here, value by value, because dates.py alone
decides what an ISO 8601 date is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

from django.db import OperationalError, connection, transaction

from apperate.kernel.dates import parse_date
from datasets.records.schema import Property, PropertyType
from datasets.storage.writes import limit_statement

BATCH = 5_000
_WHOLE = "^-?[0-9]{1,255}$"

# Whether the value {v} of the JSON type {t} is right; null is handled separately.
FITS: dict[PropertyType, str] = {
    PropertyType.NUMBER: "{t} = 'number'",
    PropertyType.INTEGER: "({t} = 'number' AND ({x} ~ '" + _WHOLE + "' OR {x}::numeric % 1 = 0))",
    PropertyType.STRING: "{t} = 'string'",
    PropertyType.DATE: "{t} = 'string'",
    PropertyType.OBJECT: "{t} = 'object'",
    PropertyType.ARRAY: "{t} = 'array'",
    PropertyType.BOOLEAN: "{t} = 'boolean'",
    PropertyType.ANY: "true",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """A property as it should be; `new` None: it should be absent. `reason` says what a record violates."""

    name: str
    new: Property | None
    reason: str


def rules_of(found: Property | None, name: str) -> tuple[Rule, ...]:
    """What a record must satisfy for one property."""
    if found is None:
        return (Rule(name, None, "holds this property, which the new schema has not"),)
    reason = f"holds another value than {found.type}" + ("" if found.nullable else ", or none at all")
    return (Rule(name, found, reason),)


def count_breaking(
    *, table: str, column: str, owner: int, rules: Sequence[Rule], seconds: float
) -> tuple[int, list[int]] | None:
    """All records of the owner, and how many break each rule; None when time ran out.

    `table` is records or deleted_records, `column` the one that says whose they are; both are constants.
    """
    deadline = monotonic() + seconds
    parts: list[str] = ["count(*)"]
    values: list[Any] = []
    for rule in rules:
        parts.append(f"count(*) FILTER (WHERE {_broken(rule)})")
        values += [rule.name] * parts[-1].count("%s")
    sql = f"SELECT {', '.join(parts)} FROM {table} WHERE {column} = %s"  # noqa: S608  constants
    try:
        with transaction.atomic():
            limit_statement(milliseconds=max(1, int(seconds * 1000)))
            with connection.cursor() as cursor:
                cursor.execute(sql, [*values, owner])
                total, *counts = cursor.fetchone()
            for position, rule in enumerate(rules):
                if total and rule.new is not None and rule.new.type is PropertyType.DATE:
                    bad = _bad_dates(table, column, owner, rule.name, deadline)
                    if bad is None:
                        return None
                    counts[position] += bad
    except OperationalError:  # Cancelled by the timeout.
        return None
    return total, counts


def _broken(rule: Rule) -> str:
    if rule.new is None:
        return "data -> %s IS NOT NULL"
    kind = "coalesce(json_typeof(data -> %s), 'null')"
    fits = FITS[rule.new.type].replace("% 1", "%% 1")
    fits = fits.replace("{t}", kind).replace("{x}", "(data ->> %s)")
    absent = f"{kind} = 'null'"
    right = f"CASE WHEN {absent} THEN {'true' if rule.new.nullable else 'false'} ELSE {fits} END"
    return f"NOT ({right})"


def _bad_dates(table: str, column: str, owner: int, name: str, deadline: float) -> int | None:
    """How many records have a text that is not a date; None when time has run out."""
    bad = 0
    with connection.chunked_cursor() as cursor:
        cursor.execute(
            f"""SELECT data ->> %s FROM {table}
                 WHERE {column} = %s AND json_typeof(data -> %s) = 'string'""",  # noqa: S608  constants
            [name, owner, name],
        )
        while rows := cursor.fetchmany(BATCH):
            bad += sum(parse_date(text) is None for (text,) in rows)
            if monotonic() > deadline:
                return None
    return bad
