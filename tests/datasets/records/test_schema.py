"""Schemas, ids and single records: what is accepted, and which sentence refuses the rest."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apperate.kernel.dates import parse_date, parse_iso
from apperate.kernel.json_text import dumps, loads_records, shown
from apperate.kernel.refusals import Refusal
from datasets.records.checking import RECORD_BYTES_MAX, RecordChecker, Row
from datasets.records.schema import Property, PropertyType, Schema, dataset_id, parse_schema

NOW = datetime(2026, 11, 23, 20, 14, 7, tzinfo=UTC)
PRICES = {
    "type": "object",
    "properties": {
        "ticker": {"type": "string", "description": "Exchange symbol"},
        "day": {"type": "string", "format": "date"},
        "close": {"type": "number"},
        "volume": {"type": "integer"},
        "listed": {"type": "boolean"},
        "tags": {"type": "array"},
        "details": {"type": "object"},
        "free": {},
    },
    "required": ["close"],
}
MAPPING = {"key": "ticker", "date": "day"}


def prices() -> Schema:
    schema = parse_schema(PRICES, MAPPING)
    assert isinstance(schema, Schema)
    return schema


def record(**changes: Any) -> dict[str, Any]:
    return {"ticker": "AAPL", "day": "2020-02-29", "close": Decimal("1.50")} | changes


@pytest.mark.parametrize(
    ("text", "stored"),
    [("stocks", "STOCKS"), ("A_1", "A_1"), ("_x", "_X"), ("9", "9"), ("a" * 63, "A" * 63)],
)
def test_dataset_id_is_stored_upper_case(text: str, stored: str) -> None:
    assert dataset_id(text) == stored


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a" * 64,
        "a-b",
        "a b",
        "a.b",
        "é",
        "ſ",
        "a\n",
        "a\0",
        "../a",
        "_system",
        "_SYSTEMx",
        "_System_",
        'a"',
        "٣",
    ],
    ids=repr,
)
def test_dataset_id_refuses(text: str) -> None:
    refusal = dataset_id(text)

    assert isinstance(refusal, Refusal)
    assert refusal.code == "invalid-values"


@pytest.mark.check("S20")
@given(st.text())
def test_dataset_id_never_raises_and_is_its_own_normal_form(text: str) -> None:
    stored = dataset_id(text)

    assert isinstance(stored, Refusal) or dataset_id(stored) == stored


def test_parse_schema_makes_index_properties_required_and_others_nullable() -> None:
    schema = prices()

    assert [found.name for found in schema.properties if not found.nullable] == ["ticker", "day", "close"]
    assert schema.get("day") == Property("day", PropertyType.DATE, nullable=False)
    assert schema.get("ticker") == Property("ticker", PropertyType.STRING, False, "Exchange symbol")
    assert schema.get("free") == Property("free", PropertyType.ANY)


def test_schema_survives_its_own_json() -> None:
    schema = prices()

    assert parse_schema(schema.to_json(), schema.column_mapping()) == schema
    assert schema.to_json()["properties"]["day"] == {"type": "string", "format": "date"}
    assert schema.column_mapping() == MAPPING


@pytest.mark.parametrize(
    ("described", "kind"),
    [
        ({"type": "date"}, PropertyType.DATE),
        ({"type": "string", "format": "date-time"}, PropertyType.DATE),
        ({"type": "string", "format": "email"}, PropertyType.STRING),
        ({"type": "Number"}, PropertyType.NUMBER),
        ({"type": ["integer", "null"]}, PropertyType.INTEGER),
        ({"type": ["integer", "number"]}, PropertyType.NUMBER),
        ({"type": ["string", "number"]}, PropertyType.ANY),
        ({"type": "any"}, PropertyType.ANY),
    ],
    ids=str,
)
def test_parse_schema_reads_types(described: dict[str, Any], kind: PropertyType) -> None:
    schema = parse_schema({"properties": {"x": described}})

    assert isinstance(schema, Schema)
    assert schema.properties[0].type is kind


def test_date_mapped_to_a_text_property_makes_it_a_date() -> None:
    schema = parse_schema({"properties": {"d": {"type": "string"}}}, {"date": "d", "key": None, "subkey": ""})

    assert isinstance(schema, Schema)
    assert schema.properties == (Property("d", PropertyType.DATE, nullable=False),)


@pytest.mark.check("S39")
@pytest.mark.parametrize(
    "name", ["a b", "a;--", 'a"b', "é", "a'b", "日付", "x" * 255, " ", "key", "\n", "__proto__"], ids=repr
)
def test_parse_schema_takes_any_text_as_property_name(name: str) -> None:
    assert isinstance(parse_schema({"properties": {name: {"type": "string"}}}), Schema)


@pytest.mark.parametrize(
    ("schema_json", "mapping", "names"),
    [
        (None, None, "schema"),
        ([], None, "schema"),
        ({}, None, "schema"),
        ({"properties": {}}, None, "schema.properties"),
        ({"properties": {str(n): {} for n in range(1001)}}, None, "schema.properties"),
        ({"properties": {"": {}}}, None, "schema.properties"),
        ({"properties": {"a\0": {}}}, None, "schema.properties"),
        ({"properties": {"\ud800": {}}}, None, "schema.properties"),
        ({"properties": {"x" * 256: {}}}, None, "schema.properties"),
        ({"properties": {"_systemId": {}}}, None, "schema.properties"),
        ({"properties": {"a": "string"}}, None, 'schema.properties."a"'),
        ({"properties": {"a": {"type": "text"}}}, None, 'schema.properties."a".type'),
        ({"properties": {"a": {"type": 5}}}, None, 'schema.properties."a".type'),
        ({"properties": {"a": {"type": [["x"]]}}}, None, 'schema.properties."a".type'),
        ({"properties": {"a": {"description": 5}}}, None, 'schema.properties."a".description'),
        ({"properties": {"a": {}}, "required": "a"}, None, "schema.required"),
        ({"properties": {"a": {}}, "required": ["b"]}, None, "schema.required"),
        ({"properties": {"a": {}}, "required": [[]]}, None, "schema.required"),
        (PRICES, [], "columnMapping"),
        (PRICES, {"id": "ticker"}, "columnMapping"),
        (PRICES, {"key": 5}, "columnMapping.key"),
        (PRICES, {"key": "nosuch"}, "columnMapping.key"),
        (PRICES, {"key": "Ticker"}, "columnMapping.key"),
        (PRICES, {"key": "tags"}, "columnMapping.key"),
        (PRICES, {"key": "listed"}, "columnMapping.key"),
        (PRICES, {"key": "free"}, "columnMapping.key"),
        (PRICES, {"date": "close"}, "columnMapping.date"),
        (PRICES, {"subkey": "ticker"}, "columnMapping.subkey"),
        (PRICES, {"key": "ticker", "subkey": "ticker"}, "columnMapping"),
    ],
    ids=lambda value: value if isinstance(value, str) else ascii(value)[:40],
)
def test_parse_schema_refuses_and_names_the_place(schema_json: Any, mapping: Any, names: str) -> None:
    refusal = parse_schema(schema_json, mapping)

    assert isinstance(refusal, Refusal)
    assert refusal.check == "body"
    assert refusal.detail.startswith(f"The value of {names} is not valid: needed ")
    assert refusal.detail.encode()


def test_check_gives_the_row_with_numbers_as_written() -> None:
    row = RecordChecker(prices(), now=NOW).check(record(close=Decimal("4.180"), volume=2**80))

    assert row == Row(
        "AAPL",
        "",
        datetime(2020, 2, 29, tzinfo=UTC),
        '{"ticker":"AAPL","day":"2020-02-29","close":4.180,"volume":1208925819614629174706176}',
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"volume": None},
        {"volume": Decimal("5.0")},
        {"close": 0},
        {"close": Decimal("-0.0")},
        {"close": Decimal("1E-400")},
        {"close": Decimal("0E+999999")},
        {"listed": False},
        {"tags": []},
        {"details": {"a": [1, {"b": None}]}},
        {"free": "text"},
        {"free": [True]},
        {"ticker": " "},
        {"ticker": "BRK/B 日本"},
        {"ticker": "x" * 1500},
        {"ticker": "\\u0000"},
    ],
    ids=str,
)
def test_check_accepts(changes: dict[str, Any]) -> None:
    assert isinstance(RecordChecker(prices(), now=NOW).check(record(**changes)), Row)


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"nosuch": 1}, '"nosuch" is not a property'),
        ({"ticker": None}, '"ticker": received null, needed text'),
        ({"ticker": ""}, "not empty"),
        ({"ticker": 5}, '"ticker": received number 5, needed text'),
        ({"ticker": "x" * 1501}, "at most 1,500 bytes"),
        ({"ticker": "é" * 751}, "at most 1,500 bytes"),
        ({"ticker": "a\0b"}, '"ticker": a NUL character'),
        ({"ticker": "\\\0"}, '"ticker": a NUL character'),
        ({"ticker": "\ud800"}, '"ticker": half of a surrogate pair'),
        ({"details": {"\udfff": 1}}, '"details": half of a surrogate pair'),
        ({"day": "2020-02-30"}, '"day": received text "2020-02-30", needed an ISO 8601 date that exists'),
        ({"day": "01/02/2020"}, '"day"'),
        ({"day": 20200101}, '"day"'),
        ({"day": None}, '"day"'),
        ({"close": "1"}, '"close": received text "1", needed a number'),
        ({"close": True}, '"close": received boolean true, needed a number'),
        ({"close": None}, '"close": received null, needed a number, because it is required'),
        ({"close": Decimal("1E+400")}, '"close"'),
        ({"close": Decimal("1E+999999999")}, '"close"'),
        ({"close": Decimal("NaN")}, '"close"'),
        ({"close": Decimal("Infinity")}, '"close"'),
        ({"close": float("nan")}, '"close"'),
        ({"close": 10**400}, '"close"'),
        ({"volume": Decimal("1.5")}, '"volume": received number 1.5, needed an integer'),
        ({"volume": False}, '"volume"'),
        ({"volume": Decimal("Infinity")}, '"volume"'),
        ({"listed": 1}, '"listed": received number 1, needed true or false'),
        ({"tags": {}}, '"tags": received an object of 0, needed an array'),
        ({"details": []}, '"details"'),
        ({"details": {"a": 10**400}}, '"details"'),
        ({"tags": nested(101)}, "at most 100 levels"),
        ({"free": nested(20_000)}, "at most 100 levels"),
        ({"free": "x" * RECORD_BYTES_MAX}, "at most 65,536 are allowed"),
    ],
    ids=lambda value: shown(next(iter(value))) if isinstance(value, dict) else ascii(value)[:40],
)
def test_check_refuses_and_names_the_property(changes: dict[str, Any], part: str) -> None:
    errors = RecordChecker(prices(), now=NOW).check(record(**changes))

    assert isinstance(errors, tuple) and not isinstance(errors, Row)
    assert part in errors[0]
    assert "\n".join(errors).encode()


def test_check_reports_every_fault_of_a_record() -> None:
    errors = RecordChecker(prices(), now=NOW).check({"ticker": 1, "close": "x", "q": 1})

    assert isinstance(errors, tuple) and not isinstance(errors, Row)
    assert len(errors) == 4


def test_generated_key_is_the_same_for_the_same_record_only() -> None:
    schema = parse_schema({"properties": {"a": {}, "b": {}}})
    assert isinstance(schema, Schema)
    checker = RecordChecker(schema, now=NOW)

    rows = [
        checker.check(each)
        for each in ({"a": 1, "b": None}, {"b": None, "a": 1}, {"a": 1}, {"a": 2}, {"a": "1"})
    ]

    keys = [row.key for row in rows if isinstance(row, Row)]
    assert keys[0] == keys[1] == keys[2] == "015abd7f5cc57a2dd94b7590f04ad808"
    assert len(set(keys)) == 3
    assert {row.date for row in rows if isinstance(row, Row)} == {datetime(2026, 11, 23, tzinfo=UTC)}


def test_number_keys_are_their_json_text() -> None:
    schema = parse_schema(
        {"properties": {"a": {"type": "integer"}, "b": {"type": "number"}}}, {"key": "a", "subkey": "b"}
    )
    assert isinstance(schema, Schema)

    row = RecordChecker(schema, now=NOW).check({"a": 7, "b": Decimal("1.50")})

    assert isinstance(row, Row)
    assert (row.key, row.subkey) == ("7", "1.50")


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2020-02-29", "2020-02-29T00:00:00+00:00"),
        ("2020-02-29T10:11", "2020-02-29T10:11:00+00:00"),
        ("2020-02-29t10:11:12.123456789z", "2020-02-29T10:11:12.123456+00:00"),
        ("2020-02-29 10:11:12,5", "2020-02-29T10:11:12.500000+00:00"),
        ("2020-03-01T00:30:00+01:00", "2020-02-29T23:30:00+00:00"),
        ("2020-03-01T00:30:00-0130", "2020-03-01T02:00:00+00:00"),
    ],
)
def test_parse_iso_reads(text: str, moment: str) -> None:
    assert parse_iso(text) == datetime.fromisoformat(moment)


@pytest.mark.parametrize(
    "text",
    [
        *("2020-02-30", "2019-02-29", "0000-01-01", "2020-13-01", "20200101", "2020-1-1", "01/02/2020"),
        *("2020-W01-1", "2020", "2020-01-01T", "2020-01-01T24:00", "2020-01-01T10", "2020-01-01T10:00:60"),
        *("0001-01-01T00:00+23:59", "٢٠٢٠-01-01", "2020-01-01\n"),
    ],
    ids=repr,
)
def test_parse_iso_refuses(text: str) -> None:
    assert parse_iso(text) is None


def test_a_date_property_may_hold_a_year_alone() -> None:
    assert parse_date("1950") == datetime(1950, 1, 1, tzinfo=UTC)
    assert parse_date("2020-02-29") == parse_iso("2020-02-29")
    for text in ("0000", "950", "19500", "1950-", "-1950", "1950.0", "١٩٥٠", "1950\n"):
        assert parse_date(text) is None, text


@pytest.mark.parametrize(
    ("value", "fits"), [(1950, True), (5, False), (Decimal("1950.5"), False), (19500, False)]
)
def test_a_number_mapped_as_the_date_is_a_year(value: Any, fits: bool) -> None:
    properties = {"place": {"type": "string"}, "year": {"type": "integer"}}
    schema = parse_schema({"properties": properties}, {"key": "place", "date": "year"})
    assert isinstance(schema, Schema)
    assert parse_schema(schema.to_json(), schema.column_mapping()) == schema

    row = RecordChecker(schema, now=NOW).check({"place": "A", "year": value})

    if fits:
        assert isinstance(row, Row)
        assert (row.date, row.data) == (datetime(1950, 1, 1, tzinfo=UTC), '{"place":"A","year":1950}')
    else:
        assert isinstance(row, tuple) and '"year"' in row[0]


@pytest.mark.parametrize(
    ("body", "records"),
    [
        (b'{"a":1}', [{"a": 1}]),
        (b' [{"a":1.50},{}] ', [{"a": Decimal("1.50")}, {}]),
        (b'\xef\xbb\xbf{"a":"\xc3\xa9"}', [{"a": "é"}]),
        (b'{"a":18446744073709551617}', [{"a": 18446744073709551617}]),
    ],
)
def test_loads_records_reads(body: bytes, records: list[dict[str, Any]]) -> None:
    assert loads_records(body) == records


CORPUS = {
    "empty": (b"", "The body is empty"),
    "white space": (b" \n", "The body is empty"),
    "forgotten": (b"[object Object]", "forgot to serialise"),
    "forgotten list": (b"[object Object],[object Object]", "forgot to serialise"),
    "syntax": (b'[{"a":1},\n{"a":}]', "line 2, column 6"),
    "cut": (b'[{"a":1}', "line 1, column 9"),
    "trailing": (b"{} {}", "extra data at line 1, column 4"),
    "duplicate": (b'{"a":1,"b":2,"b":3}', 'the name "b" comes twice'),
    "duplicate nested": (b'[{"a":{"x":1,"x":1}}]', 'the name "x" comes twice'),
    "nan": (b'{"a":NaN}', "NaN is not a JSON value"),
    "infinity": (b'{"a":-Infinity}', "-Infinity is not a JSON value"),
    "deep": (b"[" * 20_000, "nested too deeply"),
    "deep objects": (b'{"a":' * 20_000, "nested too deeply"),
    "digits": (b'{"a":' + b"9" * 5_000 + b"}", "too many digits"),
    "exponent": (b'{"a":1e99999999999999999999}', "exponent is too large"),
    "latin 1": (b'{"a":"\n\xe9"}', "not UTF-8: byte 8, in line 2"),
    "utf-16": ('{"a":1}'.encode("utf-16"), "not UTF-8"),
    "nul": (b'{"a":"\0"}', "invalid control character"),
    "empty array": (b"[]", "empty array"),
    "number": (b"5", "The body is a number"),
    "text": (b'"[]"', "The body is text"),
    "null": (b"null", "The body is null"),
    "element": (b'[{"a":1},[]]', "Element 1 of the array is an array"),
    "csv": (b"a,b\n1,2\n", "not valid JSON"),
}


@pytest.mark.parametrize(("body", "part"), CORPUS.values(), ids=CORPUS.keys())
def test_loads_records_refuses_with_a_sentence(body: bytes, part: str) -> None:
    refusal = loads_records(body)

    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.check) == ("invalid-values", "body")
    assert part in refusal.detail


@given(
    st.binary(max_size=200)
    | st.text(alphabet='[]{}",:0123456789.eE-+truefalsn \\u', max_size=60).map(str.encode)
)
def test_loads_records_never_raises(body: bytes) -> None:
    assert isinstance(loads_records(body), list | Refusal)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["ticker", "day", "close", "free", "nosuch"]), json_values))
def test_check_never_raises_and_its_data_is_the_record(candidate: dict[str, Any]) -> None:
    row = RecordChecker(prices(), now=NOW).check(candidate)

    assert not isinstance(row, Row) or loads_records(row.data.encode()) == [candidate]
    assert isinstance(row, Row) or all(isinstance(error, str) for error in row)


def test_dumps_keeps_digits_and_is_compact() -> None:
    assert dumps({"a": Decimal("1.10"), "b": [None, True, "é"]}) == '{"a":1.10,"b":[null,true,"é"]}'
