"""Workers of the queue that are stopped at a statement by a lock of the test, and killed there.

    with Nursery() as nursery, Holder() as holder:
        holder.take("LOCK TABLE records IN SHARE MODE")
        worker = nursery.start("folder", ingest_dir)
        holder.wait_for("INSERT INTO records")    the worker's statement waits for the lock
        nursery.kill(worker)

Nothing in the product knows of it: a worker is the process that `manage.py up` starts. They are forked from
one process that has imported everything, because that takes longer than all else.
"""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
from django.db import connection

from apperate.database.pool import connection_arguments
from tests.support.installation import until

NURSERY = """
import os, sys
from pathlib import Path
from django.conf import settings
settings.DATABASES["default"]["NAME"] = sys.argv[1]
import django
django.setup()
from apperate.running.supervisor import die_with_parent
die_with_parent()
from django.core.management import call_command
from datasets.files import parquet_file
from datasets.jobs import queue
print("ready", flush=True)
for line in sys.stdin:
    uploads, folder = line.split()
    pid = os.fork()
    if pid == 0:
        die_with_parent()
        settings.UPLOADS, settings.INGEST_DIR = uploads, Path(folder)
        call_command(
            "procrastinate", "worker", "--no-listen-notify", "--concurrency", "1",
            "--fetch-job-polling-interval", "0.05",
        )
        os._exit(0)
    print(pid, flush=True)
    print(os.waitpid(pid, 0)[1], flush=True)
"""


class Nursery:
    """The process that the workers are forked from; one worker lives at a time."""

    def __enter__(self) -> "Nursery":
        self._process = subprocess.Popen(
            [sys.executable, "-c", NURSERY, str(connection.settings_dict["NAME"])],
            env=os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._read() == "ready"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def start(self, uploads: str, ingest_dir: Path) -> int:
        """A new worker; its process id."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{uploads} {ingest_dir}\n")
        self._process.stdin.flush()
        return int(self._read())

    def kill(self, worker: int) -> None:
        os.kill(worker, signal.SIGKILL)
        assert self._read() == str(int(signal.SIGKILL)), "it had ended before"


class Holder:
    """A session that holds a lock which a worker runs into."""

    def __enter__(self) -> "Holder":
        self._session = psycopg.connect(**(connection_arguments() | {"autocommit": False}))
        self._session.execute("SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0")
        self._session.commit()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(psycopg.Error):
            self._session.close()

    def take(self, lock: str, *values: Any) -> None:
        """Lock something until let_go(); waits until it can be had."""
        self._session.execute(lock, values)

    def let_go(self) -> None:
        self._session.rollback()

    @property
    def pid(self) -> int:
        return self._session.info.backend_pid

    def is_waited_for(self, words: str) -> bool:
        """Whether a statement with these words waits for this session."""
        return _is_there("%s = ANY(pg_blocking_pids(pid)) AND query LIKE %s", self.pid, f"%{words}%")

    def waits(self) -> bool:
        """Whether this session itself waits for a lock."""
        return _is_there("pid = %s AND cardinality(pg_blocking_pids(pid)) > 0", self.pid)

    def wait_for(self, words: str) -> None:
        until(lambda: self.is_waited_for(words), seconds=60, said=_sessions)


def _is_there(condition: str, *values: Any) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM pg_stat_activity WHERE {condition}", values)  # noqa: S608
        return bool(cursor.fetchone()[0])


def _sessions() -> str:
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT pid, state, wait_event_type, wait_event, left(query, 200) FROM pg_stat_activity
                WHERE datname = current_database()"""
        )
        return "\n".join(map(str, cursor.fetchall()))
