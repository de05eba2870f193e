"""Runs the processes of one installation together: they start, live and end as one.

Each child leads a process group and gets a signal from Linux when its parent dies, so that even kill -9
of the supervisor leaves nothing behind.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

TICK_SECONDS = 0.1
STOP_SECONDS_MAX = 20
RESTART_SECONDS = 0.5
# A child that ends again and again is started after a growing pause, and never given up: the database may be
# away for an hour.
RESTART_SECONDS_MAX = 30.0
STABLE_SECONDS = 60.0
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class ChildFailed(Exception):
    """A child ended and is not worth restarting; the text says which and how."""


class StopAsked(BaseException):
    """SIGTERM, SIGHUP or Ctrl-C. Not an Exception, so that no general handler swallows it."""


@dataclass(slots=True)
class Child:
    """One program to keep running. Once `is_ready`, it is restarted when it ends."""

    name: str
    command: Sequence[str | os.PathLike[str]]
    environment: Mapping[str, str]
    directory: str | os.PathLike[str]
    process: subprocess.Popen[bytes] | None = None
    is_ready: bool = False
    started_at: float = 0.0
    restart_at: float = 0.0
    pause_seconds: float = RESTART_SECONDS

    def start(self) -> None:
        supervisor = os.getpid()
        self.started_at = time.monotonic()

        def prepare() -> None:
            die_with_parent()
            if os.getppid() != supervisor:
                os._exit(1)

        self.process = subprocess.Popen(  # noqa: S603, the command is made by the supervisor's caller
            self.command,
            env=self.environment,
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            process_group=0,
            preexec_fn=prepare,  # noqa: PLW1509, the supervisor has one thread
        )

    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def signal_group(self, number: int) -> None:
        """Signal the child and everything it started."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, number)

    def how_it_ended(self) -> str:
        code = self.process.returncode if self.process else None
        if code is not None and code < 0:
            return f"{self.name} was ended by {signal.Signals(-code).name}"
        return f"{self.name} ended with exit code {code}"


def die_with_parent() -> None:
    """Ask Linux for SIGTERM when this process's parent dies. Other systems cannot do this."""
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


@contextlib.contextmanager
def stop_signals() -> Iterator[None]:
    """Raise StopAsked in the main thread for SIGTERM, SIGHUP and Ctrl-C.

    One request may arrive as several signals, to the process and its group; within a second they count once.
    """
    asked_at = -float("inf")

    def ask(_number: int, _frame: object) -> None:
        nonlocal asked_at
        before, asked_at = asked_at, time.monotonic()
        if asked_at - before > 1:
            raise StopAsked

    numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
    handlers = {number: signal.signal(number, ask) for number in numbers}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def watch(
    children: Sequence[Child], *, say: Callable[[str], object], each_second: Callable[[], None]
) -> None:
    """Keep the children running until StopAsked. Raises ChildFailed for one that was never ready.

    A child that was ready is started again, however often it ends.
    """
    next_second = 0.0
    while True:
        now = time.monotonic()
        if now >= next_second:
            each_second()
            next_second = now + 1
        for child in children:
            if child.is_running():
                continue
            if child.restart_at:
                if now >= child.restart_at:
                    child.restart_at = 0.0
                    child.start()
                continue
            child.signal_group(signal.SIGKILL)
            if not child.is_ready:
                raise ChildFailed(child.how_it_ended())
            is_stable = now - child.started_at >= STABLE_SECONDS
            child.pause_seconds = RESTART_SECONDS if is_stable else child.pause_seconds
            say(f"{child.how_it_ended()}; it is started again in {child.pause_seconds:g} s.")
            child.restart_at = now + child.pause_seconds
            child.pause_seconds = min(2 * child.pause_seconds, RESTART_SECONDS_MAX)
        time.sleep(TICK_SECONDS)


def wait_until_ready(children: Sequence[Child], is_ready: Callable[[], bool], *, seconds_max: float) -> None:
    """Wait until the installation answers. Raises ChildFailed when a child ends, or after seconds_max."""
    deadline = time.monotonic() + seconds_max
    while not is_ready():
        for child in children:
            if not child.is_running():
                raise ChildFailed(child.how_it_ended())
        if time.monotonic() > deadline:
            raise ChildFailed(f"The server did not answer within {seconds_max:.0f} s")
        time.sleep(TICK_SECONDS / 2)
    for child in children:
        child.is_ready = True


def stop(children: Sequence[Child]) -> None:
    """End the children cleanly; what remains after STOP_SECONDS_MAX, or a second signal, is killed."""
    for child in children:
        child.signal_group(signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS_MAX
    try:
        while any(child.is_running() for child in children) and time.monotonic() < deadline:
            time.sleep(TICK_SECONDS / 5)
    finally:
        for child in children:
            child.signal_group(signal.SIGKILL)
            if child.process is not None:
                child.process.wait()
