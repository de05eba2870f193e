"""Where the server listens, and that nobody else does: neither on its port nor with its data.

hold(host, port, count) -> Held       raises ImproperlyConfigured when the address is taken
the_only_one(data_dir, url) -> Note   a context; raises ImproperlyConfigured that names who runs already
who_runs(data_dir) -> Runner | None   the `manage.py up` of a data directory, and its latest reload
"""

import errno
import fcntl
import os
import socket
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from django.core.exceptions import ImproperlyConfigured

from apperate.running.configuration import UNIX

RUNNING_FILE = ".running"
# As many connections wait, while all workers are starting, as a storm of a second brings.
BACKLOG = 2048
LOCK_TRIES, LOCK_PAUSE_SECONDS = 10, 0.05


@dataclass(frozen=True, slots=True)
class Held:
    """Sockets that keep an address from others as long as they are open, and listen once they are told to.

    One for each worker: the kernel divides connections among them, and what one worker does not take waits
    until it is back. A Unix socket is one for all.
    """

    sockets: Sequence[socket.socket]
    path: Path | None = None  # of a Unix socket

    def listen(self) -> None:
        """Let connections wait here from now on, whether a worker takes them yet or not."""
        for one in self.sockets:
            one.listen(BACKLOG)
            # Who listens is alone in any case; connections inherit it, and their remains would otherwise keep
            # the address from the next start for a minute.
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

    def close(self) -> None:
        if self.path is not None and self.sockets[0].fileno() >= 0:
            self.path.unlink(missing_ok=True)
        for one in self.sockets:
            one.close()


def hold(host: str, port: int, count: int) -> Held:
    """Bind the address for that many workers; of two who start at the same moment only one has it."""
    if host.startswith(UNIX):
        return _hold_path(Path(host.removeprefix(UNIX)), count)
    try:
        family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        raise ImproperlyConfigured(f"HOST={host!r} is not an address or name of this machine.") from None
    holder = socket.socket(family, socket.SOCK_STREAM)
    # What an earlier server has just left may still be closing.
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        holder.bind(where)
    except OSError as error:
        holder.close()
        reasons = {
            errno.EADDRINUSE: f"PORT={port} is in use on {host}: stop the other program, or set PORT.",
            errno.EACCES: f"PORT={port} may be opened by root only: set PORT to 1024 or higher.",
        }
        default = f"HOST={host} cannot be listened on: {error.strerror}."
        raise ImproperlyConfigured(reasons.get(error.errno or 0, default)) from None
    sockets = [holder]
    while True:
        # Nobody else may bind it, although it does not listen yet, but the sockets beside it.
        sockets[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        sockets[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        # Answers are written at once; connections inherit it.
        sockets[-1].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if len(sockets) == count:
            return Held(sockets)
        another = socket.socket(family, socket.SOCK_STREAM)
        another.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        another.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        another.bind(where)
        sockets.append(another)


def _hold_path(path: Path, count: int) -> Held:
    """A Unix socket for a proxy on this machine: of mode 0660, so that its group may connect."""
    if not path.is_absolute():
        raise ImproperlyConfigured(f"HOST={UNIX}{path} is no absolute path: use {UNIX}/run/apperate.sock.")
    holder = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with suppress(FileNotFoundError):
            if not stat.S_ISSOCK(path.lstat().st_mode):
                raise FileExistsError(errno.EEXIST, "there is a file that is no socket")
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                try:
                    probe.connect(str(path))
                except ConnectionRefusedError:  # A server that was killed has left it.
                    path.unlink()
                else:
                    raise FileExistsError(errno.EADDRINUSE, "another program listens there")
        # The mode is right from its first moment.
        umask = os.umask(0o117)
        try:
            holder.bind(str(path))
        finally:
            os.umask(umask)
    except OSError as error:
        holder.close()
        reason = error.strerror or str(error)
        raise ImproperlyConfigured(f"HOST={UNIX}{path} cannot be listened on: {reason}.") from None
    return Held([holder] * count, path)


class Note:
    """The lines of the running file: who runs, and how the latest reload went."""

    def __init__(self, write: Callable[[str], None], first: str) -> None:
        self._write, self._first, self._reloads = write, first, 0
        write(first)

    def reloaded(self, problem: str = "") -> None:
        """A reload has ended; without a problem, well."""
        self._reloads += 1
        self._write(f"{self._first}{self._reloads} {problem}\n")


@contextmanager
def the_only_one(data_dir: Path, url: str) -> Iterator[Note]:
    """Run alone on a data directory. The lock goes with the process, however it ends."""
    data_dir.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(data_dir / RUNNING_FILE, os.O_RDWR | os.O_CREAT, 0o644)
    with open(descriptor, "r+") as file:
        if not _locked(file):
            file.seek(0)
            who = file.readline().strip() or "another process"
            raise ImproperlyConfigured(
                f"Apperate runs on {data_dir} already ({who}): stop it, or set APPERATE_DATA_DIR."
            ) from None

        def write(text: str) -> None:
            os.pwrite(descriptor, text.encode(), 0)
            os.truncate(descriptor, len(text.encode()))

        yield Note(write, f"process {os.getpid()}, {url}\n")


def _locked(file: IO[str]) -> bool:
    """Lock it for this process alone. Who looks who runs has the lock for a moment."""
    for _ in range(LOCK_TRIES):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(LOCK_PAUSE_SECONDS)
        else:
            return True
    return False


@dataclass(frozen=True, slots=True)
class Runner:
    """Who runs on a data directory: its process, how many reloads have ended, and what stopped the last."""

    pid: int
    reloads: int
    problem: str


def who_runs(data_dir: Path) -> Runner | None:
    """None when nobody does."""
    for _ in range(LOCK_TRIES):
        try:
            with open(data_dir / RUNNING_FILE) as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    first, second, *_ = [*file.read().split("\n"), "", ""]
                else:
                    return None
        except FileNotFoundError:
            return None
        count, _, problem = second.partition(" ")
        with suppress(ValueError, IndexError):  # It is being written.
            return Runner(int(first.split()[1].rstrip(",")), int(count or 0), problem)
        time.sleep(LOCK_PAUSE_SECONDS)
    return None
