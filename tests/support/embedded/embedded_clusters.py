"""Clusters of this version and of earlier ones, and attempts to open them, for the tests of who may."""

import json
import os
import subprocess
import sys
from pathlib import Path

from apperate.database.embedded import access, binaries, launcher, watcher
from tests.support.embedded.embedded_users import IS_ROOT, connect, until

ROLES = ["postgres", "apperate_owner", "apperate_app"]


def account_of_the_server(data: Path) -> binaries.Account:
    """Whom to be for an attack: the account the server runs as; without root there is only this one."""
    owner = data.stat()
    return binaries.Account(owner.st_uid, owner.st_gid) if IS_ROOT else binaries.Account()


def psql(
    data: Path, role: str, *, key: Path | None = None, password: str = "", as_server: bool = True
) -> subprocess.CompletedProcess[str]:
    """Ask for the name of the role by the socket, never prompting for a password."""
    account = account_of_the_server(data)
    programs = binaries.runnable_by(account, binaries.find(), data.parent)
    command = [
        programs.folder / "psql",
        "-h",
        launcher.socket_dir(data),
        "-U",
        role,
        "-d",
        "apperate",
    ]
    return subprocess.run(
        [*command, "-w", "-A", "-t", "-c", "SELECT current_user"],
        env={"PATH": os.environ["PATH"], "PGPASSFILE": str(key or "/no/such"), "PGPASSWORD": password},
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        **(account.drop() if as_server else {}),
    )


def shell_of_the_server(data: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script as the account of the server."""
    return subprocess.run(
        ["/bin/sh", "-c", script, "sh", data, access.key_file(data), access.rules_file(data)],
        capture_output=True, text=True, check=False, cwd="/", **account_of_the_server(data).drop(),
    )  # fmt: skip


def passwords(data: Path) -> dict[str, str]:
    lines = access.key_file(data).read_text().splitlines()
    return {line.split(":")[3]: line.split(":")[4] for line in lines}


def run_programs(data: Path, *steps: tuple[list[str], str]) -> None:
    account = launcher.prepare_folders(data)
    found = binaries.runnable_by(account, binaries.find(), data.parent)
    by_descriptor = not binaries.reachable_by(account, data)
    launcher._run_programs(data, account, found, list(steps), by_descriptor=by_descriptor)


def in_database(sql: str) -> tuple[list[str], str]:
    """A step that runs SQL without a server, as the superuser."""
    return [*launcher._single_user("pg")[:-1], "apperate"], sql


def make_old_cluster(data: Path) -> None:
    """What earlier versions made: everybody who can open the socket is trusted. One row is in it."""
    run_programs(
        data,
        (["initdb", "-D", "pg", "-U", "postgres", "-A", "trust", "-E", "UTF8", "-k", "--locale=C"], ""),
        (launcher._single_user("pg"), launcher.ROLES_SQL),
        in_database(
            "CREATE TABLE kept (name text);\nINSERT INTO kept VALUES ('one');\n"
            "ALTER TABLE kept OWNER TO apperate_owner;\n"
        ),
    )


def start_old_server(data: Path) -> None:
    """Start the old cluster as earlier versions do, with its own rules."""
    account = launcher.prepare_folders(data)
    found = binaries.runnable_by(account, binaries.find(), data.parent)
    order = {
        "data": str(data), "cluster": str(data / "pg"), "sockets": str(launcher.socket_dir(data)),
        "rules": str(data / "pg" / "pg_hba.conf"), "program": str(found.folder / "postgres"),
        "uid": account.uid, "gid": account.gid, "by_descriptor": False, "linger_seconds": "0.5",
    }  # fmt: skip
    subprocess.run([sys.executable, "-I", "-S", watcher.__file__, json.dumps(order)], check=True)
    until(lambda: launcher._answers(data))


def assert_closed(data: Path) -> None:
    """Nobody gets in without the key, and both roles do with it."""
    for role in ROLES:
        assert psql(data, role).returncode == 2, role
    for role in access.ROLES:
        with connect(data, role) as connection:
            assert connection.execute("SELECT current_user").fetchone() == (role,)


def assert_row_is_kept(data: Path) -> None:
    with connect(data) as connection:
        assert connection.execute("SELECT name FROM kept").fetchall() == [("one",)]
