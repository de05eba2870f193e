"""An installation of the product for tests: its own data directory, port, and `manage.py up`."""

import contextlib
import fcntl
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import psycopg

ROOT = Path(__file__).resolve().parents[2]


# A start takes some seconds; on a busy machine with a new database many times as long.
START_SECONDS_MAX = 240
STARTED = "Ctrl-C stops it."


def until(holds: Callable[[], object], seconds: float = 30, said: Callable[[], str] = str) -> None:
    """Poll until the claim holds; fail after that many seconds, with what `said` tells."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"it did not come true in {seconds:g} s\n{said()}"
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Installation:
    """One data directory and the `up` that runs on it."""

    # Most of a first start is a new database. So it begins with a copy of one that was started before, where
    # it is not the first start that is looked at.
    begins_new = False
    copies: Path | None = None  # where they are kept while the tests run
    root = ROOT  # the checkout that runs

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = free_port()
        self.log = home.with_name(home.name + ".log")
        self.process: subprocess.Popen[bytes] | None = None

    def environment(self, **changes: str) -> dict[str, str]:
        prefixes = ("APPERATE_", "DATABASE_", "DJANGO_", "PG_")
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(prefixes) and name not in {"HOST", "PORT"}
        }
        return kept | {
            "APPERATE_DATA_DIR": str(self.home),
            "APPERATE_DATABASE_LINGER_SECONDS": "0.5",
            "APPERATE_DEMO": "0",
            "PORT": str(self.port),
            **changes,
        }

    def start(self) -> None:
        environment = self.environment()
        if self.copies and not (self.begins_new or self.home.exists() or "DATABASE_URL" in environment):
            subprocess.run(["cp", "-a", started_before(environment["APPERATE_DEMO"]), self.home], check=True)
        before = self.said().count(STARTED) if self.log.exists() else 0  # by an earlier start
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "up"], cwd=self.root, env=environment, stdout=log, stderr=log
            )
        until(
            lambda: self.process.poll() is not None or self.said().count(STARTED) > before,
            seconds=START_SECONDS_MAX, said=self.said,
        )  # fmt: skip
        assert self.process.poll() is None, self.said()

    def run(self, **changes: str) -> subprocess.CompletedProcess[str]:
        """Run an `up` that is expected to end by itself."""
        return subprocess.run(
            [sys.executable, "manage.py", "up"],
            cwd=self.root,
            env=self.environment(**changes),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def said(self) -> str:
        return self.log.read_text()

    def status(self, path: str = "/livez") -> int | None:
        """The status of an answer, None without one."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except OSError:
            return None
        finally:
            connection.close()

    def left(self) -> dict[int, str]:
        """Every live process that has this data directory in its environment or command."""
        found = {}
        mark = os.fsencode(self.home)
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                command = (process / "cmdline").read_bytes()
                # A process that ended and waits to be collected has an empty command.
                if command and (mark in command or mark in (process / "environ").read_bytes()):
                    found[int(process.name)] = command.replace(b"\0", b" ").decode(errors="replace")
        return found

    def pids(self, words: str) -> list[int]:
        return sorted(pid for pid, command in self.left().items() if words in command)

    def manage(self, *arguments: str) -> str:
        """What a management command prints, run beside the server."""
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(
            command, cwd=self.root, env=self.environment(), capture_output=True, text=True, check=True
        )
        return done.stdout

    def stop(self) -> None:
        """End it as Ctrl-C does, with a database that needs no recovery."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        self.process.wait()
        until(lambda: not self.left())

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        until(lambda: not self.left())


def started_before(demo: str) -> Path:
    """A data directory that was started, with the demo ("1") or without ("0"), and stopped; made once."""
    assert Installation.copies is not None
    folder = Installation.copies / f"demo-{demo}"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            with tempfile.TemporaryDirectory(prefix="apperate-") as place:
                first = (Demo if demo == "1" else Installation)(Path(place) / "data")
                first.begins_new = True
                try:
                    first.start()
                    first.stop()
                finally:
                    first.end()
                # All of it at once: whoever finds the folder finds it whole.
                subprocess.run(["cp", "-a", first.home, folder.with_suffix(".new")], check=True)
                folder.with_suffix(".new").rename(folder)
    return folder


class Demo(Installation):
    """An installation with the demo in it; `facts` is what `manage.py demo --json` says."""

    facts: dict[str, Any]

    def environment(self, **changes: str) -> dict[str, str]:
        given = {"APPERATE_DEMO": "1", "APPERATE_ACTIVATION_SECONDS": "5"}
        # The suite's second run, on a DATABASE_URL, puts this installation there too.
        if url := os.environ.get("DATABASE_URL"):
            given["DATABASE_URL"] = urlsplit(url)._replace(path=f"/{self.database}").geturl()
        return super().environment(**(given | changes))

    @property
    def database(self) -> str:
        """The database of this installation on the server of DATABASE_URL."""
        return f"apperate_demo_{self.port}"

    def start(self) -> None:
        self.on_given_server(f"CREATE DATABASE {self.database}")
        super().start()
        self.facts = json.loads(self.manage("demo", "--json"))

    def end(self) -> None:
        super().end()
        self.on_given_server(f"DROP DATABASE IF EXISTS {self.database} WITH (FORCE)")

    def on_given_server(self, statement: str) -> None:
        if url := os.environ.get("DATABASE_URL"):
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(statement)


Kind = TypeVar("Kind", bound=Installation)


@contextlib.contextmanager
def started(kind: type[Kind]) -> Iterator[Kind]:
    """A running installation of this kind on a throw-away data directory; nothing of it is left behind."""
    with tempfile.TemporaryDirectory(prefix="apperate-") as folder:
        installation = kind(Path(folder) / "data")
        try:
            installation.start()
            yield installation
        finally:
            installation.end()
