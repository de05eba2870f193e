"""The embedded database is opened by its key file alone, whoever asks."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from apperate.database.embedded import access, binaries, launcher
from tests.support.embedded.embedded_clusters import (
    ROLES,
    assert_closed,
    passwords,
    psql,
    shell_of_the_server,
)
from tests.support.embedded.embedded_users import (
    ROOT,
    Users,
    connect,
    needs_proc,
    needs_root,
    server_pid,
    until,
    watcher_pid,
)

pytestmark = pytest.mark.slow("each starts a database server of its own: 3 to 13 s")

# --- who gets in --------------------------------------------------------------------------------


@pytest.mark.check("S57")
def test_the_account_of_the_server_gets_in_as_no_role_without_the_key(users: Users, data: Path) -> None:
    """S57: whoever may open the socket needs a password, and the superuser cannot log in at all."""
    users.start_ready()

    for role in ROLES:
        for refused in (psql(data, role), psql(data, role, password="a wrong one")):
            assert (refused.returncode, refused.stdout) == (2, ""), role
            assert any(word in refused.stderr for word in ("no password", "authentication", "rejects")), role
    assert "rejects connection" in psql(data, "postgres", password=passwords(data)["apperate_app"]).stderr
    by_password = psql(data, "apperate_app", password=passwords(data)["apperate_app"])
    assert by_password.stdout == "apperate_app\n", by_password.stderr
    by_file = psql(data, "apperate_owner", key=access.key_file(data), as_server=False)
    assert by_file.stdout == "apperate_owner\n", by_file.stderr
    assert psql(data, "apperate_owner", password=passwords(data)["apperate_app"]).returncode == 2


@needs_root
def test_the_account_of_the_server_neither_reads_nor_replaces_the_key_and_the_rules(
    users: Users, data: Path
) -> None:
    users.start_ready()
    before = [(path.read_bytes(), path.stat()) for path in (access.key_file(data), access.rules_file(data))]

    for attempt in (
        'cat "$2"', 'echo >>"$2"', 'rm -f "$2"', 'mv "$1/server.log" "$2"', 'chmod 644 "$2"',
        'echo "local all all trust" >>"$3"', 'rm -f "$3"', 'mv "$1/server.log" "$3"',
    ):  # fmt: skip
        refused = shell_of_the_server(data, attempt)
        assert (refused.returncode != 0, refused.stdout) == (True, ""), attempt

    after = [(path.read_bytes(), path.stat()) for path in (access.key_file(data), access.rules_file(data))]
    assert after == before
    assert [found.st_mode & 0o777 for _, found in after] == [0o600, 0o644]


@pytest.mark.check("S57")
@needs_root
@pytest.mark.parametrize("mode", [0o755, 0o700], ids=["a folder it can walk to", "by descriptor"])
def test_rules_of_its_own_open_nothing_to_the_account_of_the_server(
    users: Users, data: Path, home: Path, mode: int
) -> None:
    """The rules that count are not in the cluster, whose files that account owns, and a reload keeps them."""
    home.chmod(mode)
    users.start_ready()
    home.chmod(0o755)  # For psql, which has only the path of the socket.

    done = shell_of_the_server(
        data, 'echo "local all all trust" >"$1/pg/pg_hba.conf" && kill -HUP $(head -1 "$1/pg/postmaster.pid")'
    )

    assert done.returncode == 0, done.stderr
    until(lambda: "received SIGHUP, reloading" in (data / "server.log").read_text())
    assert_closed(data)


@needs_proc
def test_the_passwords_are_in_the_key_file_alone(users: Users, data: Path) -> None:
    """No environment, command line, log, setting or file of the server has one; libpq reads the key file."""
    users.start_ready()
    kept = [word.encode() for word in passwords(data).values()]
    shown = shell_django(data, SHOWING).stdout
    connect(data, "apperate_app").close()

    places = [shown.encode(), *(path.read_bytes() for path in data.rglob("*") if path.is_file())]
    for pid in (server_pid(data), watcher_pid(data), users.started[0].pid):
        places += [Path(f"/proc/{pid}/{name}").read_bytes() for name in ("environ", "cmdline")]
    assert "'passfile'" in shown and "apperate_app" in shown
    assert not [word for word in kept for place in places if word in place]


SHOWING = """
from django.db import connection
connection.ensure_connection()
print(settings.DATABASES, connection.get_connection_params(), repr(connection.connection))
print(connection.connection.info.dsn, connection.connection.info.get_parameters())
"""
DJANGO = """
import os, sys
from pathlib import Path
import django
from django.conf import settings
from apperate.database.settings import databases
settings.configure(DATABASES=databases(Path(sys.argv[1]), os.environ, pooled=False))
django.setup()
"""


def shell_django(data: Path, program: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a program of Django on this data folder."""
    ours = ("DATABASE_", "APPERATE_DATABASE_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return subprocess.run(
        [sys.executable, "-c", DJANGO + program, str(data.parent)],
        cwd=ROOT,
        env={
            **environment,
            "APPERATE_DATABASE_LINGER_SECONDS": "0.1",
            "APPERATE_DATABASE_ROLE": "",
            **variables,
        },
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "program",
    [
        "from django.db import connection\nconnection.ensure_connection()\nprint('apperate_app')",
        "from django.core.management import call_command\n"
        "call_command('dbshell', '--', '-A', '-t', '-c', 'SELECT current_user')",
    ],
    ids=["a connection", "dbshell"],
)
def test_a_password_of_another_database_in_the_environment_does_not_count(
    users: Users, data: Path, program: str
) -> None:
    done = shell_django(data, program, PGPASSWORD="of another", PGPASSFILE="/no/such")

    assert (done.returncode, done.stdout) == (0, "apperate_app\n"), done.stderr


def test_a_dump_by_the_key_file_is_whole(users: Users, data: Path, home: Path) -> None:
    (home / "var").symlink_to(home)
    users.start_ready()
    with connect(data) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 'one' AS name")
    command = 'PGPASSFILE="$PWD/var/db.key" pg_dump -h "$PWD/var/db" -U apperate_owner apperate'
    programs = binaries.find(launcher.cluster_major(data)).folder

    done = subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=home,
        env={"PATH": f"{programs}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert "COPY public.kept (name) FROM stdin;\none\n" in done.stdout, done.stderr


@needs_root
def test_a_forged_number_of_the_watcher_leads_no_signal_of_root_elsewhere(users: Users, data: Path) -> None:
    """The server's account owns the file, and root must not end processes for it."""
    users.start_ready()
    bystander = subprocess.Popen(["sleep", "60"])
    (data / ".watcher.lock").write_text(f"{bystander.pid}\n")

    launcher._end_watcher(data, signal.SIGTERM, wait_seconds=0)

    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()
