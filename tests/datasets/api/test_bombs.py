"""S36: small bodies that unpack to very much, sent to the real server: memory and database stay small."""

import gzip
import http.client
import io
import json
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.support.installation import Demo, until

pytestmark = [pytest.mark.server, pytest.mark.check("S36")]

# Half of it is what DuckDB may take while it reads a Parquet file.
GROWTH_BYTES_MAX = 120_000_000
UNDER_WAY = {"CREATED", "VALIDATING", "PROCESSING"}
PART = gzip.compress(b'{"Name":"' + b"x" * 30_000_000)


def zipped() -> bytes:
    """Many entries of much each."""
    entry = b"x" * 1_000_000
    with closing(io.BytesIO()) as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for number in range(300):
                archive.writestr(f"{number}.csv", entry)
        return file.getvalue()


def parquet(tmp_path: Path, codec: str) -> bytes:
    """500 MB of one text, again and again."""
    path = tmp_path / "bomb.parquet"
    select = "SELECT i AS \"Name\", repeat('x', 50_000) || i AS v FROM range(10_000) t(i)"
    duckdb.sql(f"COPY ({select}) TO '{path}' (FORMAT parquet, COMPRESSION {codec})")
    return path.read_bytes()


BOMBS = {
    "gzip": lambda _: PART * 20,
    "gzip in gzip": lambda _: gzip.compress(PART * 20),
    "zip": lambda _: zipped(),
    "parquet with zstd": lambda path: parquet(path, "zstd"),
    "parquet with gzip": lambda path: parquet(path, "gzip"),
    "parquet with snappy": lambda path: parquet(path, "snappy"),
}


def memory_bytes(demo: Demo) -> int:
    """The most that the server's processes and the worker of the queue have ever had, together."""
    total = 0
    for pid in (*demo.pids("apperate.running.server"), *demo.pids("procrastinate")):
        status = Path(f"/proc/{pid}/status").read_text()
        total += int(status.split("VmHWM:")[1].split()[0]) * 1_024
    return total


def ask(demo: Demo, method: str, path: str, body: bytes = b"") -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {demo.facts['secret_token']}"}
    with closing(http.client.HTTPConnection("127.0.0.1", demo.port, timeout=120)) as connection:
        connection.request(method, path, body, headers)
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read())


def stored_bytes(demo: Demo) -> int:
    """The size of the database's tables and of the files of jobs, without what it wrote ahead."""
    places = (demo.home / "db" / "pg" / "base", demo.home / "ingest")
    return sum(file.stat().st_size for place in places for file in place.rglob("*") if file.is_file())


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_of_any_format_is_refused_and_leaves_nothing(demo: Demo, tmp_path: Path, bomb: str) -> None:
    body = BOMBS[bomb](tmp_path)
    assert len(body) < 25_000_000
    ask(demo, "POST", "/v1/data/DEMO/CARS", b"Name,Year\n")  # What is loaded at the first file is loaded.
    memory, stored = memory_bytes(demo), stored_bytes(demo)

    status, said = ask(demo, "POST", "/v1/data/DEMO/CARS", body)

    if status == 200:  # It is found while the job runs.
        path = f"/v1/jobs/DEMO/ingest/{said['jobId']}"
        until(lambda: ask(demo, "GET", path)[1]["status"] not in UNDER_WAY, seconds=120)
        assert ask(demo, "GET", path)[1]["status"] == "ERROR", said
    else:
        assert status in {400, 413, 415}, said
    assert memory_bytes(demo) - memory < GROWTH_BYTES_MAX
    assert stored_bytes(demo) - stored < GROWTH_BYTES_MAX / 10
