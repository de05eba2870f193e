"""Schemas that data suggests, on real files and on tables that show each rule."""

import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apperate.kernel.refusals import Refusal
from datasets.files import inference
from datasets.files.inference import infer_file, infer_records
from datasets.files.parsing import open_rows
from datasets.records.checking import RecordChecker, Row
from datasets.records.schema import PropertyType, Schema, parse_schema

NOW = datetime(2026, 11, 23, 20, 14, 7, tzinfo=UTC)
Save = Callable[[bytes], Path]
T = PropertyType


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def write(body: bytes) -> Path:
        path = tmp_path / "upload"
        path.write_bytes(body)
        return path

    return write


def inferred(path: Path) -> Schema:
    schema = infer_file(path)
    assert isinstance(schema, Schema), schema
    return schema


def types(schema: Schema) -> dict[str, str]:
    return {found.name: found.type.value for found in schema.properties}


def prices(rows: int) -> bytes:
    days = (datetime(2010, 1, 1) + timedelta(days=number // 2) for number in range(rows))
    lines = (f"{'AB'[number % 2]},{day:%Y-%m-%d},{number}.5,{number}" for number, day in enumerate(days))
    return "\n".join(["Ticker,Date,Close,Volume", *lines]).encode()


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "-2", "0"], T.INTEGER),
        (["1", "2.50"], T.NUMBER),
        (["2.50", "1"], T.NUMBER),
        (["1e5"], T.NUMBER),
        (["123456789012345678901234567890"], T.INTEGER),
        (["007"], T.STRING),
        (["1", "+2"], T.STRING),
        (["1,5"], T.STRING),
        (["1e400"], T.STRING),
        (["NaN"], T.STRING),
        (["true", "FALSE"], T.BOOLEAN),
        (["true", "1"], T.STRING),
        (["yes"], T.STRING),
        (["2020-02-29", "2021-01-01"], T.DATE),
        (["2020-02-29T10:00Z", "2021-01-01"], T.DATE),
        (["2020-02-30"], T.STRING),
        (["01/02/2020"], T.STRING),
        (["20200101"], T.INTEGER),
        (["2020-01-01", "5"], T.STRING),
        (["1", "x", "2"], T.STRING),
        (["", ""], T.STRING),
        (["", "5"], T.INTEGER),
    ],
    ids=str,
)
def test_types_of_csv_columns(save: Save, values: list[str], kind: PropertyType) -> None:
    body = "x,other\n" + "".join(f'"{value}",a\n' for value in values)

    assert types(inferred(save(body.encode())))["x"] == kind


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2], T.INTEGER),
        ([1, 2.5], T.NUMBER),
        ([True, False], T.BOOLEAN),
        ([True, 1], T.ANY),
        (["a", 1], T.ANY),
        (["a", "2020-01-01"], T.STRING),
        (["2020-01-01", None], T.DATE),
        ([{}, {"a": 1}], T.OBJECT),
        ([[], [1]], T.ARRAY),
        ([[], {}], T.ANY),
        ([None], T.ANY),
        (["5", "6"], T.STRING),
    ],
    ids=str,
)
def test_types_of_json_properties(values: list[Any], kind: PropertyType) -> None:
    schema = infer_records([{"x": value} for value in values])

    assert isinstance(schema, Schema)
    assert types(schema) == {"x": kind}


DEMO = Path(__file__).resolve().parents[3] / "demo"


def test_stocks_are_keyed_by_ticker_and_date(save: Save) -> None:
    path = save(gzip.decompress((DEMO / "stocks.csv.gz").read_bytes()))

    schema = inferred(path)

    assert schema.column_mapping() == {"key": "Ticker", "date": "Date"}
    numbers = dict.fromkeys(("Open", "High", "Low", "Close", "Adj Close"), "number")
    assert types(schema) == {"Ticker": "string", "Date": "date", "Volume": "integer"} | numbers
    rows = open_rows(path, schema, NOW)
    assert not isinstance(rows, Refusal)
    found = list(rows)
    assert len(found) == 12_154
    assert found[0] == (
        2,
        Row(
            "AAPL",
            "",
            datetime(2000, 3, 1, tzinfo=UTC),
            '{"Ticker":"AAPL","Date":"2000-03-01","Open":118.56,"High":132.06,"Low":118.5,"Close":130.31,'
            '"Volume":9616100,"Adj Close":4.186662803811}',
        ),
    )


def test_weather_is_keyed_by_station_and_date() -> None:
    schema = inferred(DEMO / "lincoln_weather.csv")

    assert schema.column_mapping() == {"key": "STATION", "date": "DATE"}
    assert types(schema)["TMAX"] == "integer"


def test_cars_need_a_subkey_because_names_repeat_within_a_year() -> None:
    schema = inferred(DEMO / "cars.json")

    assert schema.column_mapping() == {"key": "Name", "subkey": "Weight_in_lbs", "date": "Year"}
    assert types(schema)["Miles_per_Gallon"] == "number"
    rows = open_rows(DEMO / "cars.json", schema, NOW)
    assert not isinstance(rows, Refusal)
    found = [row for _, row in rows if isinstance(row, Row)]
    assert len(found) == len({row[:3] for row in found}) == 406


INDEXES = {
    "key with date": ("k,d,n\nA,2020-01-01,1\nB,2020-01-01,1\nA,2020-01-02,1", {"key": "k", "date": "d"}),
    "first text": ("a,b\nx,p\ny,q", {"key": "a"}),
    "second text": ("a,b\nx,p\nx,q", {"key": "b"}),
    "numbers are no key": ("n,a\n1,x\n2,x", {"key": "a", "subkey": "n"}),
    "subkey": ("a,b,c\nx,p,1\nx,q,1\ny,p,1", {"key": "a", "subkey": "b"}),
    "subkey after another": ("a,b,c\nx,p,1\nx,p,2\ny,p,1", {"key": "a", "subkey": "c"}),
    "none": ("a,b\nx,1\nx,1", {}),
    "none with date": ("a,d\nx,2020-01-01\nx,2020-01-01", {"date": "d"}),
    "numbers alone": ("n,m\n1,2\n3,4", {}),
    "empty cell is no key": ("a,b\nx,p\n,q", {"key": "b"}),
    "empty cell is no date": ("a,d,e\nx,2020-01-01,2020-01-01\ny,,2020-01-01", {"key": "a", "date": "e"}),
    "first date": ("a,d,e\nx,2020-01-01,2020-01-02", {"key": "a", "date": "d"}),
    "same day twice": ("a,d\nx,2020-01-01\nx,2020-01-01T00:00Z", {"date": "d"}),
    "text that is long": (f"a,b\n{'x' * 1501},p\ny,q", {"key": "b"}),
    "american dates": ("a,d\nx,01/02/2020\ny,01/02/2020", {"key": "a"}),
    "only text in quotes": ('"a","b"\n"x, y","1"\n"z","2"', {"key": "a"}),
}


@pytest.mark.parametrize(("body", "mapping"), INDEXES.values(), ids=INDEXES.keys())
def test_index(save: Save, body: str, mapping: dict[str, str]) -> None:
    schema = inferred(save(body.encode()))

    assert schema.column_mapping() == mapping
    assert [found.name for found in schema.properties if not found.nullable] == [
        name for name in schema.names if name in mapping.values()
    ]


def test_date_format_says_whether_there_are_times(save: Save) -> None:
    days, times = inferred(save(b"a,d,t\nx,2020-01-01,2020-01-01 10:00\n")).properties[1:]

    assert (days.date_format, times.date_format) == ("date", "date-time")


def test_json_properties_are_all_that_occur_in_order_of_appearance() -> None:
    schema = infer_records([{"k": "A", "n": 1}, {"extra": [], "k": "B"}])

    assert isinstance(schema, Schema)
    assert (schema.names, schema.key) == (("k", "n", "extra"), "k")


def test_invalid_lines_are_passed_over(save: Save) -> None:
    assert inferred(save(b"a,b\nx\ny,1\n")).names == ("a", "b")
    assert inferred(save(b'{"a":"x"}\n{"a":\n{"a":"y"}')).key == "a"


@pytest.mark.parametrize(
    ("body", "part"),
    [
        (b"", "empty"),
        (b"a,b\n", "no records"),
        (b"a,b\n1\n", "no records"),
        (b"a,a\n1,2\n", 'columns twice: "a"'),
        (b"[]", "no records"),
        (b"{}", "no records"),
        (b'[{"a":1}', "not valid JSON"),
        (b'[{"a":1},{"a":}]', "not valid JSON at line 1, column 15"),
        (b'{"_systemId":1}', "do not begin with _system"),
        (b'{"":1}', "1 to 255 characters"),
        (json.dumps({str(number): 1 for number in range(1001)}).encode(), "more than 1,000"),
        (b"[object Object]", "forgot to serialise"),
        (b"a\n\xff\n", "not UTF-8"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_nothing_to_infer_from(save: Save, body: bytes, part: str) -> None:
    refusal = infer_file(save(body))

    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.check) == ("invalid-values", "body")
    assert part in refusal.detail


@pytest.mark.parametrize("entries_max", [1, 50, 700, 10_000])
def test_bounds_on_memory_do_not_change_the_answer(
    save: Save, monkeypatch: pytest.MonkeyPatch, entries_max: int
) -> None:
    monkeypatch.setattr(inference, "ENTRIES_MAX", entries_max)
    monkeypatch.setattr(inference, "PASSES_MAX", 10_000)

    assert inferred(save(prices(600))).column_mapping() == {"key": "Ticker", "date": "Date"}


def test_after_too_many_passes_the_key_is_generated(save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "ENTRIES_MAX", 50)
    monkeypatch.setattr(inference, "PASSES_MAX", 3)

    assert inferred(save(prices(600))).column_mapping() == {"date": "Date"}


cells = st.sampled_from(["", "1", "2.5", "007", "true", "2020-01-01", "2020-01-01T10:00", "x", "=y", "[1]"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(cells, cells, cells), min_size=1, max_size=8))
def test_a_file_fits_the_schema_it_suggests_and_its_index_is_unique(
    save: Save, table: list[tuple[str, str, str]]
) -> None:
    path = save("\n".join(["a,b,c", *map(",".join, table)]).encode())
    schema = inferred(path)

    rows = open_rows(path, schema, NOW)

    assert not isinstance(rows, Refusal)
    found = [row for _, row in rows if isinstance(row, Row)]
    assert len(found) == len(table)
    assert schema.key is None or len({row[:3] for row in found}) == len(table)
    assert parse_schema(schema.to_json(), schema.column_mapping()) == schema


scalars = st.none() | st.booleans() | st.integers() | st.sampled_from(["x", "", "2020-01-01", 1.5])
json_values = scalars | st.lists(scalars, max_size=1)


@settings(deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from("abc"), json_values, min_size=1), min_size=1, max_size=6))
def test_records_fit_the_schema_they_suggest(records: list[dict[str, Any]]) -> None:
    schema = infer_records(records)

    assert isinstance(schema, Schema)
    checker = RecordChecker(schema, now=NOW)
    assert all(isinstance(checker.check(record), Row) for record in records)
