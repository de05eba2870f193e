"""What is done to an installation: its processes killed or stopped, its sessions ended, its disk filled."""

import contextlib
import os
import resource
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import psycopg

from tests.support.installation import until
from tests.torture.stage import Stage, children_of


def kill(pid: int) -> bool:
    """kill -9; False when it was gone already."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def kill_postmaster(stage: Stage) -> None:
    """kill -9 of the embedded server and every process it started."""
    until(stage.postmaster)  # It may be starting again from the last time.
    postmaster = stage.postmaster()
    for pid in (postmaster, *children_of(postmaster)):
        kill(pid)


def terminate_sessions(connection: "psycopg.Connection[Any]") -> int:
    """End every other session of the database by pg_terminate_backend; how many there were.

    The role ends its own sessions; those of the owner, which nothing uses while it serves, are not seen.
    """
    rows = connection.execute(
        """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()"""
    ).fetchall()
    return len(rows)


@contextlib.contextmanager
def stopped(pids: Iterable[int]) -> Iterator[None]:
    """These processes hang: SIGSTOP, and SIGCONT at the end."""
    held = list(pids)
    try:
        for pid in held:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in held:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def with_children(pid: int) -> list[int]:
    """The process and those that it started; itself first, so that none is started meanwhile."""
    return [pid, *children_of(pid)]


@contextlib.contextmanager
def filled(folder: Path, left_bytes: int = 0) -> Iterator[None]:
    """The disk of this folder is full but for so many bytes, until the end of the block."""
    filler = folder / "filler"
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    try:
        with filler.open("wb") as file:
            with contextlib.suppress(OSError):
                os.posix_fallocate(file.fileno(), 0, max(1, free - left_bytes))
            if left_bytes == 0:
                with contextlib.suppress(OSError):
                    while file.write(b"\0" * 65_536):
                        file.flush()
        yield
    finally:
        with contextlib.suppress(OSError):
            filler.unlink(missing_ok=True)


def wait(seconds: float) -> None:
    """Let the fault last: this is its length, not a wait for something to happen."""
    time.sleep(seconds)


def raise_descriptors() -> None:
    """Let this process hold as many connections as the system allows it."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
