"""Corpora of bad bodies, S34, S36 and S41: each is refused in words, nothing is stored, and never a 500."""

import gzip
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from django.conf import LazySettings

from apperate.accounts.models import Workspace
from datasets.models import Dataset, IngestJob, Record
from tests.support.data_plane_client import Reply
from tests.support.factories import DatasetFactory

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("empty_queue")]


@pytest.fixture(autouse=True)
def ingest_dir(settings: LazySettings, tmp_path: Path) -> Path:
    settings.INGEST_DIR = tmp_path / "ingest"
    return tmp_path / "ingest"


@pytest.fixture
def things(workspace: Workspace) -> Dataset:
    """A dataset that takes anything but a bad key."""
    properties = {"name": {"type": "string"}, "size": {"type": "integer"}, "more": {}}
    return DatasetFactory(
        workspace=workspace,
        name="THINGS",
        schema_json={"type": "object", "properties": properties},
        column_mapping={"key": "name"},
    )


def refused(reply: Reply, statuses: tuple[int, ...] = (400,)) -> dict[str, Any]:
    assert reply.status in statuses, (reply.status, reply.body[:500])
    problem: dict[str, Any] = reply.json()
    assert problem["code"] and problem["detail"] and problem["request_id"]
    assert not Record.objects.filter(dataset_id__in=Dataset.objects.values("pk")).exists()
    assert not IngestJob.objects.filter(status="INGESTED").exists()
    return problem


# --- S34: JSON ------------------------------------------------------------------------------------------

JSON_CORPUS: dict[str, bytes] = {
    "NUL in a text": rb'[{"name": "a\u0000b"}]',
    "NUL in a value": rb'[{"name": "a", "more": {"deep": ["\u0000"]}}]',
    "NUL in a name": rb'[{"name": "a", "more": {"\u0000": 1}}]',
    "NUL byte": b'[{"name": "a\0b"}]',
    "lone surrogate": rb'[{"name": "\ud800"}]',
    "lone surrogate deep": rb'[{"name": "a", "more": [{"b": "\udfff"}]}]',
    "NaN": b'[{"name": "a", "more": NaN}]',
    "Infinity": b'[{"name": "a", "more": -Infinity}]',
    "1e400": b'[{"name": "a", "more": 1e400}]',
    "1e999999999999": b'[{"name": "a", "more": 1e999999999999}]',
    "integer beyond a double": b'[{"name": "a", "size": ' + b"9" * 400 + b"}]",
    "5,000 digits": b'[{"name": "a", "size": ' + b"9" * 5_000 + b"}]",
    "5,000 digits deep": b'[{"name": "a", "more": [' + b"9" * 5_000 + b"]}]",
    "depth 20,000": b"[" * 20_000 + b"]" * 20_000,
    "depth 20,000 in a record": b'[{"name": "a", "more": ' + b"[" * 20_000 + b"]" * 20_000 + b"}]",
    "depth 20,000 of objects": b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
    "depth 200,000, not closed": b"[" * 200_000,
    "bad UTF-8": b'[{"name": "\xff\xfe"}]',
    "overlong UTF-8": b'[{"name": "\xc0\x80"}]',
    "UTF-16": '[{"name": "a"}]'.encode("utf-16"),
    "duplicate names": b'[{"name": "a", "name": "b"}]',
    "duplicate names deep": b'[{"name": "a", "more": {"b": 1, "b": 2}}]',
    "cut": b'[{"name": "a"}, {"name": ',
    "text after the end": b'[{"name": "a"}] x',
    "trailing comma": b'[{"name": "a"},]',
    "single quotes": b"[{'name': 'a'}]",
    "comment": b'[{"name": "a"} /* b */]',
    "leading zero": b'[{"name": "a", "size": 01}]',
    "control character": b'[{"name": "a\x01"}]',
    "a text": b'"a"',
    "a number": b"5",
    "null": b"null",
    "an array of arrays": b'[[{"name": "a"}]]',
    "[object Object]": b"[object Object]",
    "nothing": b"",
    "white space": b" \r\n\t",
    "a record over 64 KB": json.dumps([{"name": "a", "more": "x" * 65_536}]).encode(),
    "1,501 bytes in the index": json.dumps([{"name": "x" * 1_501}]).encode(),
    "1,502 bytes of 751 letters in the index": json.dumps([{"name": "é" * 751}]).encode(),
    "an empty index": b'[{"name": ""}]',
    "a name that is none": b'[{"name": "a", "unknown": 1}]',
    "__proto__": b'[{"name": "a", "__proto__": {"b": 1}}]',
    "an exponent as integer": b'[{"name": "a", "size": 1e-5}]',
}


@pytest.mark.check("S34")
@pytest.mark.parametrize("case", JSON_CORPUS)
def test_s34_json_written_as_records_is_refused(call: Any, things: Dataset, case: str) -> None:
    problem = refused(call.post("record/ACME/THINGS", JSON_CORPUS[case]))

    if case == "[object Object]":
        assert "serialise" in problem["detail"], "the client forgot to serialise it"


@pytest.mark.check("S34")
def test_s34_json_sent_as_a_file_is_refused(call: Any, things: Dataset, worker: None) -> None:
    """All of it in one worker's life; what does not begin as JSON is a table with a wrong header."""
    for case, body in JSON_CORPUS.items():
        reply = call.post("data/ACME/THINGS", body, "wait=true")
        assert reply.status == 400, (case, reply.status, reply.body[:500])
        refused(reply)


@pytest.mark.check("S60")
@pytest.mark.parametrize(
    "case", ["NUL byte", "lone surrogate", "1e400", "depth 20,000", "bad UTF-8", "nothing"]
)
@pytest.mark.parametrize("path", ["datasets/ACME", "jobs/ACME/ingest", "generate-schema/ACME"])
def test_s60_the_same_bodies_meet_every_other_reader(call: Any, case: str, path: str) -> None:
    assert call.post(path, JSON_CORPUS[case]).status == 400 or (case, path) in SCHEMA_OF_IT
    assert not Dataset.objects.exists()


# A sample is only looked at: what cannot be stored has a type nevertheless.
SCHEMA_OF_IT = {("lone surrogate", "generate-schema/ACME"), ("1e400", "generate-schema/ACME")}


@pytest.mark.parametrize("digits", [1, 19, 20, 300])
def test_s34_integers_of_any_allowed_size_come_back_as_written(
    call: Any, things: Dataset, digits: int
) -> None:
    number = "9" * digits
    body = f'[{{"name":"a","size":{number}}}]'.encode()
    assert call.post("record/ACME/THINGS", body).status == 200

    assert call.get("THINGS/a").body == body


# --- S41: CSV -------------------------------------------------------------------------------------------

HEAD = b"name,size\n"
CSV_CORPUS: dict[str, bytes] = {
    "NUL": HEAD + b"a\0,1\n",
    "bad UTF-8": HEAD + b"a,1\n\xff,2\n",
    "Latin-1": HEAD + "é,1\n".encode("latin-1"),
    "UTF-16": "name,size\na,1\n".encode("utf-16"),
    "UTF-32": "name,size\na,1\n".encode("utf-32"),
    "a field of 131,073 characters": HEAD + b"x" * 131_073 + b",1\n",
    "a quoted field of 1 MB": HEAD + b'"' + b"x" * 1_000_000 + b'",1\n',
    "a quote that is not closed": HEAD + b'"a,1\n',
    "a column less": HEAD + b"a\n",
    "a column more": HEAD + b"a,1,2\n",
    "100,000 columns": b",".join(b"c%d" % n for n in range(100_000)) + b"\n" + b"1," * 99_999 + b"1\n",
    "100,000 cells in a line": HEAD + b"1," * 99_999 + b"1\n",
    "columns without names": b",,,\n1,2,3,4\n",
    "a column twice": b"name,name\na,b\n",
    "a header alone": HEAD,
    "only a byte order mark": b"\xef\xbb\xbf",
    "only newlines": b"\n\r\n\r",
    "a word for an integer": HEAD + b"a,one\n",
    "NaN": HEAD + b"a,NaN\n",
    "1e400": HEAD + b"a,1e400\n",
    "5,000 digits": HEAD + b"a," + b"9" * 5_000 + b"\n",
    "an empty index": HEAD + b",1\n",
    "1,501 bytes in the index": HEAD + b"x" * 1_501 + b",1\n",
    "HTML": b"<!doctype html><html><body>No</body></html>\n<p>No</p>\n",
    "a picture": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    "a path": HEAD + b"/etc/passwd\n",
    "a path alone": b"/etc/passwd",
    "an address": b"http://127.0.0.1:1/x.parquet",
}


@pytest.mark.check("S41")
def test_s41_csv_is_refused_and_nothing_written(call: Any, things: Dataset, worker: None) -> None:
    for case, body in CSV_CORPUS.items():
        reply = call.post("data/ACME/THINGS", body, "wait=true")
        assert reply.status == 400, (case, reply.status, reply.body[:500])
        refused(reply)


HARMLESS_CSV = {
    "byte order mark": b"\xef\xbb\xbfname,size\r\na,1\r\n",
    "CR": b"name,size\ra,1\r",
    "mixed newlines": b"name,size\na,1\r\n",
    "quotes": b'"name","size"\n"a","1"\n',
    "bars": b"name|size\na|1\n",
    "blank lines": b"\n\nname,size\n\na,1\n\n",
}


def test_s41_harmless_oddities_of_csv_are_read(call: Any, things: Dataset, worker: None) -> None:
    for case, body in HARMLESS_CSV.items():
        reply = call.post("data/ACME/THINGS", body, "wait=true&overwrite=true")
        assert reply.json()["message"] == "Ingestion job successful, 1 records ingested", (case, reply.body)
        assert call.get("THINGS/a").json() == [{"name": "a", "size": 1}], case


# --- S36: what unpacks ----------------------------------------------------------------------------------


@pytest.mark.check("S36")
@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "zstd", "compress", "x-none", "gzip, gzip"])
@pytest.mark.parametrize("path", ["record/ACME/THINGS", "data/ACME/THINGS", "datasets/ACME"])
def test_s36_an_encoded_request_is_415(call: Any, things: Dataset, path: str, encoding: str) -> None:
    reply = call.post(path, gzip.compress(b'[{"name":"a"}]'), headers={"Content-Encoding": encoding})

    assert (reply.status, reply.code) == (415, "unsupported-encoding")
    refused(reply, (415,))


@pytest.mark.check("S36")
@pytest.mark.parametrize("level", [1, 2])
def test_s36_a_bomb_is_refused_before_it_is_unpacked(
    call: Any, things: Dataset, ingest_dir: Path, level: int
) -> None:
    body = b" " * 30_000_000
    for _ in range(level):
        body = gzip.compress(body)

    refused(call.post("data/ACME/THINGS", body), (413, 415))

    assert list(ingest_dir.rglob("*")) == []


# --- nothing in a file is a place to read from ------------------------------------------------------------


@pytest.mark.check("S60")
def test_a_path_or_address_in_data_is_text(call: Any, things: Dataset, worker: None) -> None:
    for place in ("/etc/passwd", "file:///etc/passwd", "http://127.0.0.1:1/", "s3://a/b", "*"):
        body = json.dumps([{"name": "a", "more": place}]).encode()

        assert call.post("data/ACME/THINGS", body, "wait=true&overwrite=true").status == 200

        assert call.get("THINGS/a").json() == [{"name": "a", "more": place}]


def test_a_key_of_any_letters_is_found_again(call: Any, things: Dataset) -> None:
    keys = ["a/b", "a%2Fb", "a b", "a,b", "😀", "a.b-c", "é", "e\u0301", "'; DROP TABLE x; --", "x" * 1_500]
    assert call.post("record/ACME/THINGS", [{"name": key} for key in keys]).status == 200

    for key in keys:
        if "," not in key:  # A comma in a path separates keys, unless another separator is given.
            assert call.get(f"THINGS/{quote(key, safe='')}").json() == [{"name": key}], key
    assert call.get("THINGS/a%2Cb", "batchSeparator=%7C").json() == [{"name": "a,b"}]
