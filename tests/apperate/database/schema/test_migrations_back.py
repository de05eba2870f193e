"""Forwards, backwards, forwards equals forwards: each migration of ours takes back what it did, no more."""

from typing import Any

import pytest
from django.db import connections
from django.db.migrations.executor import MigrationExecutor

from tests.support.upgrade.scratch_database import ALIAS, Shape, shape

pytestmark = [
    pytest.mark.slow("migrates a database forwards, backwards and forwards: 15 s"),
    pytest.mark.django_db(transaction=True, databases=["default", ALIAS]),
]
OURS = {"accounts", "datasets", "tokens"}
Change = dict[tuple[str, str], tuple[str | None, str | None]]


class Steps:
    """Migrates, and notes what each migration changed."""

    def __init__(self, alias: str) -> None:
        self.alias = alias
        self.changes: dict[str, Change] = {}
        self.before = shape(alias)

    def forwards(self) -> Shape:
        executor = MigrationExecutor(connections[self.alias], self.note)
        executor.migrate([key for key in executor.loader.graph.leaf_nodes() if key[0] in OURS])
        return shape(self.alias)

    def backwards(self) -> None:
        MigrationExecutor(connections[self.alias], self.note).migrate([("accounts", None)])

    def note(self, action: str, migration: Any = None, fake: bool = False) -> None:
        if action in ("apply_success", "unapply_success"):
            after = shape(self.alias)
            self.changes[str(migration)] = {
                part: (self.before.get(part), after.get(part))
                for part in self.before.keys() | after.keys()
                if self.before.get(part) != after.get(part)
            }
            self.before = after


def reversed_change(change: Change) -> Change:
    return {part: (after, before) for part, (before, after) in change.items()}


def test_each_migration_takes_back_what_it_did_and_does_it_again(scratch_database: str) -> None:
    there, back = Steps(scratch_database), Steps(scratch_database)
    whole = there.forwards()
    back.before = whole
    back.backwards()

    ours = {name for name in there.changes if name.partition(".")[0] in OURS}
    assert len(ours) >= 25
    for name in ours:
        assert back.changes[name] == reversed_change(there.changes[name]), f"{name}, backwards"
    assert Steps(scratch_database).forwards() == whole
