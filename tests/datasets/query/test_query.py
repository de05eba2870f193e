"""The query string of a read: every parameter, every tolerance, every refusal."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apperate.kernel.ranges import parse_range
from apperate.kernel.refusals import Refusal
from datasets.query.parameters import IGNORED, PARAMETERS, SELECTING, of
from datasets.query.parsing import Query, parse
from datasets.records.schema import Schema, parse_schema

NOW = datetime(2026, 11, 23, 20, 14, 7, 500, tzinfo=UTC)  # a Monday


def schema() -> Schema:
    parsed = parse_schema(
        {
            "properties": {
                "ticker": {"type": "string"},
                "day": {"type": "string", "format": "date"},
                "close": {"type": "number"},
                "a b;": {},
            }
        },
        {"key": "ticker", "date": "day"},
    )
    assert isinstance(parsed, Schema)
    return parsed


def ask(text: str, **path: Any) -> Query | Refusal:
    return parse(parse_qsl(text, keep_blank_values=True), schema(), now=NOW, **path)


def query(text: str, **path: Any) -> Query:
    parsed = ask(text, **path)
    assert isinstance(parsed, Query), parsed
    return parsed


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {"order": "desc", "limit": 1, "offset": 0}),
        ("last=5", {"order": "desc", "limit": 5}),
        ("last=5&limit=1", {"order": "desc", "limit": 5}),
        ("first=3&limit=1", {"order": "asc", "limit": 3}),
        ("next=2", {"order": "asc", "limit": 2}),
        ("limit=7", {"order": "desc", "limit": 7}),
        ("limit=5001", {"limit": 5000}),
        ("last=100000", {"limit": 100000}),
        ("offset=10&limit=2", {"offset": 10, "limit": 2}),
        ("offset=0", {"offset": 0}),
        ("on=2020-02-29", {"limit": 5000}),
        ("from=2020-02-29", {"limit": 5000}),
        ("to=2020-02-29", {"limit": 5000}),
        ("range=1y", {"limit": 5000}),
        ("range=1y&limit=1", {"limit": 1}),
        ("range=1y&last=2", {"limit": 2}),
        ("sort=ASC", {"order": "asc", "turned": False}),
        ("sort=desc", {"order": "desc", "turned": False}),
        ("last=5&sort=asc", {"order": "desc", "turned": True, "limit": 5}),
        ("first=5&sort=DESC", {"order": "asc", "turned": True, "limit": 5}),
        ("range=1w&calendar=true", {"order": "asc", "turned": False}),
        ("range=1w&calendar=true&sort=desc", {"order": "desc", "turned": False}),
        ("last=5&calendar=true", {"order": "desc", "turned": False}),
        ("filter=close,ticker,close", {"filter": ("close", "ticker")}),
        ("filter=a b;", {"filter": ("a b;",)}),
        ("format=CSV", {"format": "csv"}),
        ("schema=True", {"schema_only": True}),
        ("schema=1", {"schema_only": True}),
        ("schema=FALSE", {"schema_only": False}),
    ],
)
def test_parse_reads(text: str, expected: dict[str, Any]) -> None:
    parsed = query(text)

    assert {name: getattr(parsed, name) for name in expected} == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "&&",
        "&token=",
        "token=pk_1&token=pk_2",
        "limit=",
        "limit=undefined",
        "limit=null",
        "last=NULL&first=undefined",
        "on=&from=&to=&range=",
        "filter=&format=&schema=",
        "Limit=5",
        "nosuch=5",
        "limit=1&limit=1",
        "limit=&limit=1",
        *(f"{name}=x" for name in sorted(IGNORED)),
    ],
)
def test_parse_tolerates(text: str) -> None:
    assert replace(query(text), question="") == Query(is_paged=True)


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("on=2020-02-29", "2020-02-29", "2020-03-01"),
        ("on=20200229", "2020-02-29", "2020-03-01"),
        ("on=2020-02-29T10:00:00Z", "2020-02-29", "2020-03-01"),
        ("on=1582934400000", "2020-02-29", "2020-03-01"),
        ("from=2020-02-29", "2020-02-29", None),
        ("on=2020", "2020-01-01", "2020-01-02"),
        ("from=2010", "2010-01-01", None),
        ("to=2010", None, "2011-01-01"),
        ("from=2010&to=2010", "2010-01-01", "2011-01-01"),
        ("to=9999", None, None),
        ("from=2020-02-29T10:00:00", "2020-02-29T10:00", None),
        ("from=2020-02-29T10:00:00%2B02:00", "2020-02-29T08:00", None),
        ("from=2020-02-29T10:00:00+02:00", "2020-02-29T08:00", None),
        ("from=1582934400001", "2020-02-29T00:00:00.001", None),
        ("from=0", "1970-01-01", None),
        ("from=-86400000000", "1967-04-07", None),
        ("to=2020-02-29", None, "2020-03-01"),
        ("to=2020-02-29T10:00:00Z", None, "2020-02-29T10:00:00.000001"),
        ("to=9999-12-31", None, None),
        ("from=2020-01-01&to=2020-01-01", "2020-01-01", "2020-01-02"),
        ("from=2020-01-01&range=2020&to=2020-02-01", "2020-01-01", "2020-02-02"),
        ("range=last-month&from=2026-10-20", "2026-10-20", "2026-11-01"),
        ("next=1", "2026-11-23T20:14:07.000501", None),
    ],
)
def test_dates_become_half_open_spans(text: str, start: str | None, end: str | None) -> None:
    parsed = query(text)

    assert parsed.from_at == (start and at(start))
    assert parsed.to_at == (end and at(end))


RANGES = [
    ("today", "2026-11-23", "2026-11-24"),
    ("YESTERDAY", "2026-11-22", "2026-11-23"),
    ("ytd", "2026-01-01", "2026-11-24"),
    ("last-week", "2026-11-15", "2026-11-22"),
    ("Last-Month", "2026-10-01", "2026-11-01"),
    ("last-quarter", "2026-07-01", "2026-10-01"),
    ("1d", "2026-11-23", "2026-11-24"),
    ("2d", "2026-11-22", "2026-11-24"),
    ("2W", "2026-11-10", "2026-11-24"),
    ("1m", "2026-10-24", "2026-11-24"),
    ("2q", "2026-05-24", "2026-11-24"),
    ("5y", "2021-11-24", "2026-11-24"),
    ("99999y", "0001-01-01", "2026-11-24"),
    ("99999w", "0110-05-20", "2026-11-24"),
    ("Q12020", "2020-01-01", "2020-04-01"),
    ("q42020", "2020-10-01", "2021-01-01"),
    ("H12020", "2020-01-01", "2020-07-01"),
    ("h22020", "2020-07-01", "2021-01-01"),
    ("2020", "2020-01-01", "2021-01-01"),
    ("9999", "9999-01-01", None),
]
FORWARD = [
    ("today", "2026-11-23", "2026-11-24"),
    ("tomorrow", "2026-11-24", "2026-11-25"),
    ("this-week", "2026-11-22", "2026-11-29"),
    ("this-month", "2026-11-01", "2026-12-01"),
    ("this-quarter", "2026-10-01", "2027-01-01"),
    ("next-week", "2026-11-29", "2026-12-06"),
    ("NEXT-MONTH", "2026-12-01", "2027-01-01"),
    ("next-quarter", "2027-01-01", "2027-04-01"),
    ("last-month", "2026-10-01", "2026-11-01"),
    ("2d", "2026-11-23", "2026-11-25"),
    ("1w", "2026-11-23", "2026-11-30"),
    ("3m", "2026-11-23", "2027-02-23"),
    ("1q", "2026-11-23", "2027-02-23"),
    ("1y", "2026-11-23", "2027-11-23"),
    ("99999y", "2026-11-23", None),
]


@pytest.mark.parametrize(("text", "start", "end"), RANGES)
def test_range_looks_back(text: str, start: str, end: str | None) -> None:
    parsed = query(f"range={text}")

    assert (parsed.from_at, parsed.to_at) == (at(start), end and at(end))


@pytest.mark.parametrize(("text", "start", "end"), FORWARD)
def test_range_looks_forward_with_calendar(text: str, start: str, end: str | None) -> None:
    parsed = query(f"range={text}&calendar=true")

    assert (parsed.from_at, parsed.to_at) == (at(start), end and at(end))


@pytest.mark.parametrize(
    ("today", "text", "start", "end"),
    [
        ("2024-02-29", "1y", "2023-03-01", "2024-03-01"),
        ("2024-03-31", "1m", "2024-03-01", "2024-04-01"),
        ("2026-11-22", "last-week", "2026-11-15", "2026-11-22"),
        ("2026-11-28", "last-week", "2026-11-15", "2026-11-22"),
        ("2026-01-15", "last-month", "2025-12-01", "2026-01-01"),
        ("2026-01-15", "last-quarter", "2025-10-01", "2026-01-01"),
        ("2026-12-31", "today", "2026-12-31", "2027-01-01"),
    ],
)
def test_range_at_the_edges_of_the_calendar(today: str, text: str, start: str, end: str) -> None:
    assert parse_range(text, now=at(today)) == (at(start), at(end))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("limit=abc", "limit"),
        ("limit=0", "limit"),
        ("limit=-1", "limit"),
        ("limit=1.5", "limit"),
        ("limit=1e3", "limit"),
        ("limit=٣", "limit"),
        ("limit= 5", "limit"),
        ("limit=9223372036854775808", "limit"),
        ("limit=" + "9" * 5000, "limit"),
        ("limit=1&limit=2", "limit"),
        ("last=0", "last"),
        ("last=true", "last"),
        ("first=x", "first"),
        ("last=1&first=1", "first"),
        ("last=1&next=1", "next"),
        ("offset=-1", "offset"),
        ("offset=9223372036854775808", "offset"),
        ("on=2020-02-30", "on"),
        ("on=20200230", "on"),
        ("on=yesterday", "on"),
        ("from=01/02/2020", "from"),
        ("from=0000", "from"),
        ("from=202", "from"),
        ("from=99999999999999999999", "from"),
        ("from=999999999999999", "from"),
        ("to=\0", "to"),
        ("to=2020-01-01T25:00", "to"),
        ("from=2020-01-02&to=2020-01-01", "from"),
        ("range=0d", "range"),
        ("range=5x", "range"),
        ("range=d", "range"),
        ("range=999999d", "range"),
        ("range=0000", "range"),
        ("range=Q52020", "range"),
        ("range=H32020", "range"),
        ("range=max", "range"),
        ("range=last-year", "range"),
        ("range=tomorrow", "range"),
        ("range=this-week", "range"),
        ("range=next-quarter&calendar=false", "range"),
        ("calendar=yes", "calendar"),
        ("sort=up", "sort"),
        ("sort=close", "sort"),
        ("filter=nosuch", "filter"),
        ("filter=close,Ticker", "filter"),
        ("filter=,", "filter"),
        ("format=xml", "format"),
        ("format=xlsx", "format"),
        ("schema=2", "schema"),
        ("batchSeparator=a", "batchSeparator"),
        ("interval=0", "interval"),
        ("dateField=close", "dateField"),
        ("dateField=nope", "dateField"),
        ("subattribute=a|b", "subattribute"),
        ("subattribute=ticker", "subattribute"),
        ("where=a", "where"),
        ("where=close gt", "where"),
        ("callback=a b", "callback"),
        ("callback=alert(1)", "callback"),
        ("callback=constructor.constructor", "callback"),
        ("callback=show&format=csv", "callback"),
        ("cursor=abc", "cursor"),
        ("queryId=abcd", "queryId"),
        ("export=maybe", "export"),
    ],
    ids=lambda value: ascii(value)[:50],
)
def test_parse_refuses_a_bad_value_and_names_it(text: str, name: str) -> None:
    refusal = ask(text)

    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.check, refusal.status) == ("invalid-values", "query", 400)
    assert refusal.needed is not None and refusal.needed.startswith(f"{name}: ")
    assert refusal.received is not None and refusal.received.startswith(f"{name}=")


@pytest.mark.parametrize(
    ("path", "text", "keys"),
    [
        (None, "", ()),
        ("AAPL", "", ("AAPL",)),
        ("aapl", "", ("aapl",)),
        ("BRK/B x.y-z", "", ("BRK/B x.y-z",)),
        ("A,B,,A", "", ("A", "B")),
        ("A, LTD|B", "batchSeparator=|", ("A, LTD", "B")),
    ],
)
def test_keys_come_from_the_path(path: str | None, text: str, keys: tuple[str, ...]) -> None:
    parsed = query(text, path_key=path, path_subkey="10-Q")

    assert (parsed.keys, parsed.subkey) == (keys, "10-Q")


def test_at_most_2000_keys() -> None:
    assert len(query("", path_key=",".join(map(str, range(2000)))).keys) == 2000
    refusal = ask("", path_key=",".join(map(str, range(2001))))
    assert isinstance(refusal, Refusal) and refusal.received == "key=2001 keys"


def test_table_is_complete_and_consistent() -> None:
    assert len({found.name for found in PARAMETERS}) == len(PARAMETERS)
    assert not IGNORED & {found.name for found in PARAMETERS}
    assert {"limit", "from", "to", "on", "range", "last", "first", "offset", "key"} <= SELECTING
    assert all(found.meaning and found.needed and found.example for found in PARAMETERS)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(list(of("read"))) | st.text(max_size=5),
            st.text(max_size=12)
            | st.from_regex(r"[0-9]{1,9}[dwmqy]?", fullmatch=True)
            | st.sampled_from(
                ["last-week", "2020-02-29", "20200229", "9999-12-31", "0001-01-01", "Q12020", "true", "asc"]
            ),
        ),
        max_size=5,
    ),
    st.datetimes(timezones=st.just(UTC), min_value=datetime(2024, 1, 1), max_value=datetime(2200, 1, 1)),
)
def test_parse_never_raises_and_stays_within_its_bounds(pairs: list[tuple[str, str]], now: datetime) -> None:
    parsed = parse(pairs, schema(), now=now)

    assert isinstance(parsed, Refusal) or (
        1 <= parsed.limit <= 10**9 and parsed.offset >= 0 and parsed.order in ("asc", "desc")
    )
