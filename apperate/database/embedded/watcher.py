"""Runs the embedded PostgreSQL server while any process uses it. A script, standard library only.

Every process that uses the server holds a shared kernel lock on `.users.lock`, which the kernel releases
even after kill -9. The watcher is the server's parent: it restarts the server when it dies while in use,
and stops it when nobody has held the lock for a moment. If the watcher is killed, the kernel tells the
server to stop. The watcher keeps the privileges it was started with; only the server drops them.
"""
# ruff: noqa: S603, S607 - every command is a list built here, and no part of it comes from a request.

import contextlib
import ctypes
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

TICK_SECONDS = 0.1
# A server that never ran for so long has a fault to be seen at once. One that did is started again for ever,
# with a growing pause: a full disk may have room again.
RAN_SECONDS = 5
FAILED_STARTS_MAX = 8
PAUSE_SECONDS_MAX = 10.0
STOP_SECONDS_MAX = 60
LOG_BYTES_MAX = 10_000_000
PR_SET_PDEATHSIG = 1
# The values of a failed statement could include a token, so the log gets neither them nor the statement.
SERVER_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "port": "5432",
    "max_connections": "200",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    # How much an archive of the log may be behind (backup/point_in_time.py) before it has a gap.
    "max_slot_wal_keep_size": "4GB",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_parameter_max_length_on_error": "0",
}


class Watcher:
    """One embedded server: its folders, its account, and the signals received so far."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.data = Path(order["data"])
        self.cluster = Path(order["cluster"])
        self.program = order["program"]
        self.sockets = order["sockets"]
        self.rules = order["rules"]
        self.linger_seconds = float(order["linger_seconds"])
        self.uid, self.gid = order["uid"], order["gid"]
        self.by_descriptor = bool(order["by_descriptor"])
        self.server: subprocess.Popen[bytes] | None = None
        self.ending = self.hurrying = False
        self.users = open_plain(self.data / ".users.lock")  # held for the life of the watcher

    def watch(self) -> None:
        """Run the server until nobody uses it, its folder is gone, or this process is told to end."""
        signal.signal(signal.SIGTERM, self._end)
        signal.signal(signal.SIGINT, self._end)
        signal.signal(signal.SIGUSR1, self._hurry)
        failed_starts, has_run = 0, False
        free_since: float | None = None
        ended_at: float | None = None
        self._clear_previous()
        started_at = self._start()
        while not self.ending:
            time.sleep(TICK_SECONDS)
            if not self._folder_is_ours():
                break
            if self._is_free():
                free_since = free_since or time.monotonic()
                waited = time.monotonic() - free_since >= (0 if self.hurrying else self.linger_seconds)
                if waited and self._is_free(keep=True):
                    break
            else:
                free_since, self.hurrying = None, False
            if self.server is not None and self.server.poll() is not None:
                if ended_at is None:
                    ended_at = time.monotonic()
                    # Backends of a killed server need a moment to notice, so the first tries may fail.
                    failed_starts = 0 if ended_at - started_at > RAN_SECONDS else failed_starts + 1
                    has_run = has_run or not failed_starts
                    if failed_starts > FAILED_STARTS_MAX and not has_run:
                        sys.exit(1)
                if time.monotonic() - ended_at >= pause_of(failed_starts):
                    ended_at = None
                    self._clear_previous()
                    started_at = self._start()
        self._stop()

    def _end(self, _signal: int, _frame: FrameType | None) -> None:
        self.ending = True

    def _hurry(self, _signal: int, _frame: FrameType | None) -> None:
        self.hurrying = True

    def _is_free(self, *, keep: bool = False) -> bool:
        """Whether no process uses the server. With `keep` newcomers wait until this process has ended."""
        try:
            fcntl.flock(self.users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        if not keep:
            fcntl.flock(self.users, fcntl.LOCK_UN)
        return True

    def _folder_is_ours(self) -> bool:
        """False when the data folder was removed or replaced; its server has no reason to keep running."""
        try:
            now = os.stat(self.data / ".users.lock")
        except OSError:
            return False
        then = os.fstat(self.users)
        return (now.st_dev, now.st_ino) == (then.st_dev, then.st_ino)

    def _start(self) -> float:
        """Start the server as a child, dropping to its account, and return the time."""
        log_path = self.data / "server.log"
        if log_path.exists() and log_path.stat().st_size > LOG_BYTES_MAX:
            log_path.replace(self.data / "server.log.1")
        cluster, sockets, rules, descriptors = str(self.cluster), self.sockets, self.rules, []
        if self.by_descriptor:
            # The account cannot traverse the path to them, so it inherits open descriptors.
            descriptors = [os.open(path, os.O_RDONLY) for path in (cluster, sockets, rules)]
            cluster, sockets, rules = (f"/proc/self/fd/{descriptor}" for descriptor in descriptors)
        quoted = '"' + sockets.replace('"', '""') + '"'
        settings = {**SERVER_SETTINGS, "unix_socket_directories": quoted, "hba_file": rules}
        flags = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        account = {} if self.uid is None else {"user": self.uid, "group": self.gid, "extra_groups": []}
        log = open_plain(log_path)
        self.server = subprocess.Popen(
            [self.program, "-D", cluster, *flags],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            pass_fds=descriptors,
            preexec_fn=_die_with_parent,  # noqa: PLW1509, this process has one thread
            **account,
        )
        for descriptor in (log, *descriptors):
            os.close(descriptor)
        return time.monotonic()

    def _stop(self) -> None:
        """Stop the server: its clients are disconnected at once, and everything committed is on disk."""
        if self.server is None or self.server.poll() is not None:
            return
        self.server.send_signal(signal.SIGINT)
        try:
            self.server.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.server.send_signal(signal.SIGQUIT)
            self.server.wait()

    def _clear_previous(self) -> None:
        """Stop a server that lost its watcher, and remove what a crash or a reboot left behind.

        A pid file is believed only if that process has this cluster as its working folder: after a reboot the
        number may belong to another process.
        """
        deadline = time.monotonic() + STOP_SECONDS_MAX
        for path in (self.cluster / "postmaster.pid", Path(self.sockets) / ".s.PGSQL.5432.lock"):
            while (pid := _pid_in(path)) is not None:
                if not _works_in(pid, self.cluster):
                    path.unlink(missing_ok=True)
                    break
                if time.monotonic() > deadline:
                    sys.exit(1)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGINT)
                time.sleep(TICK_SECONDS)


def pause_of(failed_starts: int) -> float:
    """How many seconds to wait before a server is started again."""
    if failed_starts <= 5:
        return TICK_SECONDS * failed_starts
    return min(TICK_SECONDS * 5 * 2 ** (failed_starts - 5), PAUSE_SECONDS_MAX)


def open_plain(path: Path) -> int:
    """Open a file of the data folder for appending, made private; never through a symbolic link.

    The server's account owns the folder, and must not redirect a root process elsewhere.
    """
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)


def _pid_in(path: Path) -> int | None:
    """The process id on a pid file's first line; None without a file, 0 when that is no number."""
    try:
        first = path.read_text(errors="replace").split("\n", 1)[0].strip()
    except FileNotFoundError:
        return None
    return int(first) if first.isascii() and first.isdigit() else 0


def _works_in(pid: int, cluster: Path) -> bool:
    """Whether that process is a server of this cluster, according to /proc, or ps where there is none."""
    if pid <= 0:
        return False
    with contextlib.suppress(OSError):
        os.kill(pid, 0)
        if Path("/proc/self/cwd").exists():
            return os.path.samefile(f"/proc/{pid}/cwd", cluster)
        shown = subprocess.run(
            ["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
        ).stdout
        return "postgres" in shown and str(cluster) in shown
    return False


def _die_with_parent() -> None:
    """Ask Linux to stop this process cleanly when the watcher dies, kill -9 included."""
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)


_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def main() -> NoReturn:
    """Take the watcher's lock, leave the foreground, and watch."""
    watcher = Watcher(json.loads(sys.argv[1]))
    lock = open_plain(watcher.data / ".watcher.lock")
    for _ in range(50):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            # Somebody is checking for a watcher, which takes the lock for a moment.
            time.sleep(TICK_SECONDS)
    else:
        sys.exit(1)
    if os.fork():
        os._exit(0)
    os.setsid()
    os.truncate(lock, 0)
    os.write(lock, f"{os.getpid()}\n".encode())
    watcher.watch()
    sys.exit(0)


if __name__ == "__main__":
    main()
