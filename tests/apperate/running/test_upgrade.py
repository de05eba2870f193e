"""An upgrade without stopping: the version before goes on while this one migrates, and both then serve.

E-M1, N-1: the last release is taken from git and started; clients read, write and manage all the time.
In about one run of ten on a busy machine a file is refused as a query that took too long. Until it is known
which of the two versions says so, this runs on demand: UPGRADE=1.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db.migrations.loader import MigrationLoader

from apperate.database.schema.released import is_released
from tests.support.installation import ROOT, Demo, started
from tests.support.upgrade.both_versions import DATASET, Caller, Load
from tests.support.upgrade.version_before import Before, Beside, need_history

pytestmark = [
    pytest.mark.server,
    pytest.mark.slow("starts the version before and this one on a database: 15 s"),
    pytest.mark.skipif(not os.environ.get("UPGRADE"), reason="runs on demand: UPGRADE=1"),
]
# Somebody reads tokens in a transaction that stays open until a line comes.
HOLD = """
import sys
from django.db import connection, transaction
with transaction.atomic(), connection.cursor() as cursor:
    cursor.execute("SET idle_in_transaction_session_timeout = 0")
    cursor.execute("SELECT count(*) FROM tokens_token, datasets_dataset, accounts_workspace")
    print("held", flush=True)
    sys.stdin.readline()
"""
WAITS_SEEN = 3


def migrated(before: Demo) -> str:
    """What `manage.py migrate` of this version says, while somebody holds the tables for a while."""
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "text": True, "env": before.environment()}
    hold = [sys.executable, "manage.py", "shell", "-c", HOLD]
    migrate = [sys.executable, "manage.py", "migrate"]
    said = []
    with subprocess.Popen(hold, cwd=before.root, stdin=subprocess.PIPE, **pipes) as holder:
        assert holder.stdin and holder.stdout
        assert any("held" in line for line in iter(holder.stdout.readline, ""))
        with subprocess.Popen(migrate, cwd=ROOT, stderr=subprocess.STDOUT, **pipes) as migration:
            assert migration.stdout
            for line in migration.stdout:
                said.append(line)
                if sum("waits for others" in one for one in said) == WAITS_SEEN:
                    holder.stdin.close()
        assert migration.returncode == 0, "".join(said)
    return "".join(said)


@pytest.fixture(scope="module")
def before() -> Iterator[Demo]:
    need_history()
    with started(Before) as installation:
        yield installation


def keys(port: int, value: str) -> set[str]:
    """The keys of all records, as this server reads them."""
    caller = Caller(port, value)
    status, answer = caller.ask("GET", f"/v1/data/DEMO/{DATASET}?limit=5000&format=csv&filter=key")
    caller.close()
    assert status == 200, answer
    return set(answer.decode().split()[1:])


def test_no_request_fails_while_the_tables_change_and_both_versions_serve(
    before: Demo, tmp_path: Path
) -> None:
    value = before.facts["secret_token"]
    new = [key for key in MigrationLoader(None).graph.nodes if not is_released(*key)]

    with Load(before.port, value) as load:
        said = migrated(before)
        load.go_on(5)
        after = Beside(tmp_path / "after", before)
        try:
            after.start()
            load.join(after.port)
            load.go_on(10)
            stored = set(load.stored)
            seen = [keys(port, value) for port in (before.port, after.port)]
        finally:
            load.__exit__()
            after.end()

    assert load.failed == []
    assert ("waits for others" in said) == bool(new)
    assert all(stored <= found for found in seen)
    assert len(load.asked) == 5 and min(load.asked.values()) >= 10, load.asked
