"""Rows as JSON, CSV, PSV and NDJSON."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apperate.kernel.cells import FORMULA_STARTS, escape_cell, unescape_cell
from apperate.kernel.json_text import dumps
from datasets.answers.renderers import CONTENT_TYPES, describe_columns, render, render_csv, render_json
from datasets.query.parameters import FORMATS
from datasets.records.schema import Schema, parse_schema

TEXTS = ['{"t": "A", "n": 1.50}', '{"n":-1e5,"t":null}']


@pytest.mark.check("S45")
def test_content_types_are_exact_and_complete() -> None:
    assert CONTENT_TYPES["json"] == "application/json; charset=utf-8"
    assert CONTENT_TYPES["csv"] == "text/csv; charset=utf-8"
    assert set(CONTENT_TYPES) == set(FORMATS)


def test_json_is_joined_without_being_touched() -> None:
    assert render_json([]) == b"[]"
    assert render_json(TEXTS) == b'[{"t": "A", "n": 1.50},{"n":-1e5,"t":null}]'


def test_filter_keeps_properties_in_the_asked_order() -> None:
    texts = ['{"a":1.10,"b":"é","c":3}', '{"c":4}']

    assert render("json", texts, ("a", "b", "c"), ("c", "a")) == b'[{"c":3,"a":1.10},{"c":4}]'
    assert render("ndjson", texts, ("a", "b", "c"), ("b",)) == '{"b":"é"}\n{}\n'.encode()
    assert render("csv", texts, ("a", "b", "c"), ("c", "a")) == b"c,a\r\n3,1.10\r\n4,\r\n"


def test_ndjson_is_one_line_a_record() -> None:
    assert render("ndjson", TEXTS, ()) == b'{"t": "A", "n": 1.50}\n{"n":-1e5,"t":null}\n'
    assert render("ndjson", [], ()) == b""


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, ""),
        (True, "true"),
        (False, "false"),
        (-5, "-5"),
        ("", ""),
        ("plain", "plain"),
        ("a,b", '"a,b"'),
        ('say "hi"', '"say ""hi"""'),
        ("two\nlines", '"two\nlines"'),
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", '"\'\r=1"'),
        ("'=1", "''=1"),
        ("'tis", "'tis"),
        ("it's", "it's"),
        ("a=1", "a=1"),
        ([1, "=x"], '"[1,""=x""]"'),
        ({"a": None}, '"{""a"":null}"'),
    ],
    ids=repr,
)
def test_csv_cells(value: object, written: str) -> None:
    body = render_csv([dumps({"x": value, "y": 0})], ("x", "y"))

    assert body.decode() == f"x,y\r\n{written},0\r\n"


def test_csv_writes_numbers_with_their_digits_and_absent_as_empty() -> None:
    assert render_csv(['{"n":1.50,"big":18446744073709551617}', "{}"], ("n", "big")) == (
        b"n,big\r\n1.50,18446744073709551617\r\n,\r\n"
    )


def test_csv_header_is_quoted_and_safe() -> None:
    assert render_csv([], ("a,b", "=x", "é")) == '"a,b",\'=x,é\r\n'.encode()


def test_psv_uses_the_bar() -> None:
    assert render("psv", ['{"a":"x|y","b":"p,q"}'], ("a", "b")) == b'a|b\r\n"x|y"|p,q\r\n'


def test_schema_is_described_by_rows() -> None:
    schema = parse_schema(
        {"properties": {"t": {"type": "string", "description": "Symbol"}, "n": {}}}, {"key": "t"}
    )
    assert isinstance(schema, Schema)

    texts, columns = describe_columns(schema)

    assert json.loads(render("json", texts, columns)) == [
        {"name": "t", "type": "string", "nullable": False, "index": "key", "description": "Symbol"},
        {"name": "n", "type": "any", "nullable": True, "index": None, "description": ""},
    ]
    assert render("csv", texts, columns).startswith(
        b"name,type,nullable,index,description\r\nt,string,false,key,"
    )


@pytest.mark.check("S40")
@given(st.text())
def test_escaping_is_undone_exactly_and_leaves_no_formula(text: str) -> None:
    escaped = escape_cell(text)

    assert unescape_cell(escaped) == text
    assert escaped[:1] not in FORMULA_STARTS


@pytest.mark.check("S40")
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=2, max_size=4))
def test_csv_reads_back_as_what_was_written(values: list[str]) -> None:
    columns = [str(number) for number in range(len(values))]

    body = render_csv([dumps(dict(zip(columns, values, strict=True)))], columns)

    rows = list(csv.reader(io.StringIO(body.decode(), newline="")))
    assert [unescape_cell(found) for found in rows[1]] == values
