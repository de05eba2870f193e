"""Can servers of the version before go on beside a migration, and after it? `python .ci/lint/migrations.py`.

squawk reads the SQL of every migration since the last release, of packages too, and says what locks others
out, breaks older servers, or scans a table under a lock. Rules of ours are added, on what SQL does not show.
A migration may say why a rule does not concern it: `allowed = {"ban-drop-column": "nothing names it"}`.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import django
import sqlparse

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "apperate.settings")
# As the role of migrate, which may read what constraints are called.
os.environ.setdefault("APPERATE_DATABASE_ROLE", "owner")

# `manage.py migrate` sets the time limits; Django writes varchar and leaves out IF NOT EXISTS.
LEFT_OUT = ("require-lock-timeout", "require-statement-timeout", "prefer-text-field", "prefer-robust-stmts")
# The oldest server that is supported.
POSTGRESQL = "15"
# May be done twice.
REPEATABLE = re.compile(r'ALTER TABLE "\w+" ALTER COLUMN "\w+" SET DEFAULT ')
MOVES_DATA = {"UPDATE", "DELETE", "INSERT", "MERGE", "DO"}


def main() -> int:
    django.setup()
    from django.db import connection
    from django.db.migrations.loader import MigrationLoader

    from apperate.database.schema.released import is_released

    loader = MigrationLoader(connection, replace_migrations=False)
    keys = [key for root in loader.graph.leaf_nodes() for key in loader.graph.forwards_plan(root)]
    new = [key for key in dict.fromkeys(keys) if not is_released(*key)]
    found = [
        f"{'.'.join(key)}: {fault}"
        for key in new
        for fault in faults(loader.graph.nodes[key], loader.project_state(key, at_end=False), connection)
    ]
    print("\n".join(found) or f"{len(new)} migrations since the last release pass.")
    return 1 if found else 0


def faults(migration, state, connection) -> Iterator[str]:
    """What is wrong with a migration that is to be applied to this state of the models, a sentence each."""
    allowed = getattr(migration, "allowed", {})
    sql = sql_of(migration, state, connection)
    for rule, sentence in (*own_rules(migration, sql), *by_squawk(sql, migration)):
        if rule not in allowed:
            yield f"{sentence} ({rule})"
    for rule, reason in allowed.items():
        if not reason.strip():
            yield f"`allowed` gives no reason for {rule}."


def own_rules(migration, sql) -> Iterator[tuple[str, str]]:
    operations = migration.operations
    statements = [line for line in sql.splitlines() if line and not line.startswith("--")]
    made = set(re.findall(r'CREATE TABLE "(\w+)"', sql))
    changed = set(re.findall(r'(?m)^(?:ALTER|DROP) TABLE "?(\w+)', sql)) - made
    if migration.atomic and len(changed) > 1:
        yield (
            "several-tables",
            f"It keeps one of {', '.join(sorted(changed))} locked while it waits for the next, for which a "
            "request may wait the other way round. Needed: a migration for each.",
        )
    if not migration.atomic and len(operations) > 1 and not all(map(REPEATABLE.match, statements)):
        yield (
            "one-operation",
            f"It has {len(operations)} operations outside of a transaction: if it is killed after the first, "
            "the next try finds that one done. Needed: a migration for each.",
        )
    for operation in operations:
        if not operation.reversible:
            yield "irreversible", f"{operation.describe()} cannot be taken back. Needed: how, or why not."
        if migration.atomic and moves_data(operation):
            yield (
                "data-in-transaction",
                f"{operation.describe()} changes rows in one transaction, which keeps them locked. Needed: a "
                "migration of its own with atomic = False, in batches that each commit.",
            )


def moves_data(operation) -> bool:
    from django.db.migrations import RunPython, RunSQL

    if isinstance(operation, RunPython):
        return True
    if not isinstance(operation, RunSQL):
        return False
    parts = operation.sql if isinstance(operation.sql, list | tuple) else [operation.sql]
    texts = [part[0] if isinstance(part, list | tuple) else part for part in parts]
    statements = [statement for text in texts for statement in sqlparse.parse(text)]
    return any(kind_of(statement) in MOVES_DATA for statement in statements)


def kind_of(statement) -> str:
    """UPDATE, also of a statement that begins with WITH; DO for a block."""
    first = statement.token_first(skip_cm=True)
    return "DO" if first is not None and first.value.upper() == "DO" else statement.get_type()


def sql_of(migration, state, connection) -> str:
    with connection.schema_editor(collect_sql=True, atomic=migration.atomic) as editor:
        migration.apply(state, editor, collect_sql=True)
    return "\n".join(editor.collected_sql)


def by_squawk(sql: str, migration) -> Iterator[tuple[str, str]]:
    command = [
        Path(sys.executable).with_name("squawk"),
        f"--pg-version={POSTGRESQL}",
        f"--exclude={','.join(LEFT_OUT)}",
        "--reporter=json",
        f"--stdin-filepath={migration.app_label}/{migration.name}.sql",
        *(["--assume-in-transaction"] if migration.atomic else []),
    ]
    done = subprocess.run(command, input=sql, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode not in (0, 1) or (done.returncode == 1 and not done.stdout.strip()):
        raise SystemExit(f"squawk could not read {migration}: {done.stderr}")
    lines = sql.splitlines()
    for problem in json.loads(done.stdout or "[]"):
        at = lines[problem["line"]].strip() if problem["line"] < len(lines) else ""
        needed = f" Needed: {problem['help']}" if problem.get("help") else ""
        yield problem["rule_name"], f"{problem['message']}{needed} In: {at}"


if __name__ == "__main__":
    sys.exit(main())
