"""The embedded PostgreSQL: a real server below the data directory, shared by every process that needs it.

It is started by the first user and stopped after the last one (embedded_backend/watcher.py). Its Unix
socket is in a folder of mode 0700 and there is no TCP, so whoever may open that folder is trusted. Kernel
locks count the users; the truth about "running" is the socket, never a process id in a file.
"""
# ruff: noqa: S603, S607 - every command is a list made here, and no word of it comes from a request.

import contextlib
import fcntl
import hashlib
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psycopg

from apperate.embedded_backend import binaries, watcher
from apperate.embedded_backend.binaries import Account, EmbeddedPostgresError

DATABASE = "apperate"
PORT = "5432"
SUPERUSER = "postgres"
# The address of a Unix socket holds 104 bytes on macOS and 108 on Linux.
SOCKET_PATH_BYTES_MAX = 100
START_SECONDS_MAX = 60
# Fill the template first, so that the test databases get the same default rights.
ROLES_SQL = """
CREATE ROLE apperate_owner LOGIN CREATEDB;
CREATE ROLE apperate_app LOGIN;
ALTER ROLE apperate_owner SET search_path = public, pg_temp;
ALTER ROLE apperate_app SET search_path = public, pg_temp;
ALTER ROLE apperate_app SET statement_timeout = '5s';
ALTER ROLE apperate_app SET lock_timeout = '2s';
ALTER ROLE apperate_app SET idle_in_transaction_session_timeout = '10s';
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO apperate_app;
ALTER DEFAULT PRIVILEGES FOR ROLE apperate_owner
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO apperate_app;
ALTER DEFAULT PRIVILEGES FOR ROLE apperate_owner GRANT USAGE, SELECT, UPDATE ON SEQUENCES TO apperate_app;
ALTER DEFAULT PRIVILEGES FOR ROLE apperate_owner GRANT EXECUTE ON FUNCTIONS TO apperate_app;
ALTER DEFAULT PRIVILEGES FOR ROLE apperate_owner GRANT USAGE ON SCHEMAS TO apperate_app;
CREATE DATABASE apperate OWNER apperate_owner;
"""

# The shared lock of each data folder that this process uses; a forked child shares it.
_held: dict[Path, int] = {}
_mutex = threading.Lock()
os.register_at_fork(before=_mutex.acquire, after_in_parent=_mutex.release, after_in_child=_mutex.release)


def socket_dir(data: Path) -> Path:
    """The folder of the server's socket: the data folder, or a short one in /tmp if its name is too long."""
    data = data.absolute()
    # A comma separates hosts in libpq, so a folder with one cannot be named there.
    if len(os.fsencode(data)) + len("/.s.PGSQL.5432") <= SOCKET_PATH_BYTES_MAX and "," not in str(data):
        return data
    return Path("/tmp") / f"apperate-{hashlib.sha256(os.fsencode(data)).hexdigest()[:16]}"  # noqa: S108


def cluster_major(data: Path) -> int | None:
    """The major version of the cluster in the data folder, None before there is one."""
    with contextlib.suppress(OSError, ValueError):
        return int((data / "pg" / "PG_VERSION").read_text())
    return None


def ensure(data: Path) -> None:
    """Make sure that the server of this data folder runs, and goes on while this process lives.

    Makes the cluster at the first start. Cheap when this process has asked before, also after a fork.
    Raises EmbeddedPostgresError with what to do.
    """
    data = data.absolute()
    if data in _held:
        return
    with _mutex:
        if data not in _held:
            _start(data)


def keep(data: Path) -> None:
    """Start the server again if its watcher was killed; for a process that looks after the others."""
    data = data.absolute()
    if not _is_watched(data):
        release(data, wait_seconds=0)
        ensure(data)


def release(data: Path, *, wait_seconds: float = watcher.STOP_SECONDS_MAX) -> None:
    """Stop using the server, and wait until it has stopped if this process was its last user."""
    data = data.absolute()
    with _mutex:
        users = _held.pop(data, None)
        if users is None:
            return
        try:
            # A lock cannot be raised from shared to exclusive while another process holds it too.
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A forked child may go on with the same lock, which must not shut others out.
            fcntl.flock(users, fcntl.LOCK_SH)
        except BlockingIOError:
            return
        finally:
            os.close(users)
        with contextlib.suppress(OSError, ValueError):
            if _is_watched(data):
                os.kill(int((data / ".watcher.lock").read_text()), signal.SIGUSR1)
        deadline = time.monotonic() + wait_seconds
        while time.monotonic() < deadline and _is_watched(data):
            time.sleep(0.02)


def _start(data: Path) -> None:
    """Take the locks, make the cluster if there is none, and wait until the server answers."""
    try:
        account = _prepare_folders(data)
        start, users = (watcher.open_plain(data / name) for name in (".start.lock", ".users.lock"))
    except OSError as error:
        raise EmbeddedPostgresError(
            f"The embedded database cannot use {error.filename or data}: {error.strerror}. Run as the "
            "account that owns it, or set APPERATE_DATA_DIR to a folder of your own, or set DATABASE_URL."
        ) from error
    try:
        fcntl.flock(start, fcntl.LOCK_EX)
        fcntl.flock(users, fcntl.LOCK_SH)
        if not _answers(data) or not _is_watched(data):
            _start_server(data, account)
        _held[data] = users
    finally:
        os.close(start)
        if data not in _held:
            os.close(users)


def _prepare_folders(data: Path) -> Account:
    """Make the folders and locks, and return the account of the server, their owner."""
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    sockets = socket_dir(data)
    sockets.mkdir(mode=0o700, exist_ok=True)
    account = _server_account(data)
    data.chmod(0o700)
    paths = [data / name for name in (".start.lock", ".users.lock", ".watcher.lock", "server.log")]
    for path in paths:
        os.close(watcher.open_plain(path))
    if account.uid is not None and account.gid is not None:
        for path in (data, sockets, *paths):
            os.chown(path, account.uid, account.gid, follow_symlinks=False)
    found = sockets.lstat()
    # Somebody else may have made the folder in /tmp first, to answer in the server's place.
    expected = os.geteuid() if account.uid is None else account.uid
    if sockets.is_symlink() or found.st_uid != expected or found.st_mode & 0o077:
        raise PermissionError(1, "it is not a private folder of this account", str(sockets))
    return account


def _server_account(data: Path) -> Account:
    """The account to drop to: the data's owner, else PG_RUN_AS, postgres or nobody. Only root drops."""
    if os.geteuid() != 0:
        return Account()
    for owned in (data / "pg", data):
        if owned.exists() and (found := owned.stat()).st_uid != 0:
            return Account(found.st_uid, found.st_gid, f"number {found.st_uid}")
    for name in filter(None, (os.environ.get("PG_RUN_AS"), "postgres", "nobody")):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            if entry.pw_uid != 0:
                return Account(entry.pw_uid, entry.pw_gid, name)
    raise EmbeddedPostgresError(
        "PostgreSQL does not run as root, and this machine has neither an account postgres nor nobody. "
        "Set PG_RUN_AS to an account of yours, or run as an ordinary account."
    )


def _start_server(data: Path, account: Account) -> None:
    """Make the cluster if needed and start the watcher, which starts the server; called under the lock."""
    found = binaries.runnable_by(account, binaries.find(cluster_major(data)), data.parent)
    by_descriptor = not binaries.reachable_by(account, data)
    if by_descriptor and not Path("/proc/self/fd").exists():
        raise EmbeddedPostgresError(
            f"The account {account.name} cannot reach {data}, because a folder above it is closed. "
            "Set APPERATE_DATA_DIR to a folder outside of it, or set DATABASE_URL."
        )
    if not (data / "pg" / "PG_VERSION").exists():
        _make_cluster(data, account, found, by_descriptor=by_descriptor)
    order = {
        "data": str(data),
        "cluster": str(data / "pg"),
        "sockets": str(socket_dir(data)),
        "program": str(found.folder / "postgres"),
        "uid": account.uid,
        "gid": account.gid,
        "by_descriptor": by_descriptor,
        "linger_seconds": os.environ.get("APPERATE_DATABASE_LINGER_SECONDS", "2"),
    }
    command = [sys.executable, "-I", "-S", watcher.__file__, json.dumps(order)]
    deadline = time.monotonic() + START_SECONDS_MAX
    launched = False
    while not (_is_watched(data) and _answers(data)):
        if not _is_watched(data):
            if launched:
                raise EmbeddedPostgresError(f"The embedded PostgreSQL does not start: {_last_words(data)}")
            subprocess.run(
                command, check=False, cwd="/", env=_server_environment(), stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            launched = True
        if time.monotonic() > deadline:
            raise EmbeddedPostgresError(
                f"The embedded PostgreSQL did not answer within {START_SECONDS_MAX} s: {_last_words(data)}"
            )
        time.sleep(0.02)


def _make_cluster(data: Path, account: Account, found: binaries.Binaries, *, by_descriptor: bool) -> None:
    """Make the cluster with its roles beside its place and rename it, so that it is never half made."""
    beside = data / "pg.new"
    shutil.rmtree(beside, ignore_errors=True)
    folder, descriptor = str(data), None
    if by_descriptor:
        descriptor = os.open(data, os.O_RDONLY | os.O_DIRECTORY)
        folder = f"/proc/self/fd/{descriptor}"
    locale = ["--locale=C"]
    if found.major >= 17:
        locale += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    target = f"{folder}/pg.new"
    steps: list[tuple[list[str], str]] = [
        (["initdb", "-D", target, "-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "-k", *locale], ""),
        (["postgres", "--single", "-j", "-c", "exit_on_error=true", "-D", target, "template1"],
         ROLES_SQL.replace(";\n", ";\n\n")),
    ]  # fmt: skip
    try:
        for (program, *arguments), script in steps:
            done = subprocess.run(
                [found.folder / program, *arguments], input=script, text=True, capture_output=True,
                cwd="/", env=_server_environment(), check=False,
                pass_fds=() if descriptor is None else (descriptor,), **account.drop(),
            )  # fmt: skip
            if done.returncode != 0:
                raise EmbeddedPostgresError(
                    f"The embedded PostgreSQL could not be made in {data}: "
                    f"{(done.stderr.strip() or done.stdout.strip())[-500:]}"
                )
        beside.rename(data / "pg")
    finally:
        if descriptor is not None:
            os.close(descriptor)
        shutil.rmtree(beside, ignore_errors=True)


def _server_environment() -> dict[str, str]:
    """The environment of the server: no secrets, and no PG variables that would lead it elsewhere."""
    kept = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
    return {name: os.environ[name] for name in kept if name in os.environ} | {"LC_ALL": "C", "TZ": "UTC"}


def _answers(data: Path) -> bool:
    """Whether a server answers on the socket."""
    with contextlib.suppress(psycopg.Error):
        psycopg.connect(
            host=str(socket_dir(data)), port=PORT, user="apperate_app", dbname=DATABASE, connect_timeout=2
        ).close()
        return True
    return False


def _is_watched(data: Path) -> bool:
    """Whether a watcher lives, which holds its lock exclusively."""
    with contextlib.suppress(FileNotFoundError), open(data / ".watcher.lock") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _last_words(data: Path) -> str:
    """The end of the server's log, on one line."""
    with contextlib.suppress(OSError):
        lines = (data / "server.log").read_text(errors="replace").split("\n")
        return " / ".join(line for line in lines[-6:] if line)
    return "it left no log."
