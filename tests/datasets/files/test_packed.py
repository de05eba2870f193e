"""S36: what unpacks is bounded: gzip and its parts, Parquet and what it repeats, encodes or compresses."""
# ruff: noqa: S608 - no word of these statements comes from elsewhere.

import gzip
import json
import struct
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import duckdb
import pytest
from django.conf import LazySettings
from django.core.management import CommandError, call_command

from apperate.accounts.models import Workspace
from apperate.kernel.refusals import Refusal
from datasets.files import packed, parquet_file
from datasets.files.csv_file import InvalidLine
from datasets.models import Dataset
from tests.support.installation import ROOT

MEMORY_BYTES_MAX = 200_000_000
# Reads a file in a process that has loaded what a worker has, and says what came and the most it took.
READER = """
import json, os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
import django
django.setup()
from pathlib import Path
import datasets.jobs.queue
from datasets.files.parquet_file import read_parquet
count, last = 0, None
for count, found in read_parquet(Path(sys.argv[1])):
    last = found
# Not the resource module: its figure is the parent's where the process was forked from a large one.
peak = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"count": count, "last": last, "peak": peak}))
"""
TEXT = "repeat('x', 2000)"
COMPRESSED = ", dictionary_size_limit 1, row_group_size 2048"


def parquet(path: Path, select: str, options: str = "") -> Path:
    duckdb.execute(f"COPY ({select}) TO '{path}' (FORMAT parquet{options})")
    return path


def read(path: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", READER, str(path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.check("S36")
@pytest.mark.slow("each unpacks hundreds of megabytes: 2 to 6 s")
@pytest.mark.parametrize(
    ("select", "options", "said"),
    [
        (f"SELECT i % 9 AS k, {TEXT} || (i % 9) v FROM range(300_000) t(i)", "", "200 times"),
        (f"SELECT i k, {TEXT} v FROM range(20_000) t(i)", f", compression zstd{COMPRESSED}", "200 times"),
        (f"SELECT i k, {TEXT} v FROM range(60_000) t(i)", f", compression gzip{COMPRESSED}", "200 times"),
        ("SELECT i k, [repeat('x', 1000) FOR x IN range(6)] v FROM range(30_000) t(i)", "", "200 times"),
        ("SELECT i k, repeat('x', 60_000) || i % 9 v FROM range(9_000) t(i)", "", "200 times"),
        ("SELECT i k, [repeat('x', 1000) FOR x IN range(9_000)] v FROM range(50) t(i)", "", "64MB"),
        ("SELECT i k, repeat('x', 100_000_000) v FROM range(9) t(i)", "", "64MB"),
    ],
    ids=["dictionary", "zstd", "gzip", "nested", "long rows", "very long rows", "one value of 100 MB"],
)  # fmt: skip
def test_s36_a_small_parquet_file_that_unpacks_to_very_much_is_refused_in_bounded_memory(
    tmp_path: Path, select: str, options: str, said: str
) -> None:
    path = parquet(tmp_path / "bomb.parquet", select, options)
    assert path.stat().st_size < 6_000_000

    found = read(path)

    line, reason, ends = found["last"]
    assert ends and said in reason and "needed" in reason, found
    assert line == found["count"]
    assert found["peak"] < MEMORY_BYTES_MAX


def test_rows_that_do_not_fit_into_memory_together_are_read_in_parts(tmp_path: Path) -> None:
    """Records of nearly 64 KB, too many at once for DuckDB's memory, between short ones."""
    select = """SELECT i k, CASE WHEN i BETWEEN 3000 AND 3600 THEN repeat('x', 60_000) ELSE '' END AS v
                  FROM range(9_000) t(i)"""
    path = parquet(tmp_path / "rows.parquet", select)

    found = list(parquet_file.read_parquet(large(path)))

    assert [position for position, _ in found] == list(range(1, 9_001))
    assert [record["k"] for _, record in found if isinstance(record, dict)] == list(range(9_000))
    lengths = {len(record["v"]) for _, record in found if isinstance(record, dict)}
    assert lengths == {0, 60_000}


def large(path: Path) -> Path:
    """The same records with a column of noise beside them, so that little is saved by packing."""
    made = path.with_name("large.parquet")
    return parquet(made, f"SELECT *, sha256(k::VARCHAR || 'noise') AS noise FROM '{path}'")


def test_a_record_longer_than_records_may_be_is_one_invalid_line(tmp_path: Path) -> None:
    select = "SELECT i k, repeat('x', CASE i WHEN 1 THEN 300_000 ELSE 1 END) v FROM range(3) t(i)"

    found = [record for _, record in parquet_file.read_parquet(parquet(tmp_path / "long.parquet", select))]

    assert found[0] == {"k": 0, "v": "x"} and found[2] == {"k": 2, "v": "x"}
    assert isinstance(found[1], InvalidLine) and not found[1].ends
    assert "bytes in one record, at most 65,536 are allowed" in found[1].reason


def test_a_parquet_file_may_repeat_as_it_likes_below_16_mb(tmp_path: Path) -> None:
    path = parquet(tmp_path / "flat.parquet", f"SELECT i % 9 AS k, {TEXT} v FROM range(7_000) t(i)")

    found = list(parquet_file.read_parquet(path))

    assert len(found) == 7_000 and path.stat().st_size * packed.RATIO_MAX < 14_000_000
    assert all(isinstance(record, dict) for _, record in found)


def described(columns: int) -> bytes:
    """A Parquet file of no rows whose footer names so many columns of four bytes."""
    count = b"\xfc" + varint(columns + 1)
    root = b"\x48\x01a\x15" + varint(2 * columns) + b"\x00"
    footer = b"\x15\x02\x19" + count + root + b"\x15\x02\x38\x00\x00" * columns + b"\x16\x00\x19\x0c\x00"
    return b"PAR1" + footer + struct.pack("<I", len(footer)) + b"PAR1"


def varint(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number % 128 + 128]) + varint(number // 128)


@pytest.mark.slow("makes files with very long heads: 3 s")
@pytest.mark.parametrize(
    ("columns", "said"),
    [(59_000, "59,001 columns; needed at most 10,000"), (61_000, "bytes; needed at most 300,000")],
    ids=["columns", "bytes"],
)
def test_what_describes_a_parquet_file_is_bounded(tmp_path: Path, columns: int, said: str) -> None:
    path = tmp_path / "wide.parquet"
    path.write_bytes(described(columns))

    found = read(path)

    assert found["count"] == 1 and said in found["last"][1]
    assert found["peak"] < MEMORY_BYTES_MAX


@pytest.mark.parametrize(("members", "is_taken"), [(10_000, True), (10_001, False)])
def test_a_gzip_body_has_at_most_10000_members(tmp_path: Path, members: int, is_taken: bool) -> None:
    path = tmp_path / "members.gz"
    path.write_bytes(gzip.compress(b"") * (members - 1) + gzip.compress(b"a,b\n"))

    refusal = packed.unpack(path, tmp_path / "plain", bytes_max=100)

    assert (refusal is None) is is_taken
    if refusal is None:
        assert (tmp_path / "plain").read_bytes() == b"a,b\n"
    else:
        assert refusal.code == "body-too-large" and "at most 10,000 members" in (refusal.needed or "")


def test_a_gzip_body_names_what_came_out_and_what_may() -> None:
    assert not packed.grows_too_much(packed.RATIO_FREE_BYTES, 1)
    assert packed.grows_too_much(packed.RATIO_FREE_BYTES + 1, packed.RATIO_FREE_BYTES // packed.RATIO_MAX)
    assert not packed.grows_too_much(packed.RATIO_FREE_BYTES * 10, packed.RATIO_FREE_BYTES)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("body", "said"),
    [
        (gzip.compress(b"a,b\n" + b"1,2\n" * 10_000_000, 9), "200 times its size"),
        (gzip.compress(b"a,b\n1,2\n" * 200), "more than 1,000 bytes"),
    ],
    ids=["ratio", "size"],
)
def test_a_gzip_file_of_this_machine_is_bounded_too(
    workspace: Workspace, tmp_path: Path, settings: LazySettings, ingest_dir: Path, body: bytes, said: str
) -> None:  # fmt: skip
    settings.UPLOAD_BYTES_MAX = 1_000 if len(body) < 1_000 else settings.UPLOAD_BYTES_MAX
    path = tmp_path / "rows.csv.gz"
    path.write_bytes(body)

    with pytest.raises(CommandError, match=said):
        call_command("load", "ACME", "NEW", str(path), stdout=StringIO())

    assert not Dataset.objects.exists()


def test_unpacking_stops_when_there_is_no_room_for_more(tmp_path: Path) -> None:
    path = tmp_path / "rows.gz"
    path.write_bytes(gzip.compress(b"a,b\n" * 200_000))
    no = Refusal("storage-full", "There is no room.")

    refusal = packed.unpack(
        path, tmp_path / "plain", bytes_max=10**9, allows=lambda came_out: no if came_out > 300_000 else None
    )

    assert refusal is no
    assert (tmp_path / "plain").stat().st_size < 600_000
