"""Runs the processes of one installation together: they start, live and end as one.

A child is a program (Program) or a copy of this process (Copy). It gets a signal from Linux when its parent
dies, so that even kill -9 of the supervisor leaves nothing behind.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn, Protocol

TICK_SECONDS = 0.1
STOP_SECONDS_MAX = 20
# A child that ends again and again is started after a growing pause, and never given up: the database may be
# away for an hour.
RESTART_SECONDS, RESTART_SECONDS_MAX = 0.5, 30.0
STABLE_SECONDS = 60.0
PR_SET_PDEATHSIG = 1
READY_VARIABLE = "READY_FD"
# Each with handlers of its own in a copy, which must not miss one before they are there.
SIGNALS = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class ChildFailed(Exception):
    """A child ended and is not worth restarting; the text says which and how."""


class StopAsked(BaseException):
    """SIGTERM or Ctrl-C. Not an Exception, so that no general handler swallows it."""


@dataclass(slots=True)
class Pause:
    """How long to wait until something is tried again: twice as long each time, up to a limit."""

    first_seconds: float = RESTART_SECONDS
    seconds_max: float = RESTART_SECONDS_MAX
    _next_seconds: float = 0.0

    def take(self) -> float:
        """The seconds to wait now."""
        seconds = self._next_seconds or self.first_seconds
        self._next_seconds = min(2 * seconds, self.seconds_max)
        return seconds

    def reset(self) -> None:
        self._next_seconds = 0.0


class Process(Protocol):
    """What is needed of a started process; subprocess.Popen has it."""

    pid: int
    returncode: int | None

    def poll(self) -> int | None: ...
    def wait(self) -> int: ...


@dataclass(slots=True, kw_only=True)
class Child:
    """A process to keep running. Once `is_ready`, it is started again when it ends."""

    name: str
    process: Process | None = None
    is_ready: bool = False
    started_at: float = 0.0
    restart_at: float = 0.0
    pause: Pause = field(default_factory=Pause)
    orphan_signal: int = signal.SIGTERM  # what it gets when this process dies
    leave_signal: int = signal.SIGTERM  # asks it to end when another has taken its place

    def start(self) -> None:
        self.started_at = time.monotonic()
        self.process = self.launched()

    def launched(self) -> Process:
        raise NotImplementedError

    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def has_reported(self) -> bool:
        """Whether it does its work; asked until it is true."""
        return self.is_running()

    def send(self, number: int) -> None:
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(self.process.pid, number)

    def kill(self) -> None:
        """End it, and everything it started."""
        self.send(signal.SIGKILL)

    def how_it_ended(self) -> str:
        code = self.process.returncode if self.process else None
        if code is not None and code < 0:
            return f"{self.name} was ended by {signal.Signals(-code).name}"
        return f"{self.name} ended with exit code {code}"


@dataclass(slots=True, kw_only=True)
class Program(Child):
    """A command, which leads a process group.

    One that `reports` finds the number of a descriptor in READY_VARIABLE, and writes to it when it serves.
    """

    command: Sequence[str | os.PathLike[str]]
    environment: Mapping[str, str]
    directory: str | os.PathLike[str]
    descriptors: Sequence[int] = ()
    reports: bool = False
    _report: int | None = None

    def launched(self) -> Process:
        supervisor = os.getpid()

        def prepare() -> None:
            die_with_parent(self.orphan_signal)
            if os.getppid() != supervisor:
                os._exit(1)

        self._close_report()
        environment, descriptors = dict(self.environment), list(self.descriptors)
        written = None
        if self.reports:
            self._report, written = os.pipe()
            os.set_blocking(self._report, False)
            environment[READY_VARIABLE] = str(written)
            descriptors.append(written)
        try:
            return subprocess.Popen(  # noqa: S603, the command is made by the supervisor's caller
                self.command,
                env=environment,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                process_group=0,
                pass_fds=descriptors,
                preexec_fn=prepare,  # noqa: PLW1509, the supervisor has one thread
            )
        finally:
            if written is not None:
                os.close(written)

    def has_reported(self) -> bool:
        if self._report is None:
            return not self.reports and self.is_running()
        try:
            said = os.read(self._report, 1)
        except BlockingIOError:
            return False
        self._close_report()
        return bool(said)

    def kill(self) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def _close_report(self) -> None:
        if self._report is not None:
            os.close(self._report)
            self._report = None


class Forked:
    """The process of a Copy."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        return self._collect(os.WNOHANG)

    def wait(self) -> int:
        return self._collect(0) or 0

    def _collect(self, options: int) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, options)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


@dataclass(slots=True, kw_only=True)
class Copy(Child):
    """A copy of this process, which must have one thread, that does its work and ends.

    What this process has loaded need not be loaded again. `work` begins with SIGNALS blocked.
    """

    work: Callable[[], object]

    def launched(self) -> Process:
        parent = os.getpid()
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        pid = os.fork()
        if pid == 0:
            self._run(parent)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        return Forked(pid)

    def _run(self, parent: int) -> NoReturn:
        code = 1
        try:
            die_with_parent(self.orphan_signal)
            if os.getppid() == parent:
                self.work()
                code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            # Threads that hang in something cannot keep the process.
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)


def die_with_parent(number: int = signal.SIGTERM) -> None:
    """Ask Linux for a signal when this process's parent dies. Other systems cannot do this."""
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)


@contextlib.contextmanager
def stop_signals(on_reload: Callable[[], object] | None = None) -> Iterator[None]:
    """Raise StopAsked in the main thread for SIGTERM and Ctrl-C; SIGHUP calls on_reload.

    One request may arrive as several signals, to the process and its group; within a second they count once.
    The SIGHUP of a terminal that was closed is a request to stop.
    """
    asked_at = -float("inf")
    terminals = [descriptor for descriptor in (0, 1, 2) if os.isatty(descriptor)]

    def ask(number: int, _frame: object) -> None:
        nonlocal asked_at
        if number == signal.SIGHUP and on_reload and all(map(os.isatty, terminals)):
            on_reload()
            return
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
    children: Sequence[Child],
    *,
    say: Callable[[str], object],
    each_second: Callable[[], object],
    each_tick: Callable[[], object] = lambda: None,
) -> NoReturn:
    """Keep the children running until StopAsked. Raises ChildFailed for one that was never ready."""
    next_second = 0.0
    while True:
        now = time.monotonic()
        if now >= next_second:
            each_second()
            next_second = now + 1
        mend(children, say=say)
        each_tick()
        time.sleep(TICK_SECONDS)


def mend(children: Sequence[Child], *, say: Callable[[str], object]) -> None:
    """Start again what has ended, after its pause. Raises ChildFailed for what was never ready.

    A child that was ready is started again, however often it ends.
    """
    for child in children:
        now = time.monotonic()
        if child.is_running():
            continue
        if child.restart_at:
            if now >= child.restart_at:
                child.restart_at = 0.0
                child.start()
            continue
        child.kill()
        if not child.is_ready:
            raise ChildFailed(child.how_it_ended())
        if now - child.started_at >= STABLE_SECONDS:
            child.pause.reset()
        seconds = child.pause.take()
        say(f"{child.how_it_ended()}; it is started again in {seconds:g} s.")
        child.restart_at = now + seconds


def collect(leaving: list[Child]) -> None:
    """Forget the children that were asked to leave and have; each ends in its own time."""
    leaving[:] = [child for child in leaving if child.is_running()]


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
        child.send(signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS_MAX
    try:
        while any(child.is_running() for child in children) and time.monotonic() < deadline:
            time.sleep(TICK_SECONDS / 5)
    finally:
        for child in children:
            child.kill()
            if child.process is not None:
                child.process.wait()
