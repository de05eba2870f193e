"""Conditions on values: what is understood, what is refused and why, and that SQL judges as Python does."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from apperate.kernel.dates import parse_date
from apperate.kernel.json_text import dumps
from apperate.kernel.ranges import Span
from datasets.query.filter_sql import condition_sql
from datasets.query.filters import (
    COMPARISONS_MAX,
    DEPTH_MAX,
    TEXT_CHARS_MAX,
    VALUES_MAX,
    All,
    AnyOf,
    Comparison,
    Condition,
    Not,
    parse_subattribute,
    parse_where,
)
from datasets.records.schema import PropertyType, Schema, parse_schema

PROPERTIES = {
    "close": {"type": "number"},
    "ticker": {"type": "string"},
    "day": {"type": "string", "format": "date"},
    "is_new": {"type": "boolean"},
    "tags": {"type": "array"},
    "whatever": {},
    "net income": {"type": "number"},
}


def schema() -> Schema:
    parsed = parse_schema({"properties": PROPERTIES}, {})
    assert isinstance(parsed, Schema), parsed
    return parsed


def number(operator: str, *values: str, name: str = "close") -> Comparison:
    return Comparison(name, PropertyType.NUMBER, operator, tuple(map(Decimal, values)))


def text(operator: str, *values: str, name: str = "ticker") -> Comparison:
    return Comparison(name, PropertyType.STRING, operator, values)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("close gt 100", number("gt", "100")),
        ("close GT -1.50", number("gt", "-1.50")),
        ("close eq 1e3", number("eq", "1e3")),
        ("close ne 1", Not(number("eq", "1"))),
        ("close in (1, 2)", number("in", "1", "2")),
        ("ticker eq AAPL", text("eq", "AAPL")),
        ("ticker eq 'O''Neil, Inc (US)'", text("eq", "O'Neil, Inc (US)")),
        ("ticker in (A,'B C')", text("in", "A", "B C")),
        ('"net income" ge 0', number("ge", "0", name="net income")),
        ("ticker eq null", Comparison("ticker", PropertyType.STRING, "eq", ())),
        ("ticker ne NULL", Not(Comparison("ticker", PropertyType.STRING, "eq", ()))),
        ("ticker eq 'null'", text("eq", "null")),
        ("tags eq null", Comparison("tags", PropertyType.ARRAY, "eq", ())),
        ("is_new eq True", Comparison("is_new", PropertyType.BOOLEAN, "eq", (True,))),
        ("whatever eq 5", number("eq", "5", name="whatever")),
        ("whatever eq '5'", text("eq", "5", name="whatever")),
        (
            "day le 2024-02-29",
            Comparison(
                "day",
                PropertyType.DATE,
                "le",
                (Span(datetime(2024, 2, 29, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC)),),
            ),
        ),
        ("close gt 1 and close lt 2", All((number("gt", "1"), number("lt", "2")))),
        (
            "close gt 1 and close lt 2 or ticker eq A",
            AnyOf((All((number("gt", "1"), number("lt", "2"))), text("eq", "A"))),
        ),
        (
            "not (close gt 1 or ticker eq A)",
            Not(AnyOf((number("gt", "1"), text("eq", "A")))),
        ),
    ],
)
def test_where_is_understood(written: str, expected: Condition) -> None:
    assert parse_where(written, schema()) == expected


def test_subattribute_is_understood() -> None:
    parsed = parse_subattribute("ticker|AAPL,close~5", schema())

    assert parsed == All((text("eq", "AAPL"), Not(number("eq", "5"))))


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("close", "after"),
        ("close gt", "a value"),
        ("close about 5", "one of eq, ne"),
        ("nope eq 5", "names of properties"),
        ("close gt five", "a number"),
        ("close gt Infinity", "a number"),
        ("close gt 1e999", "a number"),
        ("is_new gt true", "eq or ne"),
        ("is_new eq maybe", "true or false"),
        ("day gt soon", "a date like"),
        ("tags eq 5", "eq null or ne null"),
        ("close gt null", "eq null or ne null"),
        ("(close gt 1", "the mark )"),
        ("close gt 1)", "and or or before"),
        ("close gt 1 close lt 2", "and or or before"),
        ("ticker eq 'open", "a quote that is closed"),
        ("ticker in ()", "a value"),
        ("ticker in A", "the mark ("),
        ("and", "after"),
        ("ticker eq '\0'", "without NUL"),
        ("(" * (DEPTH_MAX + 2) + "close gt 1", "levels"),
        ("not " * (DEPTH_MAX + 2) + "close gt 1", "levels"),
        (" or ".join(["close gt 1"] * (COMPARISONS_MAX + 1)), "comparisons"),
        (f"close in ({','.join(['1'] * (VALUES_MAX + 1))})", "values in one list"),
        ("x" * (TEXT_CHARS_MAX + 1), "characters"),
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_what_is_wrong_with_a_where_is_said(written: str, said: str) -> None:
    refusal = parse_where(written, schema())

    assert isinstance(refusal, str) and said in refusal


@pytest.mark.parametrize("written", ["ticker", "|A", "nope|A", "close|x", ",", "x" * 5_000])
def test_a_subattribute_that_is_not_understood_is_refused(written: str) -> None:
    assert isinstance(parse_subattribute(written, schema()), str)


@given(st.text(alphabet="closeticker gtandornot()',\"5in \0é", max_size=60))
def test_any_text_is_understood_or_refused(written: str) -> None:
    assert isinstance(parse_where(written, schema()), str | Comparison | Not | All | AnyOf)


# --- the same verdict in SQL and in Python --------------------------------------------------------

NUMBERS = st.integers(-3, 3).map(Decimal) | st.sampled_from([Decimal("0.5"), Decimal("1e30")])
TEXTS = st.sampled_from(["", "A", "a", "B", "é", "10"])
DAYS = st.sampled_from(["2024", "0000", "2024-02-28", "2024-02-29", "2024-02-29T10:00:00Z", "2024-03-01"])
ORDERED = st.sampled_from(["eq", "gt", "ge", "lt", "le"])
SPANS = st.sampled_from(
    [Span(datetime(2024, 2, day, tzinfo=UTC), datetime(2024, 2, day + 1, tzinfo=UTC)) for day in (27, 28)]
)
COMPARISONS: st.SearchStrategy[Condition] = st.one_of(
    st.builds(lambda op, v: Comparison("close", PropertyType.NUMBER, op, (v,)), ORDERED, NUMBERS),
    st.builds(lambda op, v: Comparison("ticker", PropertyType.STRING, op, (v,)), ORDERED, TEXTS),
    st.builds(lambda op, v: Comparison("day", PropertyType.DATE, op, (v,)), ORDERED, SPANS),
    st.builds(
        lambda vs: Comparison("close", PropertyType.NUMBER, "in", tuple(vs)), st.lists(NUMBERS, min_size=1)
    ),
    st.builds(
        lambda name: Comparison(name, PropertyType.STRING, "eq", ()), st.sampled_from(["close", "ticker"])
    ),
)
CONDITIONS = st.recursive(
    COMPARISONS,
    lambda inner: st.one_of(
        inner.map(Not),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: All(tuple(parts))),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: AnyOf(tuple(parts))),
    ),
    max_leaves=6,
)
# Records as an older schema may have left them: a property may hold a value of another type.
RECORDS = st.fixed_dictionaries(
    {},
    optional={
        "close": st.none() | NUMBERS | TEXTS,
        "ticker": st.none() | TEXTS | NUMBERS,
        "day": st.none() | DAYS | st.just("no date"),
    },
)


def holds(condition: Condition, record: dict[str, Any]) -> bool:
    """The verdict by the words of the documentation."""
    match condition:
        case Not(part):
            return not holds(part, record)
        case All(parts):
            return all(holds(part, record) for part in parts)
        case AnyOf(parts):
            return any(holds(part, record) for part in parts)
    value = record.get(condition.name)
    if not condition.values:
        return value is None
    if condition.kind is PropertyType.DATE:
        moment = parse_date(value) if isinstance(value, str) else None
        (span,) = condition.values
        verdicts = {
            "eq": lambda: span.start <= moment < span.end,
            "gt": lambda: moment >= span.end,
            "ge": lambda: moment >= span.start,
            "lt": lambda: moment < span.start,
            "le": lambda: moment < span.end,
        }
        return moment is not None and verdicts[condition.operator]()
    wanted = Decimal if condition.kind is PropertyType.NUMBER else str
    if not isinstance(value, wanted):
        return False
    first = condition.values[0]
    return {
        "eq": value == first,
        "in": value in condition.values,
        "gt": value > first,
        "ge": value >= first,
        "lt": value < first,
        "le": value <= first,
    }[condition.operator]


@pytest.mark.django_db
@hypothesis_settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(CONDITIONS, st.lists(RECORDS, min_size=1, max_size=4))
def test_sql_and_python_judge_alike(condition: Condition, records: list[dict[str, Any]]) -> None:
    values: dict[str, Any] = {}

    def bind(value: Any) -> str:
        values[f"v{len(values)}"] = value
        return f"%(v{len(values) - 1})s"

    expression = condition_sql(condition, bind)
    with connection.cursor() as cursor:
        cursor.execute(
            f"""SELECT {expression} FROM unnest(%(texts)s::text[]) WITH ORDINALITY AS t(text, n)
                 CROSS JOIN LATERAL (SELECT t.text::json AS data) r ORDER BY t.n""",  # noqa: S608  what is tested
            values | {"texts": [dumps(record) for record in records]},
        )
        found = [verdict for (verdict,) in cursor.fetchall()]

    assert found == [holds(condition, record) for record in records]
