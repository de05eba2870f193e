"""Files of every form as rows: what is read, which lines are invalid, which files are refused."""

import codecs
import gzip
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apperate.kernel.json_text import dumps, loads_json
from apperate.kernel.refusals import Refusal
from datasets.answers.renderers import render_csv
from datasets.files.csv_file import InvalidLine
from datasets.files.parquet_file import connect
from datasets.files.parsing import Format, Sniffed, open_rows, sniff
from datasets.records.checking import RecordChecker, Row
from datasets.records.schema import Schema, parse_schema

NOW = datetime(2026, 11, 23, 20, 14, 7, tzinfo=UTC)
Save = Callable[[bytes], Path]


def schema_of(**types: str) -> Schema:
    """A schema of properties by type; `k` is the key and `d` the date if they are there."""
    properties = {name: {"type": kind} for name, kind in types.items()}
    parsed = parse_schema(
        {"properties": properties}, {r: n for r, n in (("key", "k"), ("date", "d")) if n in types}
    )
    assert isinstance(parsed, Schema)
    return parsed


PAIRS = schema_of(k="string", n="number")


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def write(body: bytes) -> Path:
        path = tmp_path / "upload"
        path.write_bytes(body)
        return path

    return write


def rows_of(path: Path, schema: Schema = PAIRS) -> list[tuple[int, Row | InvalidLine]]:
    rows = open_rows(path, schema, NOW)
    assert not isinstance(rows, Refusal), rows
    return list(rows)


def datas(path: Path, schema: Schema = PAIRS) -> list[str]:
    found = [row for _, row in rows_of(path, schema)]
    assert all(isinstance(row, Row) for row in found), found
    return [row.data for row in found if isinstance(row, Row)]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"k,n\nA,1\n", Sniffed(Format.CSV, ",")),
        (b"k\tn\nA,B\t1\n", Sniffed(Format.CSV, "\t")),
        (b"k|n\nA,B|1\nC,D|2", Sniffed(Format.CSV, "|")),
        (b'"k|x",n\n"A|B",1\n', Sniffed(Format.CSV, ",")),
        (b"k\nA\n", Sniffed(Format.CSV, ",")),
        (codecs.BOM_UTF8 + b"k,n\n", Sniffed(Format.CSV, ",")),
        (b' \n[{"k":"A"}]', Sniffed(Format.JSON)),
        (codecs.BOM_UTF8 + b"[1]", Sniffed(Format.JSON)),
        (b'{"k":"A"}', Sniffed(Format.JSONL)),
        (b'{"k":"A"}\n{"k":"B"}\n', Sniffed(Format.JSONL)),
        (b'{"k":}\r\n{"k":"B"}\r\n', Sniffed(Format.JSONL)),
        (b'{\n "k": "A"\n}', Sniffed(Format.JSON)),
    ],
    ids=repr,
)
def test_sniff_goes_by_content(save: Save, body: bytes, expected: Sniffed) -> None:
    assert sniff(save(body)) == expected


@pytest.mark.parametrize(
    "body",
    [
        b"k,n\nA,1.50\nB,\n",
        b"k,n\r\nA,1.50\r\nB,\r\n",
        b"k,n\nA,1.50\r\nB,\r",
        b"k,n\n\nA,1.50\n\n\r\nB,",
        codecs.BOM_UTF8 + b'"k","n"\n"A","1.50"\n"B",""',
        b"n,k\n 1.50 ,A\n,B\n",
        b"k\tn\nA\t1.50\nB\t\n",
        b"k|n\nA|1.50\nB|\n",
        b'[{"k":"A","n":1.50},{"k":"B","n":null}]',
        b' [ {"k" : "A" , "n":1.50}\n,\n{"k":"B","n":null} ] \n',
        b'{"k":"A","n":1.50}\n{"k":"B","n":null}\n',
        b'{"k":"A","n":1.50}\r\n\r\n{"k":"B","n":null}',
        b'{\n"k":"A",\n"n":1.50\n}\n{"k":"B","n":null}',
    ],
    ids=repr,
)
def test_every_form_gives_the_same_rows(save: Save, body: bytes) -> None:
    found = [
        (row.key, loads_json(row.data.encode())) for _, row in rows_of(save(body)) if isinstance(row, Row)
    ]

    assert found == [("A", {"k": "A", "n": Decimal("1.50")}), ("B", {"k": "B", "n": None})]


def test_csv_cells_follow_the_types_of_the_schema(save: Save) -> None:
    schema = schema_of(
        k="string", d="date", n="number", i="integer", b="boolean", o="object", a="array", x="any"
    )
    body = (
        b'k,d,n,i,b,o,a,x\n007,2020-02-29 ,1e5,-5,TRUE,"{""a"":1.10}",[],1.0\n'
        b'"a ""b""\n",2020-02-29T10:00Z,,,,,,t\n'
    )

    assert datas(save(body), schema) == [
        '{"k":"007","d":"2020-02-29","n":1e5,"i":-5,"b":true,"o":{"a":1.10},"a":[],"x":1.0}',
        '{"k":"a \\"b\\"\\n","d":"2020-02-29T10:00Z","n":null,"i":null,"b":null,"o":null,"a":null,"x":"t"}',
    ]
    assert [(row.key, row.date) for _, row in rows_of(save(body), schema) if isinstance(row, Row)] == [
        ("007", datetime(2020, 2, 29, tzinfo=UTC)),
        ('a "b"\n', datetime(2020, 2, 29, 10, tzinfo=UTC)),
    ]


def test_csv_escaped_formulas_come_back_as_written(save: Save) -> None:
    texts = [dumps({"k": text, "n": -1}) for text in ("=1+1", "-5", "+x", "@y", "'=z", "'tis", "\t=1", "\r")]

    assert datas(save(render_csv(texts, ("k", "n")))) == texts


def test_generated_key_does_not_depend_on_the_form(save: Save) -> None:
    schema = schema_of(a="string", n="number")

    from_csv = rows_of(save(b"n,a\n1.50,\n"), schema)[0][1]
    from_json = RecordChecker(schema, now=NOW).check({"n": Decimal("1.50")})

    assert isinstance(from_csv, Row) and isinstance(from_json, Row)
    assert from_csv.key == from_json.key


LINES = {
    "few columns": (b"k,n\nA,1\nB\nC,3\n", 3, "received 1 column, needed 2"),
    "many columns": (b"k,n\nA,1\nB,2,3\nC,3\n", 3, "received 3 columns, needed 2"),
    "after line breaks": (b'k,n\nA,"\n\r\n1\n"\nB\nC,3\n', 6, "received 1 column"),
    "not a number": (b"k,n\nA,1\nB,x\nC,3\n", 3, '"n": received "x", needed a number'),
    "comma number": (b'k,n\nA,1\nB,"1,5"\nC,3\n', 3, '"n": received "1,5", needed a number'),
    "leading zero": (b"k,n\nA,1\nB,007\nC,3\n", 3, "needed a number"),
    "nan": (b"k,n\nA,1\nB,NaN\nC,3\n", 3, "needed a number"),
    "too large": (b"k,n\nA,1\nB,1e400\nC,3\n", 3, "needed a finite number"),
    "empty key": (b"k,n\nA,1\n,2\nC,3\n", 3, '"k": received an empty cell'),
    "quoted empty key": (b'k,n\nA,1\n"",2\nC,3\n', 3, '"k": received an empty cell'),
    "long key": (b"k,n\nA,1\n" + b"B" * 1501 + b",2\nC,3\n", 3, "at most 1,500 bytes"),
    "both": (
        b"k,n\nA,1\n,x\nC,3\n",
        3,
        '"k": received an empty cell, needed text, because it is required; "n"',
    ),
    "after quote": (b'k,n\nA,1\n"B"x,2\nC,3\n', 3, "goes on after its closing quote"),
    "long field": (b"k,n\nA,1\n" + b"B" * 131_073 + b",2\nC,3\n", 3, "more than 131,072 characters"),
    "long line": (b"k,n\nA,1\n" + b"B" * 3_000_000 + b",2\nC,3\n", 3, "more than 1,000,000 characters"),
    "jsonl": (b'{"k":"A"}\n{"k":}\n{"k":"C"}\n', 2, "not valid JSON at column 6: Expecting value"),
    "jsonl array": (b'{"k":"A"}\n[1]\n{"k":"C"}', 2, "received an array, needed an object"),
    "jsonl twice": (b'{"k":"A"}\n{"k":"B","k":"C"}\n{"k":"C"}', 2, 'the name "k" comes twice'),
    "jsonl nan": (b'{"k":"A"}\n{"k":"B","n":NaN}\n{"k":"C"}', 2, "NaN is not a JSON value"),
    "jsonl deep": (b'{"k":"A"}\n' + b"[" * 20_000 + b'\n{"k":"C"}', 2, "nested too deeply"),
    "jsonl digits": (b'{"k":"A"}\n{"n":' + b"9" * 5_000 + b'}\n{"k":"C"}', 2, "too many digits"),
    "jsonl surrogate": (b'{"k":"A"}\n{"k":"\\ud800"}\n{"k":"C"}', 2, "half of a surrogate pair"),
    "jsonl nul": (b'{"k":"A"}\n{"k":"\\u0000"}\n{"k":"C"}', 2, "NUL"),
    "jsonl property": (b'{"k":"A"}\n{"k":"B","q":1}\n{"k":"C"}', 2, '"q" is not a property'),
    "jsonl long": (b'{"k":"A"}\n{"k":"' + b"B" * 3_000_000 + b'"}\n{"k":"C"}', 2, "more than 1,000,000"),
    "array element": (b'[{"k":"A"},5,{"k":"C"}]', 2, "received a number, needed an object"),
    "array missing": (b'[{"k":"A"},{"n":5},{"k":"C"}]', 2, '"k": received nothing'),
    "array twice": (b'[{"k":"A"},{"k":"B","k":"]"},{"k":"C"}]', 2, 'the name "k" comes twice'),
    "array nan": (b'[{"k":"A"},{"k":"B","n":Infinity},{"k":"C"}]', 2, "Infinity is not a JSON value"),
    "array digits": (b'[{"k":"A"},{"n":' + b"9" * 5_000 + b'},{"k":"C"}]', 2, "too many digits"),
    "array exponent": (b'[{"k":"A"},{"n":1e99999999999999999999},{"k":"C"}]', 2, "exponent is too large"),
    "array nesting": (b'[{"k":"A"},{"k":' + b"[" * 150 + b"]" * 150 + b'},{"k":"C"}]', 2, "needed text"),
}


@pytest.mark.parametrize(("body", "line", "part"), LINES.values(), ids=LINES.keys())
def test_an_invalid_line_is_reported_and_the_others_are_read(
    save: Save, body: bytes, line: int, part: str
) -> None:
    found = rows_of(save(body))

    assert [row.key for _, row in found if isinstance(row, Row)] == ["A", "C"]
    [invalid] = [row for _, row in found if isinstance(row, InvalidLine)]
    assert invalid.line == line
    assert part in invalid.reason
    assert not invalid.ends


def test_a_quote_that_is_not_closed_is_reported_with_the_lines_it_took(save: Save) -> None:
    found = rows_of(save(b'k,n\nA,1\n"B,2\nC,3\n'))

    assert found[0][1] == Row("A", "", datetime(2026, 11, 23, tzinfo=UTC), '{"k":"A","n":1}')
    assert found[1][1] == InvalidLine(
        3, "a quote is not closed; lines 3 to 4 were taken as one row, because of a quote"
    )


@pytest.mark.parametrize(
    ("body", "part"),
    [
        (b'[{"k":"A"},{"k":"B"', "not valid JSON at line 1, column 20"),
        (b'[{"k":"A"},\n {"k" "B"}]', "not valid JSON at line 2, column 7: Expecting ':' delimiter"),
        (b'[{"k":"A"}', "a comma or the end of the array is missing"),
        (b'[{"k":"A"} {"k":"B"}]', "a comma or the end of the array is missing"),
        (b'[{"k":"A"},]', "Expecting value"),
        (b'[{"k":"A"}] x', "text follows the end of the array"),
        (b'[{"k":"A"},' + b"[" * 20_000, "nested too deeply"),
        (b'[{"k":"A"},{"k":"' + b"B" * 3_000_000 + b'"}]', "more than 1,000,000 characters"),
        (b'[{"k":"A"},{"k":"\x01"}]', "Invalid control character"),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_broken_json_ends_the_rows(save: Save, body: bytes, part: str) -> None:
    found = rows_of(save(body))

    assert isinstance(found[0][1], Row)
    assert isinstance(found[-1][1], InvalidLine)
    assert found[-1][1].ends
    assert part in found[-1][1].reason


FILES = {
    "empty": (b"", "The file is empty"),
    "blank": (codecs.BOM_UTF8 + b" \r\n", "The file is empty"),
    "header only": (b"k,n\n", "no rows"),
    "empty array": (b" [ ] ", "no rows"),
    "forgotten": (b"[object Object]", "forgot to serialise"),
    "twice": (b"k,n,k\nA,1,B\n", 'The header names columns twice: "k"'),
    "nameless": (b"k,n,\nA,1,B\n", "Column 3 has no name"),
    "reserved": (b"k,_systemId\nA,1\n", "do not begin with _system"),
    "unknown": (b"k,n,q\nA,1,B\n", 'not properties of the dataset: "q"'),
    "lacking": (b"n\n1\n", 'lacks required columns: "k"'),
    "no header": (b'"k"x,n\nA,1\n', "The header in line 1 cannot be read"),
    "columns": (",".join(f"c{n}" for n in range(1001)).encode() + b"\n", "1,001 columns"),
    "hundred thousand columns": (
        ",".join(f"c{n}" for n in range(100_000)).encode() + b"\n",
        "100,000 columns",
    ),
    "endless header": (b"k" * 2_000_000, "The header in line 1 cannot be read"),
    "nul": (b"k,n\nA,1\nB\0,2\n", "holds a NUL byte: byte 10, in line 3"),
    "latin 1": (b"k,n\nA,1\n\xc4,2\n", "is not UTF-8: byte 9, in line 3"),
    "cut character": (b"k,n\nA,1\n\xc3", "is not UTF-8: byte 9, in line 3"),
    "late latin 1": (
        b"k,n\n" + b"A,1\n" * 300_000 + b"\xc4,2\n",
        "byte 1200005, in line 300002",
    ),
    "utf-16": ("k,n\nA,1\n".encode("utf-16"), "UTF-16"),
    "gzip": (gzip.compress(b"k,n\nA,1\n"), "compressed with gzip"),
    "workbook": (b"PK\x03\x04abc", "Save it as CSV"),
    "json cut": (b"[", "not valid JSON at line 1, column 2"),
    "json wrong": (b'{\n "k": 5,\n}', "not valid JSON at line 3, column 1"),
    "json deep": (b"[" * 20_000, "nested too deeply"),
    "json deep objects": (b'{"a":' * 20_000, "nested too deeply"),
}


@pytest.mark.parametrize(("body", "part"), FILES.values(), ids=FILES.keys())
def test_a_file_is_refused_as_a_whole(save: Save, body: bytes, part: str) -> None:
    refusal = open_rows(save(body), PAIRS, NOW)

    assert isinstance(refusal, Refusal), list(refusal)
    code = "unsupported-encoding" if part in ("compressed with gzip", "Save it as CSV") else "invalid-values"
    assert (refusal.code, refusal.check) == (code, "body")
    assert part in refusal.detail


def test_records_across_the_chunks_of_a_json_file(save: Save) -> None:
    texts = [dumps({"k": f"é{number}", "n": number}) for number in range(60_000)]

    assert datas(save(f"[{','.join(texts)}]".encode())) == texts


@pytest.mark.slow("each reads a file of 30 MB: 1 to 5 s")
@pytest.mark.parametrize("form", ["csv", "json", "jsonl", "line", "element", "quote"])
def test_memory_stays_bounded(save: Save, form: str) -> None:
    row = b'{"k":"' + b"A" * 1_000 + b'"}'
    bodies = {
        "csv": b"k,n\n" + (b"A" * 1_000 + b",1\n") * 30_000,
        "json": b"[" + (row + b",\n") * 30_000 + row + b"]",
        "jsonl": (row + b"\n") * 30_000,
        "line": b"k,n\n" + b"A" * 30_000_000,
        "element": b'[{"k":"' + b"A" * 30_000_000,
        "quote": b'k,n\nA,1\n"' + (b"A" * 1_000 + b",1\n") * 30_000,
    }
    path = save(bodies.pop(form))
    bodies.clear()
    tracemalloc.start()

    rows = open_rows(path, PAIRS, NOW)
    count = 0 if isinstance(rows, Refusal) else sum(1 for _ in rows)

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12_000_000
    assert count or form == "element"


values = (
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.decimals(allow_nan=False, allow_infinity=False, places=3)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
)


@pytest.mark.check("S41")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=300) | st.text(alphabet='kn,"\n\r\t|[]{}:A1-', max_size=60).map(str.encode))
def test_no_bytes_raise(save: Save, body: bytes) -> None:
    rows = open_rows(save(body), PAIRS, NOW)

    assert isinstance(rows, Refusal) or all(isinstance(row, Row | InvalidLine) for _, row in rows)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_csv_row_equals_the_json_row_of_the_same_values(save: Save, data: st.DataObject) -> None:
    texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8)
    record: dict[str, Any] = {
        "k": data.draw(texts),
        "s": data.draw(st.none() | texts),
        "n": data.draw(st.none() | st.decimals(allow_nan=False, allow_infinity=False, places=3)),
        "b": data.draw(st.none() | st.booleans()),
        "a": data.draw(st.none() | st.lists(values, max_size=3)),
    }
    schema = schema_of(k="string", s="string", n="number", b="boolean", a="array")

    from_json = RecordChecker(schema, now=NOW).check(record)
    from_csv = rows_of(save(render_csv([dumps(record)], schema.names)), schema)[0][1]

    assert isinstance(from_json, Row) and isinstance(from_csv, Row), (from_json, from_csv)
    assert loads_json(from_csv.data.encode()) == loads_json(from_json.data.encode())
    assert from_csv[:3] == from_json[:3]


@pytest.mark.parametrize(("chars", "is_row"), [(65_520, True), (65_521, False)])
def test_a_record_of_a_csv_has_at_most_65536_bytes(save: Save, chars: int, is_row: bool) -> None:
    schema = schema_of(k="string", s="string")

    row = rows_of(save(b"k,s\nA," + b"x" * chars + b"\n"), schema)[0][1]

    assert isinstance(row, Row) == is_row
    assert isinstance(row, Row) or "65,537 bytes" in row.reason


def parquet(path: Path, select: str) -> Path:
    duckdb.execute(f"COPY ({select}) TO '{path}' (FORMAT parquet)")
    return path


def test_parquet_is_read_like_json(tmp_path: Path) -> None:
    path = parquet(
        tmp_path / "upload",
        "SELECT 'A' AS k, DATE '2020-02-29' AS d, 1.25::DECIMAL(9, 2) AS n, [1, 2] AS a, {'x': true} AS o,"
        " 9007199254740993 AS i UNION ALL SELECT 'B', '2020-03-01', NULL, NULL, NULL, NULL",
    )
    schema = schema_of(k="string", d="date", n="number", a="array", o="object", i="integer")

    assert sniff(path) == Sniffed(Format.PARQUET)
    assert rows_of(path, schema) == [
        (
            1,
            Row(
                "A",
                "",
                datetime(2020, 2, 29, tzinfo=UTC),
                '{"k":"A","d":"2020-02-29","n":1.25,"a":[1,2],"o":{"x":true},"i":9007199254740993}',
            ),
        ),
        (
            2,
            Row(
                "B",
                "",
                datetime(2020, 3, 1, tzinfo=UTC),
                '{"k":"B","d":"2020-03-01","n":null,"a":null,"o":null,"i":null}',
            ),
        ),
    ]


def test_parquet_moments_are_utc_and_nan_is_refused(tmp_path: Path) -> None:
    select = (
        "SELECT 'A' AS k, TIMESTAMPTZ '2020-01-01 10:00:00+02' AS d, 'nan'::DOUBLE AS n "
        "UNION ALL SELECT 'B', '2020-01-01 10:00:00+02', 1.5"
    )

    found = rows_of(parquet(tmp_path / "upload", select), schema_of(k="string", d="date", n="number"))

    assert found[0][1] == InvalidLine(1, "NaN is not a JSON value; null means no value")
    assert isinstance(found[1][1], Row) and found[1][1].date == datetime(2020, 1, 1, 8, tzinfo=UTC)


@pytest.mark.parametrize("body", [b"PAR1", b"PAR1" + b"x" * 100 + b"PAR1"], ids=["short", "damaged"])
def test_a_damaged_parquet_file_is_refused_without_naming_its_place(save: Save, body: bytes) -> None:
    refusal = open_rows(save(body), PAIRS, NOW)

    assert isinstance(refusal, Refusal)
    assert "not a Parquet file" in refusal.detail
    assert "upload" not in refusal.detail


@pytest.mark.check("S60")
def test_duckdb_reaches_nothing_but_the_file(tmp_path: Path) -> None:
    path = parquet(tmp_path / "upload", "SELECT 1 AS k")
    parquet(tmp_path / "other", "SELECT 2 AS k")

    with connect(path) as connection:
        assert connection.execute("SELECT k FROM read_parquet(?)", [str(path)]).fetchall() == [(1,)]
        for statement in (
            f"FROM '{tmp_path}/other'",
            "SELECT * FROM read_text('/etc/hostname')",
            f"COPY (SELECT 1) TO '{tmp_path}/third'",
            "SET enable_external_access = true",
            "INSTALL httpfs",
        ):
            with pytest.raises(duckdb.Error):
                connection.execute(statement).fetchall()
