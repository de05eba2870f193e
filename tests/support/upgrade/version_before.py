"""The last release, from the history of this checkout: its servers go on with the tables of this version.

COMMIT              the release; a new one moves it together with apperate/database/schema/released.py
need_history()      skips a test where the checkout holds no history, as a shallow clone does
unpacked(folder)    the files of that commit, in the folder
Before              an installation that it runs, on tables as they were then
Beside              this version as another host on the database of such an installation
"""

import subprocess
import sys
from pathlib import Path

import pytest

from apperate.database.embedded import access, launcher
from tests.support.installation import ROOT, Demo, Installation, started_before

COMMIT = "e313d4afd9db89c754f1bcc59d6973bb9e683076"

TAKE_BACK = """
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from apperate.database.schema.released import LAST
MigrationExecutor(connection).migrate(list(LAST.items()))
"""


def need_history() -> None:
    try:
        found = subprocess.run(
            ["git", "cat-file", "-e", f"{COMMIT}^{{commit}}"], cwd=ROOT, capture_output=True, check=False
        )
    except FileNotFoundError:
        pytest.skip("there is no git to take the version before from")
    if found.returncode:
        pytest.skip(f"this checkout holds no history: commit {COMMIT[:8]}, the version before, is not in it")


def unpacked(folder: Path) -> Path:
    """The folder, with every file of the release in it."""
    need_history()
    folder.mkdir(parents=True)
    packed = subprocess.run(["git", "archive", COMMIT], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", folder], input=packed, check=True)
    return folder


def database_url(home: Path, role: str) -> str:
    """Of the embedded database of an installation."""
    data = home / "db"
    place = f"/{launcher.DATABASE}?host={launcher.socket_dir(data)}&port={launcher.PORT}"
    return f"postgresql://{role}@{place}&passfile={access.key_file(data)}"


class Before(Demo):
    """The version before, with a demo whose tables this version has taken back."""

    def start(self) -> None:
        subprocess.run(["cp", "-a", started_before("1"), self.home], check=True)
        subprocess.run(
            [sys.executable, "manage.py", "shell", "-c", TAKE_BACK],
            cwd=ROOT, env=self.environment(APPERATE_DATABASE_ROLE="owner"), check=True, capture_output=True,
        )  # fmt: skip
        self.root = unpacked(self.home.with_name("before"))
        super().start()


class Beside(Installation):
    """This version as a host of its own, on the database of another installation."""

    def __init__(self, home: Path, first: Demo) -> None:
        super().__init__(home)
        self.first = first

    def environment(self, **changes: str) -> dict[str, str]:
        url = database_url(self.first.home, "{}")
        return super().environment(
            DATABASE_URL=url.format(access.APP),
            DATABASE_OWNER_URL=url.format(access.OWNER),
            APPERATE_SECRET_KEYS=(self.first.home / "secret.keys").read_text().strip(),
            **changes,
        )
