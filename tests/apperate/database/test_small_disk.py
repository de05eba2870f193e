"""E-F1: the embedded server and its files on a small disk of their own, which is filled and freed again."""

import http.client
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from apperate.database.embedded import launcher
from tests.support.installation import Demo, until
from tests.support.small_disk import left_mb, small_disk

SIZE_MB, RESERVE_MB, LEFT_MB = 600, 60, 50
LINE = b"symbol,date,close\nSMALL,2024-01-02,1\n"


class OnSmallDisk(Demo):
    def environment(self, **changes: str) -> dict[str, str]:
        given = {"APPERATE_DISK_RESERVE_MB": str(RESERVE_MB), "APPERATE_WORKERS": "1"}
        return super().environment(**(given | changes))

    def ask(self, method: str, path: str, body: bytes | None = None, query: str = "") -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"X-API-Key": self.facts["secret_token"]}
        connection.request(method, f"/v1/{path}?{query}", body=body, headers=headers)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return answer.status, json.loads(text)

    def sql(self, statement: str, *, user: str = "apperate_app") -> Any:
        sockets = launcher.socket_dir(self.home / "db")
        with psycopg.connect(
            host=str(sockets),
            port=5432,
            user=user,
            dbname="apperate",
            autocommit=True,
            passfile=str(self.home / "db.key"),
        ) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchone()[0] if cursor.description else None  # type: ignore[index]


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[OnSmallDisk]:
    # Of a server elsewhere the disk cannot be filled, nor seen.
    monkeypatch.delenv("DATABASE_URL", raising=False)
    with small_disk(SIZE_MB) as folder:
        installation = OnSmallDisk(folder / "data")
        installation.log = folder / "log"
        try:
            installation.start()
            yield installation
        finally:
            installation.end()


@pytest.fixture
def with_small_log(monkeypatch: pytest.MonkeyPatch) -> Iterator[OnSmallDisk]:
    """The write-ahead log has a small disk of its own, and nothing is kept back on it."""
    monkeypatch.delenv("DATABASE_URL", raising=False)
    with small_disk(size_mb=200) as folder, tempfile.TemporaryDirectory() as home:
        installation = WithoutReserve(Path(home) / "data")
        try:
            installation.start()
            installation.stop()
            log = installation.home / "db" / "pg" / "pg_wal"
            subprocess.run(["cp", "-a", log, folder / "pg_wal"], check=True)
            folder.chmod(0o755)
            shutil.rmtree(log)
            log.symlink_to(folder / "pg_wal")
            installation.start()
            yield installation
        finally:
            installation.end()


class WithoutReserve(OnSmallDisk):
    def environment(self, **changes: str) -> dict[str, str]:
        return super().environment(**({"APPERATE_DISK_RESERVE_MB": "0"} | changes))


@pytest.mark.server
def test_a_nearly_full_disk_stops_writes_alone_and_nothing_needs_a_restart(running: OnSmallDisk) -> None:
    """Writes, files and exports are 507 in words; reads, usage, the audit log and tokens go on."""
    schema = {"properties": {name: {"type": "string"} for name in ("symbol", "date", "close")}}
    document = {"datasetId": "SMALL", "schema": schema, "columnMapping": {"key": "symbol"}}
    assert running.ask("POST", "datasets/DEMO", json.dumps({"dataset": document}).encode())[0] == 200
    record = b'[{"symbol": "A", "date": "2024-01-02", "close": "1"}]'
    assert running.ask("POST", "record/DEMO/SMALL", record)[0] == 200
    processes = running.pids("apperate.running.server"), running.pids("procrastinate worker")
    filler = running.home.parent / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, int((left_mb(running.home) - LEFT_MB) * 1e6))
    assert RESERVE_MB > left_mb(running.home) > LEFT_MB - 10

    until(lambda: running.ask("POST", "record/DEMO/SMALL", record)[0] == 507)
    for method, path, body, query in (
        ("POST", "record/DEMO/SMALL", record, "overwrite=true"),
        ("POST", "data/DEMO/SMALL", LINE, ""),
        ("POST", "data/DEMO/SMALL", LINE, "wait=true"),
        ("GET", "data/DEMO/SMALL", None, "export=true"),
    ):
        status, problem = running.ask(method, path, body, query)
        assert (status, problem["code"]) == (507, "storage-full"), problem
        assert "nearly full" in problem["detail"] and "makes room" in problem["needed"]

    calls = running.sql("SELECT coalesce(sum(calls), 0) FROM tokens_usagecounter")
    events = running.sql("SELECT count(*) FROM accounts_auditevent")
    assert running.ask("GET", "data/DEMO/SMALL/A")[0] == 200
    status, token = running.ask("POST", "tokens", b'{"nickname": "On a full disk"}')
    assert status == 200, token
    assert running.sql("SELECT count(*) FROM accounts_auditevent") > events
    until(lambda: running.sql("SELECT coalesce(sum(calls), 0) FROM tokens_usagecounter") > calls)
    running.sql("VACUUM records", user="apperate_owner")
    assert running.ask("GET", "data/DEMO/SMALL/A")[1][0]["close"] == "1"

    filler.unlink()

    until(lambda: running.ask("POST", "record/DEMO/SMALL", record)[0] == 200)
    status, answer = running.ask("POST", "data/DEMO/SMALL", LINE, "wait=true")
    assert status == 200 and "1 records ingested" in answer["message"], answer
    status, records = running.ask("GET", "data/DEMO/SMALL", None, "export=true")
    assert status == 200 and {one["symbol"] for one in records} == {"A", "SMALL"}
    assert (running.pids("apperate.running.server"), running.pids("procrastinate worker")) == processes
    assert "Traceback" not in running.said()


@pytest.mark.server
def test_a_full_disk_of_the_log_ends_nothing_for_good(with_small_log: OnSmallDisk) -> None:
    """The server of the database cannot write its log and stops; when there is room again, all goes on."""
    running = with_small_log
    record = json.dumps([{"ticker": f"T{n}", "date": "2024-01-02", "x": "x" * 900} for n in range(2_000)])
    document = {
        "datasetId": "SMALL",
        "schema": {"properties": {name: {"type": "string"} for name in ("ticker", "date", "x")}},
        "columnMapping": {"key": "ticker"},
    }
    assert running.ask("POST", "datasets/DEMO", json.dumps({"dataset": document}).encode())[0] == 200
    assert running.ask("POST", "record/DEMO/SMALL", record.encode())[0] == 200
    supervisor = running.process
    filler = (running.home / "db" / "pg" / "pg_wal").resolve().parent / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, int((left_mb(filler.parent) - 1) * 1e6))

    def has_stopped() -> bool:
        return running.ask("POST", "record/DEMO/SMALL", record.encode(), "overwrite=true")[0] != 200

    until(has_stopped, seconds=120)
    # Longer than the tries that a server which never ran is given.
    server_log = running.home / "db" / "server.log"
    until(lambda: server_log.read_text(errors="replace").count("No space left on device") > 9, seconds=120)
    status, problem = running.ask("POST", "record/DEMO/SMALL", record.encode(), "overwrite=true")
    assert (status, problem["code"]) in {(503, "unavailable"), (507, "storage-full")}, problem
    assert supervisor is not None and supervisor.poll() is None, running.said()

    filler.unlink()

    until(lambda: running.ask("POST", "record/DEMO/SMALL", record.encode(), "overwrite=true")[0] == 200, 60)
    assert len(running.ask("GET", "data/DEMO/SMALL/T1")[1]) == 1
    assert running.process is supervisor and supervisor.poll() is None
