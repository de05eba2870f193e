"""The embedded PostgreSQL: a real server below the data directory, shared by every process that needs it.

The first process to use it starts it, and it stops after the last one (watcher.py). Its Unix socket is in
a folder of mode 0700, there is no TCP, and the roles have passwords in a key file beside the data
(access.py). Kernel locks count the users. Whether it runs is decided by its socket, never by a process id
in a file.
"""
# ruff: noqa: S603, S607 - every command is a list built here, and no part of it comes from a request.

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
from typing import Any

import psycopg
from psycopg import pq
from psycopg.conninfo import make_conninfo

from apperate.database.embedded import access, binaries, watcher
from apperate.database.embedded.binaries import Account, EmbeddedPostgresError

DATABASE = "apperate"
PORT = "5432"
SUPERUSER = "postgres"
# The second is the path in earlier versions, whose watcher may still be running.
WATCHER_NAMES = (b"/embedded/watcher.py", b"/embedded_backend/watcher.py")
# The address of a Unix socket holds 104 bytes on macOS and 108 on Linux.
SOCKET_PATH_BYTES_MAX = 100
START_SECONDS_MAX = 60
# How long a server that rejects the key may take to stop once nobody else uses it.
HANDOVER_SECONDS_MAX = 10
# Change the template first, so that the test databases get the same default privileges.
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
REPLICATION_SQL = f"ALTER ROLE {access.OWNER} REPLICATION;\n"

# The shared lock of each data folder that this process uses; a forked child shares it.
_held: dict[Path, int] = {}
_mutex = threading.Lock()
os.register_at_fork(before=_mutex.acquire, after_in_parent=_mutex.release, after_in_child=_mutex.release)


def socket_dir(data: Path) -> Path:
    """The folder of the server's socket: the data folder, or a short one in /tmp if its path is too long."""
    data = data.absolute()
    # libpq separates hosts by commas, so it cannot use a folder with one in its name.
    if len(os.fsencode(data)) + len("/.s.PGSQL.5432") <= SOCKET_PATH_BYTES_MAX and "," not in str(data):
        return data
    return Path("/tmp") / f"apperate-{hashlib.sha256(os.fsencode(data)).hexdigest()[:16]}"  # noqa: S108


def cluster_major(data: Path) -> int | None:
    """The major version of the cluster in the data folder, None before there is one."""
    return _major_of(data / "pg")


def _major_of(cluster: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        return int((cluster / "PG_VERSION").read_text())
    return None


def ensure(data: Path) -> None:
    """Make sure that this data folder's server is running, and stays up while this process lives.

    The first start makes the cluster. Cheap when this process has already called it, also after a fork.
    Raises EmbeddedPostgresError with what to do.
    """
    data = data.absolute()
    if data in _held:
        return
    with _mutex:
        if data not in _held:
            _start(data)


def keep(data: Path) -> None:
    """Restart the server if its watcher was killed; for the process that supervises the others."""
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
            # A forked child may still hold the same lock, which must not shut others out.
            fcntl.flock(users, fcntl.LOCK_SH)
        except BlockingIOError:
            return
        finally:
            os.close(users)
        _end_watcher(data, signal.SIGUSR1, wait_seconds=wait_seconds)


def _start(data: Path) -> None:
    """Take the locks, make the cluster if there is none, and wait until the server answers."""
    try:
        account = prepare_folders(data)
        start, users = (watcher.open_plain(data / name) for name in (".start.lock", ".users.lock"))
    except OSError as error:
        raise EmbeddedPostgresError(
            f"The embedded database cannot use {error.filename or data}: {error.strerror}. Run as the "
            "account that owns it, or set APPERATE_DATA_DIR to a folder of your own, or set DATABASE_URL."
        ) from error
    try:
        fcntl.flock(start, fcntl.LOCK_EX)
        access.make_key(data)
        opens = _is_watched(data) and _opens(data)
        if not opens and _is_watched(data) and _answers(data):
            # An earlier version started it without passwords, or the key file was replaced.
            _end_watcher(data, signal.SIGUSR1, wait_seconds=HANDOVER_SECONDS_MAX)
        fcntl.flock(users, fcntl.LOCK_SH)
        if not opens or not _is_watched(data):
            _start_server(data, account)
        _held[data] = users
    finally:
        os.close(start)
        if data not in _held:
            os.close(users)


def prepare_folders(data: Path) -> Account:
    """Make the folders and locks, and return the server's account, which owns them."""
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
    # Another account may have made the folder in /tmp first, to impersonate the server.
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
    """Make the cluster if needed and start the watcher, which starts the server. Needs the start lock."""
    found = binaries.runnable_by(account, binaries.find(cluster_major(data)), data.parent)
    by_descriptor = not binaries.reachable_by(account, data)
    if by_descriptor and not Path("/proc/self/fd").exists():
        raise EmbeddedPostgresError(
            f"The account {account.name} cannot reach {data}, because a folder above it is closed. "
            "Set APPERATE_DATA_DIR to a folder outside of it, or set DATABASE_URL."
        )
    if not (data / "pg" / "PG_VERSION").exists():
        _make_cluster(data, account, found, by_descriptor=by_descriptor)
    access.write_rules(data)
    order = _order(data, data / "pg", account, found, by_descriptor=by_descriptor)
    launched = _launch(data, order)
    opens = _opens(data, *access.ROLES)
    archives = not os.environ.get("APPERATE_WAL_ARCHIVE") or (opens and _may_replicate(data))
    if launched and not (opens and archives):
        # An earlier version's cluster, a restored one, or a new key file; or the log is kept from now on.
        _end_watcher(data, signal.SIGTERM, wait_seconds=watcher.STOP_SECONDS_MAX)
        statements = access.password_statements(data) + ("" if archives else REPLICATION_SQL)
        _run_programs(data, account, found, [(_single_user("pg"), statements)], by_descriptor=by_descriptor)
        _launch(data, order)
    if not _opens(data, *access.ROLES):
        raise EmbeddedPostgresError(
            f"The embedded database in {data} runs, and {access.key_file(data)} does not open it: the file "
            "is new, or an earlier version of Apperate started the server. Stop every process of Apperate "
            "that uses this data directory, and start again."
        )


def run_on(data: Path, account: Account, cluster: Path, *, seconds_max: float) -> None:
    """Start the server on another cluster until it answers, and stop it. The caller holds the users' lock."""
    found = binaries.runnable_by(account, binaries.find(_major_of(cluster)), data.parent)
    by_descriptor = not binaries.reachable_by(account, data)
    access.write_rules(data)
    order = _order(data, cluster, account, found, by_descriptor=by_descriptor)
    try:
        _launch(data, order, seconds_max=seconds_max)
    finally:
        _end_watcher(data, signal.SIGTERM, wait_seconds=watcher.STOP_SECONDS_MAX)


def _order(
    data: Path, cluster: Path, account: Account, found: binaries.Binaries, *, by_descriptor: bool
) -> dict[str, Any]:
    """What the watcher is told."""
    return {
        "data": str(data), "cluster": str(cluster), "sockets": str(socket_dir(data)),
        "rules": str(access.rules_file(data)), "program": str(found.folder / "postgres"),
        "uid": account.uid, "gid": account.gid, "by_descriptor": by_descriptor,
        "linger_seconds": os.environ.get("APPERATE_DATABASE_LINGER_SECONDS", "2"),
    }  # fmt: skip


def _launch(data: Path, order: dict[str, Any], *, seconds_max: float = START_SECONDS_MAX) -> bool:
    """Start the watcher unless one runs, wait until its server answers, and return whether we started it."""
    command = [sys.executable, "-I", "-S", watcher.__file__, json.dumps(order)]
    deadline = time.monotonic() + seconds_max
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
                f"The embedded PostgreSQL did not answer within {seconds_max:.0f} s: {_last_words(data)}"
            )
        time.sleep(0.02)
    return launched


def _make_cluster(data: Path, account: Account, found: binaries.Binaries, *, by_descriptor: bool) -> None:
    """Make the cluster and its roles in a temporary place and rename it, so that it is never half made."""
    beside = data / "pg.new"
    shutil.rmtree(beside, ignore_errors=True)
    locale = ["--locale=C"]
    if found.major >= 17:
        locale += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    steps = [
        (["initdb", "-D", "pg.new", "-U", SUPERUSER, "-A", "reject", "-E", "UTF8", "-k", *locale], ""),
        (_single_user("pg.new"), ROLES_SQL + access.password_statements(data)),
    ]
    try:
        _run_programs(data, account, found, steps, by_descriptor=by_descriptor)
        beside.rename(data / "pg")
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _single_user(cluster: str) -> list[str]:
    """The command that runs SQL on a cluster without a server, as its superuser and without a password."""
    return ["postgres", "--single", "-j", "-c", "exit_on_error=true", "-D", cluster, "template1"]


def _run_programs(
    data: Path,
    account: Account,
    found: binaries.Binaries,
    steps: list[tuple[list[str], str]],
    *,
    by_descriptor: bool,
) -> None:
    """Run PostgreSQL's programs one after the other as its account; what follows -D is in the data folder.

    Each gets its SQL script on stdin. Raises EmbeddedPostgresError with the end of the program's output.
    """
    folder, descriptor = str(data), None
    if by_descriptor:
        descriptor = os.open(data, os.O_RDONLY | os.O_DIRECTORY)
        folder = f"/proc/self/fd/{descriptor}"
    try:
        for (program, *arguments), script in steps:
            place = arguments.index("-D") + 1
            arguments[place] = f"{folder}/{arguments[place]}"
            done = subprocess.run(
                # In single-user mode with -j an empty line ends a statement.
                [found.folder / program, *arguments], input=script.replace(";\n", ";\n\n"), text=True,
                capture_output=True, cwd="/", env=_server_environment(), check=False,
                pass_fds=() if descriptor is None else (descriptor,), **account.drop(),
            )  # fmt: skip
            if done.returncode != 0:
                raise EmbeddedPostgresError(
                    f"The embedded PostgreSQL could not be made or changed in {data}: "
                    f"{(done.stderr.strip() or done.stdout.strip())[-500:]}"
                )
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _server_environment() -> dict[str, str]:
    """The server's environment: no secrets, and no PG variables that would redirect it."""
    kept = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
    return {name: os.environ[name] for name in kept if name in os.environ} | {"LC_ALL": "C", "TZ": "UTC"}


def _answers(data: Path) -> bool:
    """Whether a server answers on the socket, even if it refuses the connection."""
    address = make_conninfo(
        host=str(socket_dir(data)), port=PORT, user=access.APP, dbname=DATABASE, connect_timeout=2
    )
    return pq.PGconn.ping(address.encode()) == pq.Ping.OK


def _connect(data: Path, role: str) -> psycopg.Connection[Any]:
    return psycopg.connect(
        host=str(socket_dir(data)), port=PORT, user=role, password="", dbname=DATABASE, connect_timeout=2,
        **access.connection_options(data),
    )  # fmt: skip


def _opens(data: Path, *roles: str) -> bool:
    """Whether the key file lets these roles in; by default the role that serves requests."""
    try:
        for role in roles or (access.APP,):
            _connect(data, role).close()
    except psycopg.Error:
        return False
    return True


def _may_replicate(data: Path) -> bool:
    """Whether the owner may read the write-ahead log as it is written."""
    with _connect(data, access.OWNER) as connection:
        asked = connection.execute("SELECT rolreplication FROM pg_roles WHERE rolname = current_user")
        return asked.fetchone() == (True,)


def _is_watched(data: Path) -> bool:
    """Whether a watcher is alive; it holds its lock exclusively."""
    with contextlib.suppress(FileNotFoundError), open(data / ".watcher.lock") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _end_watcher(data: Path, number: signal.Signals, *, wait_seconds: float) -> None:
    """Signal the watcher to stop, and wait until it has: SIGUSR1 if the server is unused, SIGTERM regardless.

    The server's account can write the pid file, so the process must be a watcher to get the signal.
    """
    with contextlib.suppress(OSError, ValueError):
        pid = int((data / ".watcher.lock").read_text())
        command = Path(f"/proc/{pid}/cmdline")
        is_checked = os.geteuid() == 0 and Path("/proc/self").exists()
        said = command.read_bytes() if is_checked else b""
        if _is_watched(data) and (not is_checked or any(name in said for name in WATCHER_NAMES)):
            os.kill(pid, number)
    deadline = time.monotonic() + wait_seconds
    while time.monotonic() < deadline and _is_watched(data):
        time.sleep(0.02)


def _last_words(data: Path) -> str:
    """The end of the server's log, as one line."""
    with contextlib.suppress(OSError):
        lines = (data / "server.log").read_text(errors="replace").split("\n")
        return " / ".join(line for line in lines[-6:] if line)
    return "it left no log."
