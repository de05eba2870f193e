"""`manage.py migrate` beside running servers: it waits briefly, tries again, and ends what takes too long."""

import importlib
import sys
import threading
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import DatabaseError, connections
from django.test import override_settings

from apperate.database.schema import patience
from apperate.management.commands import migrate
from tests.support.installation import until
from tests.support.upgrade.scratch_database import ALIAS, shape

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", ALIAS])
HEAD = """
from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models

class Migration(migrations.Migration):
"""
ROOM = """
    operations = [migrations.CreateModel("Room", [
        ("id", models.BigAutoField(primary_key=True)), ("name", models.TextField(null=True))])]
"""
COLOUR = """
    dependencies = [("planted", "0001_room")]
    operations = [migrations.AddField("room", "colour", models.TextField(db_default="", default=""))]
"""
INDEX = """
    atomic = False
    dependencies = [("planted", "0001_room")]
    operations = [AddIndexConcurrently("room", models.Index(fields=["name"], name="planted_by_name"))]
"""
SLOW = """
    dependencies = [("planted", "0001_room")]
    operations = [migrations.RunSQL("SELECT pg_sleep(60)", "")]
"""


class Planted:
    """An app of migrations alone, in a database of its own; each test begins after the first of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "planted" / "migrations"
        self.folder.mkdir(parents=True)
        for name in (self.folder.parent, self.folder):
            (name / "__init__.py").touch()
        self.add("0001_room", ROOM)

    def add(self, name: str, body: str) -> None:
        (self.folder / f"{name}.py").write_text(HEAD + body)
        importlib.invalidate_caches()

    def migrate(self, target: str = "") -> str:
        """What the command says while it waits."""
        said = StringIO()
        targets = [target] if target else []
        call_command(
            "migrate", "planted", *targets, database=ALIAS, interactive=False, verbosity=0, stderr=said
        )
        return said.getvalue()


@pytest.fixture
def planted(scratch_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Planted]:
    monkeypatch.syspath_prepend(str(tmp_path))
    app = Planted(tmp_path)
    with override_settings(INSTALLED_APPS=["apperate", "planted"]):
        app.migrate()
        yield app
        app.migrate("zero")
    for name in [name for name in sys.modules if name.partition(".")[0] == "planted"]:
        del sys.modules[name]


class Reader:
    """Another session with a transaction open, in which it has read the rooms."""

    def __init__(self) -> None:
        self.connection: Any = connections[ALIAS].copy()
        self.connection.inc_thread_sharing()
        self.connection.set_autocommit(False)
        self.run("SELECT count(*) FROM planted_room")

    def run(self, statement: str) -> None:
        with self.connection.cursor() as cursor:
            cursor.execute(statement)

    def leave(self) -> None:
        self.connection.rollback()
        self.connection.close()


@pytest.fixture
def reader(planted: Planted) -> Iterator[Reader]:
    reader = Reader()
    yield reader
    reader.leave()


def test_a_migration_comes_back_until_a_reader_has_gone(
    planted: Planted, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the pauses others read: behind a statement that waits, nobody would."""
    planted.add("0002_colour", COLOUR)
    read: list[int] = []

    def pause(seconds: float) -> None:
        other = Reader()
        other.leave()
        read.append(1)
        if len(read) == 3:
            reader.run("COMMIT")

    monkeypatch.setattr(patience.time, "sleep", pause)

    said = planted.migrate()

    assert said.count("planted.0002_colour waits for others. The oldest transaction: process ") == 3
    assert ("column", "planted_room.colour") in shape(ALIAS)


def test_a_migration_that_finds_no_moment_says_who_is_in_the_way(
    planted: Planted, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted.add("0002_colour", COLOUR)
    monkeypatch.setattr(patience, "GIVE_UP_SECONDS", 0.5)

    with pytest.raises(CommandError, match="planted.0002_colour found no moment without others") as refused:
        planted.migrate()

    assert f"process {reader.connection.connection.info.backend_pid} (apperate, role" in str(refused.value)
    assert ("column", "planted_room.colour") not in shape(ALIAS)


def test_a_statement_that_takes_too_long_ends_with_a_sentence(
    planted: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted.add("0002_slow", SLOW)
    monkeypatch.setattr(migrate, "IN_TRANSACTION_SECONDS", 1)

    with pytest.raises(CommandError, match=r"planted.0002_slow was stopped: .* longer than 1 s\."):
        planted.migrate()

    (planted.folder / "0002_slow.py").unlink()


def test_the_limits_of_the_connection_are_as_before(planted: Planted) -> None:
    with connections[ALIAS].cursor() as cursor:
        cursor.execute("SELECT current_setting('lock_timeout'), current_setting('statement_timeout')")
        assert cursor.fetchone() == ("2s", "0")
        cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()")
        assert cursor.fetchone() == (0,)


def test_two_hosts_migrate_one_after_the_other(planted: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    planted.add("0002_colour", COLOUR)
    other: Any = connections[ALIAS].copy()
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [migrate.ONE_AT_A_TIME])
    monkeypatch.setattr(patience.time, "sleep", lambda _: other.close())

    said = planted.migrate()

    assert "migrate waits for others." in said
    assert ("column", "planted_room.colour") in shape(ALIAS)


def test_an_index_is_built_beside_a_transaction_that_began_before(planted: Planted, reader: Reader) -> None:
    """It waits for that one however long it takes, and meanwhile others write."""
    planted.add("0002_index", INDEX)
    reader.run("INSERT INTO planted_room (name) VALUES ('written before')")
    waits = (
        "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'CREATE INDEX CONC%'"
    )
    watcher: Any = connections[ALIAS].copy()
    watcher.inc_thread_sharing()
    seen: list[object] = []

    def leave_later() -> None:
        def is_waiting() -> bool:
            with watcher.cursor() as cursor:
                cursor.execute(waits)
                return cursor.fetchone() is not None

        until(is_waiting)
        with watcher.cursor() as cursor:
            cursor.execute("INSERT INTO planted_room (name) VALUES ('written meanwhile')")
        seen.append(True)
        reader.run("COMMIT")
        watcher.close()

    thread = threading.Thread(target=leave_later)
    thread.start()
    said = planted.migrate()
    thread.join()

    assert seen and said == ""
    assert shape(ALIAS)["index", "planted_by_name"].endswith(" true")


def test_an_index_that_was_left_invalid_is_built_again(planted: Planted) -> None:
    planted.add("0002_index", INDEX)
    with connections[ALIAS].cursor() as cursor:
        cursor.execute("INSERT INTO planted_room (name) VALUES ('twice'), ('twice')")
        with pytest.raises(DatabaseError, match="could not create unique index"):
            cursor.execute("CREATE UNIQUE INDEX CONCURRENTLY planted_by_name ON planted_room (name)")
    assert shape(ALIAS)["index", "planted_by_name"].endswith(" false")

    planted.migrate()

    index = shape(ALIAS)["index", "planted_by_name"]
    assert "UNIQUE" not in index and index.endswith(" true")
