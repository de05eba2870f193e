"""A Condition as SQL with bound parameters: property names and values never become SQL text. Pure.

    condition_sql(condition, bind) -> str         bind(value) adds a parameter and returns its placeholder
    date_sql(name_placeholder) -> str             a date property as timestamptz, NULL if it is not a date

`json_typeof` guards every cast, so that no stored value can make the statement fail.
"""

from collections.abc import Callable
from typing import Any

from apperate.kernel.ranges import Span
from datasets.query.filters import All, AnyOf, Comparison, Condition, Not
from datasets.records.schema import PropertyType

Bind = Callable[[Any], str]
SYMBOLS = {"eq": "=", "gt": ">", "ge": ">=", "lt": "<", "le": "<="}
# The forms that dates.parse_date() accepts and PostgreSQL reads alike; a fraction's comma becomes a point.
ISO_FORM = r"^\d{4}-\d{2}-\d{2}([Tt ]\d{2}:\d{2}(:\d{2}([.,]\d{1,9})?)?([Zz]|[+-]\d{2}(:?\d{2})?)?)?$"
YEAR_FORM = r"^(?!0000)\d{4}$"


def condition_sql(condition: Condition, bind: Bind) -> str:
    """A boolean expression over `r.data` that is never NULL."""
    match condition:
        case Not(part):
            return f"NOT {condition_sql(part, bind)}"
        case All(parts):
            return f"({' AND '.join(condition_sql(part, bind) for part in parts)})"
        case AnyOf(parts):
            return f"({' OR '.join(condition_sql(part, bind) for part in parts)})"
        case Comparison():
            return _comparison(condition, bind)


def date_sql(name: str) -> str:
    """A date property's value as timestamptz in UTC; NULL when null, absent or not a date."""
    text = f"r.data->>{name}"
    iso = f"WHEN {text} ~ '{ISO_FORM}' THEN replace({text}, ',', '.')::timestamptz"
    return f"CASE {iso} WHEN {text} ~ '{YEAR_FORM}' THEN ({text} || '-01-01')::timestamptz END"


def _comparison(found: Comparison, bind: Bind) -> str:
    name = f"{bind(found.name)}::text"
    if not found.values:
        return f"coalesce(json_typeof(r.data->{name}) = 'null', true)"
    if found.kind is PropertyType.DATE:
        spans = " OR ".join(_dated(found.operator, date_sql(name), span, bind) for span in found.values)
        return f"coalesce({spans}, false)"
    kind, cast = {
        PropertyType.BOOLEAN: ("boolean", "boolean"),
        PropertyType.STRING: ("string", "text"),
    }.get(found.kind, ("number", "numeric"))
    value = f"CASE WHEN json_typeof(r.data->{name}) = '{kind}' THEN (r.data->>{name})::{cast} END"
    if cast == "text":
        value = f'({value}) COLLATE "C"'
    if found.operator == "in":
        return f"coalesce({value} = ANY({bind(list(found.values))}::{cast}[]), false)"
    return f"coalesce({value} {SYMBOLS[found.operator]} {bind(found.values[0])}::{cast}, false)"


def _dated(operator: str, value: str, span: Span, bind: Bind) -> str:
    """A day is taken whole: `gt` starts after it, `le` includes it."""
    start, end = f"{bind(span.start)}::timestamptz", f"{bind(span.end)}::timestamptz"
    match operator:
        case "gt":
            return f"({value} >= {end})"
        case "ge":
            return f"({value} >= {start})"
        case "lt":
            return f"({value} < {start})"
        case "le":
            return f"({value} < coalesce({end}, 'infinity'))"
        case _:
            return f"({value} >= {start} AND {value} < coalesce({end}, 'infinity'))"
