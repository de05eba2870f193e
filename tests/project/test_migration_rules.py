"""Migrations let servers of the version before go on: the linter passes ours, and sees what is planted."""

import runpy
import subprocess
from pathlib import Path
from typing import Any

import pytest
from django.contrib.postgres.operations import (
    AddConstraintNotValid,
    AddIndexConcurrently,
    ValidateConstraint,
)
from django.db import connection, migrations, models
from django.db.migrations.loader import MigrationLoader
from django.db.models import Q

from apperate.database.schema.released import LAST, is_released
from tests.support.installation import ROOT
from tests.support.upgrade.version_before import COMMIT, need_history

lint: dict[str, Any] = runpy.run_path(str(ROOT / ".ci" / "lint" / "migrations.py"))
pytestmark = pytest.mark.django_db(transaction=True)
OURS = {"accounts": "apperate/accounts", "datasets": "datasets", "tokens": "tokens"}
INDEX = models.Index(fields=["title"], name="planted_by_title")
SHORT = models.CheckConstraint(condition=~Q(title="x"), name="planted_not_x")


def nothing(apps: Any, schema_editor: Any) -> None: ...


def planted(*operations: Any, atomic: bool = True, **attributes: Any) -> list[str]:
    """What the linter says of a migration of these operations, after all of ours."""
    loader = MigrationLoader(connection, replace_migrations=False)
    kind = type("Migration", (migrations.Migration,), {"atomic": atomic, **attributes})
    migration = kind("9999_planted", "accounts")
    migration.operations = list(operations)
    return list(lint["faults"](migration, loader.project_state(), connection))


def test_the_migrations_since_the_last_release_pass(capsys: pytest.CaptureFixture[str]) -> None:
    assert lint["main"]() == 0, capsys.readouterr().out
    assert "migrations since the last release pass" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("rule", "operation"),
    [
        ("ban-drop-default", migrations.AddField("workspace", "colour", models.TextField(default=""))),
        (
            "adding-required-field",
            migrations.RunSQL("ALTER TABLE accounts_workspace ADD COLUMN colour text NOT NULL", ""),
        ),
        ("ban-drop-column", migrations.RemoveField("workspace", "title")),
        ("ban-drop-table", migrations.DeleteModel("KeptAnswer")),
        ("renaming-column", migrations.RenameField("workspace", "title", "label")),
        ("renaming-table", migrations.AlterModelTable("workspace", "rooms")),
        ("changing-column-type", migrations.AlterField("workspace", "title", models.BigIntegerField())),
        ("require-concurrent-index-creation", migrations.AddIndex("workspace", INDEX)),
        ("constraint-missing-not-valid", migrations.AddConstraint("workspace", SHORT)),
        (
            "adding-foreign-key-constraint",
            migrations.AddField("workspace", "by", models.ForeignKey("User", models.SET_NULL, null=True)),
        ),
        (
            "disallowed-unique-constraint",
            migrations.AddConstraint("user", models.UniqueConstraint(fields=["name"], name="planted_once")),
        ),
        ("data-in-transaction", migrations.RunPython(nothing, nothing)),
        ("data-in-transaction", migrations.RunSQL("UPDATE accounts_workspace SET title = name", "")),
        ("data-in-transaction", migrations.RunSQL("DO $$ BEGIN PERFORM 1; END $$", "")),
        ("irreversible", migrations.RunSQL("SELECT 1")),
    ],
)
def test_a_planted_migration_is_seen(rule: str, operation: Any) -> None:
    found = planted(operation)

    assert any(f"({rule})" in fault for fault in found), found


def test_locks_on_several_tables_in_one_transaction_are_seen() -> None:
    """A request may hold one of them and wait for the other."""
    colour = models.TextField(default="", db_default="")
    both = [migrations.AddField(name, "colour", colour) for name in ("workspace", "user")]

    assert [fault.rpartition(" ")[2] for fault in planted(*both)] == ["(several-tables)"]
    assert planted(both[0]) == planted(both[1]) == []


def test_several_operations_outside_of_a_transaction_are_seen() -> None:
    found = planted(
        AddIndexConcurrently("workspace", INDEX), migrations.RunPython(nothing, nothing), atomic=False
    )

    assert [fault.rpartition(" ")[2] for fault in found] == ["(one-operation)"]


@pytest.mark.parametrize(
    "operation",
    [
        migrations.AddField("workspace", "colour", models.TextField(default="", db_default="")),
        migrations.AddField("workspace", "colour", models.TextField(null=True)),
        AddConstraintNotValid("workspace", SHORT),
        ValidateConstraint("workspace", "accounts_workspace_plan_known"),
        migrations.CreateModel(
            "Room",
            [
                ("id", models.BigAutoField(primary_key=True)),
                ("name", models.CharField(max_length=20, unique=True)),
                ("workspace", models.ForeignKey("Workspace", models.CASCADE)),
            ],
        ),
        migrations.RunSQL(
            "CREATE FUNCTION planted() RETURNS trigger LANGUAGE plpgsql AS $$\nBEGIN\n"
            "UPDATE accounts_user SET name = '';\nRETURN NEW;\nEND $$",
            "DROP FUNCTION planted()",
        ),
    ],
)
def test_what_older_servers_do_not_notice_passes(operation: Any) -> None:
    assert planted(operation) == []


def test_work_in_steps_outside_of_a_transaction_passes() -> None:
    assert planted(AddIndexConcurrently("workspace", INDEX), atomic=False) == []
    assert planted(migrations.RunPython(nothing, nothing), atomic=False) == []


def test_defaults_of_several_columns_may_be_set_twice() -> None:
    defaults = [
        migrations.AlterField("workspace", "title", models.CharField(max_length=100, db_default="none")),
        migrations.AlterField("user", "name", models.CharField(max_length=100, db_default="nobody")),
    ]

    assert planted(*defaults, atomic=False) == []


def test_a_rule_is_left_out_only_with_a_reason() -> None:
    drop = migrations.RemoveField("workspace", "title")

    assert planted(drop, allowed={"ban-drop-column": "nothing has named it since 0011"}) == []
    assert planted(drop, allowed={"ban-drop-column": " "}) == [
        "`allowed` gives no reason for ban-drop-column."
    ]
    assert len(planted(drop, allowed={"ban-drop-table": "another rule"})) == 1


def test_the_last_released_migrations_exist() -> None:
    graph = MigrationLoader(None).graph

    assert {(app, name) for app, name in LAST.items()} <= graph.nodes.keys()
    assert {app for app, _ in graph.nodes} == LAST.keys()
    assert is_released("tokens", "0001_initial") and is_released("tokens", LAST["tokens"])
    assert not is_released("tokens", "0099_later") and not is_released("new_app", "0001_initial")


def test_the_last_released_migrations_of_ours_are_those_of_the_version_before() -> None:
    """Both say what the last release was, and are moved together."""
    need_history()
    listed = subprocess.run(
        ["git", "ls-tree", "-r", "--name-only", COMMIT], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    there = {app: sorted(map(_name, filter(_is_in(folder), listed))) for app, folder in OURS.items()}

    assert {app: names[-1] for app, names in there.items()} == {app: LAST[app] for app in OURS}


def _is_in(folder: str) -> Any:
    return lambda path: path.startswith(f"{folder}/migrations/0")


def _name(path: str) -> str:
    return Path(path).stem
