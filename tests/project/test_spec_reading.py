"""The table "Reading records" of http-api.md: one test per parameter, over HTTP, named after it.

test_spec_lines.py holds that none is left out. What a parameter refuses, and every form of its values, is in
test_query.py and test_data_api.py.
"""

from pathlib import Path
from urllib.parse import quote

import duckdb
import pytest

from tests.support.served import PEOPLE, PRICES, Served

pytestmark = pytest.mark.django_db
AAPL = "PRICES/AAPL"


def test_parameter_last(served: Served) -> None:
    assert served.shown(AAPL, "last=3") == ["A6", "A5", "A4"]
    assert served.shown(AAPL, "last=2&limit=1") == ["A6", "A5"], "it overrides limit"


def test_parameter_first(served: Served) -> None:
    assert served.shown(AAPL, "first=2&limit=1") == ["A1", "A2"]


def test_parameter_next(served: Served) -> None:
    days = [record["day"] for record in served.get("PLANS/AAPL", "next=2&limit=1").json()]

    assert days == served.to_come[:2]


def test_parameter_limit(served: Served) -> None:
    assert served.shown(AAPL) == ["A6"], "one record unless a date is asked for"
    assert served.shown(AAPL, "limit=2") == ["A6", "A5"]
    for dated in ("range=2024", "from=2024-01-01", "to=2024-01-06"):
        assert len(served.shown(AAPL, dated)) == 6, dated


def test_parameter_limit_is_at_most_5000_records_an_answer(served: Served) -> None:
    served.write("SCRATCH", [{"ticker": f"K{number}", "day": "2024-01-01"} for number in range(5_001)])

    reply = served.get("SCRATCH", "limit=6000&filter=ticker")
    rest = served.get("SCRATCH", f"limit=6000&filter=ticker&cursor={reply.headers['apperate-next-cursor']}")

    assert (len(reply.json()), len(rest.json())) == (5_000, 1)


def test_parameter_offset(served: Served) -> None:
    assert served.shown(AAPL, "limit=2&offset=3") == ["A3", "A2"]


def test_parameter_cursor(served: Served) -> None:
    reply = served.get(AAPL, "limit=4")

    cursor = reply.headers["apperate-next-cursor"]
    assert served.shown(AAPL, f"limit=4&cursor={cursor}") == ["A2", "A1"]
    assert reply.headers["link"].endswith('rel="next"')
    assert served.get(AAPL, f"limit=3&cursor={cursor}").code == "invalid-values", "bound to its query"


def test_parameter_export(served: Served) -> None:
    reply = served.get("PRICES", "export=true&sort=asc")

    assert [record["day"] for record in reply.json()] == sorted(record["day"] for record in PRICES)
    assert int(reply.headers["content-length"]) == len(reply.body)


def test_parameter_on(served: Served) -> None:
    for day in ("2024-01-03", "20240103", "2024-01-03T10:00:00Z", "1704240000000"):
        assert served.shown(AAPL, f"on={day}") == ["A3"], day
    assert served.shown("PEOPLE", "on=2010") == ["2010"]


def test_parameter_from(served: Served) -> None:
    for day in ("2024-01-05", "20240105", "2024-01-05T00:00:00Z", "1704412800000"):
        assert served.shown(AAPL, f"from={day}") == ["A6", "A5"], day
    assert served.shown("PEOPLE/Oslo", "from=2011") == ["2012", "2011"]


def test_parameter_to(served: Served) -> None:
    for day in ("2024-01-02", "20240102", "2024-01-02T00:00:00Z", "1704153600000"):
        assert served.shown(AAPL, f"to={day}") == ["A2", "A1"], day
    assert served.shown("PEOPLE/Oslo", "from=2009&to=2010") == ["2010", "2009"]
    assert len(served.shown(AAPL, "to=2024")) == 6, "a year is included whole"


def test_parameter_range(served: Served) -> None:
    for named in ("2024", "Q12024", "q12024", "H12024", "100y"):
        assert len(served.shown(AAPL, f"range={named}")) == 6, named
    for empty in ("2023", "Q22024", "H22024", "today", "YESTERDAY", "last-week", "Last-Month", "1d", "1w"):
        assert served.shown(AAPL, f"range={empty}") == [], empty
    for other in ("ytd", "last-quarter", "2m", "2q", "1y"):
        assert served.get(AAPL, f"range={other}").status == 200, other


def test_parameter_calendar(served: Served) -> None:
    days = [record["day"] for record in served.get("PLANS", "range=1y&calendar=true").json()]

    assert days == served.to_come, "forward, the soonest first"
    for word in ("tomorrow", "this-week", "next-month", "next-quarter"):
        assert served.get("PLANS", f"range={word}&calendar=true").status == 200, word
        assert served.get("PLANS", f"range={word}").code == "invalid-values", word


def test_parameter_sort(served: Served) -> None:
    for word in ("ASC", "asc"):
        assert served.shown(AAPL, f"limit=2&sort={word}") == ["A1", "A2"]
    assert served.shown(AAPL, "limit=2&sort=DESC") == served.shown(AAPL, "limit=2") == ["A6", "A5"]


def test_parameter_interval(served: Served) -> None:
    assert served.shown(AAPL, "range=2024&interval=2") == ["A6", "A4", "A2"]


def test_parameter_date_field(served: Served) -> None:
    assert served.shown(AAPL, "dateField=paid&from=2024-02-26") == ["A1", "A2", "A3"]


def test_parameter_filter(served: Served) -> None:
    assert served.get(AAPL, "filter=close,ticker").body == b'[{"close":6,"ticker":"AAPL"}]'


def test_parameter_subattribute(served: Served) -> None:
    asked = quote("ticker|MSFT,close~60", safe="")

    assert served.shown("PRICES", f"subattribute={asked}&limit=9") == ["M5", "M4", "M3", "M2", "M1"]


def test_parameter_where(served: Served) -> None:
    asked = quote("close gt 4 and ticker in (AAPL, IBM)")

    assert served.shown("PRICES", f"where={asked}&limit=9") == ["A6", "A5"]


@pytest.mark.parametrize(
    ("name", "content_type", "body"),
    [
        ("json", "application/json", b'[{"ticker":"AAPL","close":6}]'),
        ("csv", "text/csv", b"ticker,close\r\nAAPL,6\r\n"),
        ("psv", "text/plain", b"ticker|close\r\nAAPL|6\r\n"),
        ("ndjson", "application/x-ndjson", b'{"ticker":"AAPL","close":6}\n'),
    ],
)
def test_parameter_format(served: Served, name: str, content_type: str, body: bytes) -> None:
    for reply in (
        served.get(AAPL, f"filter=ticker,close&format={name.upper()}"),
        served.get(AAPL, f"filter=ticker,close&format={name}", Accept="text/html"),
    ):
        assert (reply.headers["content-type"], reply.body) == (f"{content_type}; charset=utf-8", body)


def test_parameter_format_parquet(served: Served, tmp_path: Path) -> None:
    file = tmp_path / "answer.parquet"
    file.write_bytes(served.get(AAPL, "last=2&format=parquet").body)

    with duckdb.connect() as connection:
        rows = connection.read_parquet(str(file)).project("ticker, close").fetchall()
    assert rows == [("AAPL", 6.0), ("AAPL", 5.0)]


def test_format_by_accept(served: Served) -> None:
    assert served.get(AAPL, "filter=close", Accept="text/csv").body == b"close\r\n6\r\n"


def test_parameter_schema(served: Served) -> None:
    rows = served.get("PRICES", "schema=true").json()

    assert [(row["name"], row["type"]) for row in rows] == [
        ("ticker", "string"), ("day", "date"), ("close", "number"), ("paid", "date"),
    ]  # fmt: skip


def test_parameter_callback(served: Served) -> None:
    reply = served.get(AAPL, "callback=show&filter=close")

    assert reply.body == b'/**/show([{"close":6}]);'
    assert served.get(AAPL, "callback=alert(1)").code == "invalid-values"


def test_parameter_include_system_record_properties(served: Served) -> None:
    (record,) = served.get(AAPL, "includeSystemRecordProperties=true").json()

    system = record["_systemRecordProperties"]
    assert set(system) == {"id", "key", "subkey", "date", "updated"}
    assert (system["id"], system["key"], system["date"]) == ("PRICES", "AAPL", 1_704_499_200_000)


def test_parameter_query_id(served: Served) -> None:
    """The second use has what the overlap of ten seconds holds, so no more than the first."""
    first = served.shown("PEOPLE", "queryId=a1&limit=9")
    served.write("PEOPLE", [{"place": "Oslo", "age": "5-9", "year": "2012"}])
    second = served.get("PEOPLE", "queryId=a1&limit=9").json()

    assert len(first) == len(PEOPLE)
    assert "5-9" in {record["age"] for record in second}
    assert served.get("PEOPLE", "queryId=long").code == "invalid-values"


def test_parameter_batch_separator(served: Served) -> None:
    assert served.shown("PRICES/MSFT;AAPL", "last=2&batchSeparator=%3B") == ["M6", "M5", "A6", "A5"]


@pytest.mark.parametrize(
    "name", ["cache", "cacheTTL", "forward", "future", "updated", "collectionName", "transform"]
)
def test_parameter_accepted(served: Served, name: str) -> None:
    assert served.shown(AAPL, f"{name}=anything&last=2") == ["A6", "A5"]


def test_only_index_properties_are_searched_by_path(served: Served) -> None:
    assert served.shown("PRICES/6", "limit=9") == [], "a close of 6 is no key"
    assert served.shown("PEOPLE/Oslo/0-4", "last=1") == ["2012"]


def test_an_unknown_key_is_200_and_an_empty_array(served: Served) -> None:
    reply = served.get("PRICES/NONE", "last=5")

    assert (reply.status, reply.body) == (200, b"[]")


def test_keys_are_case_sensitive_and_hold_any_character(served: Served) -> None:
    keys = ["BRK A", "brk a", "a.b-c", "Zürich", "a/b"]
    served.write("SCRATCH", [{"ticker": key, "day": "2024-01-01"} for key in keys])

    for key in keys:
        found = served.get(f"SCRATCH/{quote(key, safe='')}", "limit=9").json()
        assert [record["ticker"] for record in found] == [key]


def test_etag_is_weak_and_if_none_match_answers_304(served: Served) -> None:
    etag = served.get(AAPL).headers["etag"]

    reply = served.get(AAPL, If_None_Match=etag)

    assert etag.startswith('W/"')
    assert (reply.status, reply.body) == (304, b"")
