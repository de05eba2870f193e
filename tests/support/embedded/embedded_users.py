"""Processes that use the embedded server of one data folder, for the tests of that server."""

import contextlib
import os
import pwd
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from apperate.database.embedded import access, launcher

ROOT = Path(__file__).resolve().parents[3]
IS_ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not IS_ROOT, reason="only root can run a child as another account")
needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="only Linux has /proc")

USER_PROGRAM = """
import sys
from pathlib import Path
from apperate.database.embedded import launcher
launcher.ensure(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.read()
"""


class Users:
    """Starts processes that use the server of one data folder, and ends those that are left."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.started: list[subprocess.Popen[str]] = []

    def start(self, **options: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [options.pop("program", sys.executable), "-c", USER_PROGRAM, str(self.data)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={
                **os.environ,
                "APPERATE_DATABASE_LINGER_SECONDS": "0.3",
                "PYTHONPATH": sysconfig.get_path("purelib"),
            },
            **options,
        )
        self.started.append(process)
        return process

    def start_ready(self, **options: object) -> subprocess.Popen[str]:
        process = self.start(**options)
        assert process.stdout.readline() == "ready\n", process.stderr.read()
        return process

    def end(self) -> None:
        for process in self.started:
            process.kill()
            process.communicate()
        until(lambda: not launcher._is_watched(self.data))


def until(holds: Callable[[], object], seconds: float = 15) -> None:
    """Poll until the claim holds; fail after that many seconds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


def server_pid(data: Path) -> int:
    return int((data / "pg" / "postmaster.pid").read_text().split()[0])


def watcher_pid(data: Path) -> int:
    return int((data / ".watcher.lock").read_text())


def lives(pid: int) -> bool:
    """Whether the process runs; one that ended and waits to be collected does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    stat = Path(f"/proc/{pid}/stat")
    with contextlib.suppress(OSError):
        return not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


def connect(data: Path, user: str = "apperate_owner", database: str = "apperate") -> psycopg.Connection:
    return psycopg.connect(
        host=str(launcher.socket_dir(data)),
        port=5432,
        user=user,
        dbname=database,
        autocommit=True,
        **access.connection_options(data),
    )


def ordinary_account() -> dict[str, object]:
    """What makes a child of root an ordinary account, with an interpreter that this account can run."""
    if not IS_ROOT:
        return {}
    entry = pwd.getpwnam("nobody")
    options = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    for program in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        with contextlib.suppress(OSError):
            if subprocess.run([program, "-c", ""], cwd="/", check=False, **options).returncode == 0:
                return {**options, "program": program}
    pytest.skip("no Python of this version that the account nobody can run")
