"""An installation to be tortured, who plays on it, and what is left in its database at the end.

`Stage` runs on the embedded server, or on `database_url`. It has a workspace TORTURE with two datasets, a
priced dataset in CORE, and tokens: `cast` has their values by name, `limits` what the limited ones may spend.
"""

import http.client
import json
import os
import secrets
import subprocess
import time
from pathlib import Path
from typing import Any

import psycopg

from apperate.database.embedded import launcher
from apperate.kernel import keyring
from tests.support.installation import Demo, Installation, until
from tests.torture.checker import Account, StoredBatch, Tables

WORKSPACE = "TORTURE"
BATCHES, CLOSED, PRICED = "TORTURE/BATCHES", "TORTURE/CLOSED", "CORE/TORTURED"
SETTLE_SECONDS_MAX = 120
WELL_SECONDS_MAX = 90  # a fault that lasts longer is a finding
LEASE_SECONDS = 2  # after which a live worker has returned what it did not spend
# Run by `manage.py shell`; the last line it prints is JSON.
MAKE = """
import json
from apperate.accounts.models import Workspace
from tests.support.factories import DatasetFactory, TokenFactory
text, whole = {"type": "string"}, {"type": "integer"}
ours, _ = Workspace.objects.get_or_create(name="TORTURE", defaults={"title": "Torture", "plan": "business"})
other, _ = Workspace.objects.get_or_create(name="OTHERS", defaults={"title": "Others", "plan": "business"})
core, _ = Workspace.objects.get_or_create(name="CORE", defaults={"title": "Core", "plan": "business"})
batches = DatasetFactory(
    workspace=ours, name="BATCHES", column_mapping={"key": "batch", "subkey": "number"},
    schema_json={"type": "object", "properties": {"batch": text, "number": text, "filler": text}},
)
closed = DatasetFactory(
    workspace=ours, name="CLOSED", column_mapping={"key": "name"},
    schema_json={"type": "object", "properties": {"name": text}},
)
DatasetFactory(
    workspace=core, name="TORTURED", column_mapping={"key": "name"}, credits_per_record=1,
    schema_json={"type": "object", "properties": {"name": text}},
)
def token(workspace=ours, **facts):
    return TokenFactory(workspace=workspace, **facts)
made = {
    "secret": token(kind="secret"),
    "writer": token(settings={"all_datasets_read": True, "all_datasets_write": True}),
    "core_writer": token(core, settings={"all_datasets_write": True}),
    "reader": token(settings__grants={batches: "read"}),
    "switched": token(settings__grants={batches: "read"}),
    "elsewhere": token(settings={"all_datasets_read": True, "allowed_domains": ["https://www.example.com"]}),
    "others": token(other, kind="secret"),
    "stranger": token(other, settings={"all_datasets_read": True, "all_datasets_write": True}),
    **{f"edited{n}": token() for n in range(4)},
    **{f"limited{n}": token(other, settings={"core_credit_limit": LIMIT}) for n in range(LIMITED)},
}
print(json.dumps({name: [one.test_value, one.public_id, one.pk] for name, one in made.items()}))
"""
LIMITED_TOKEN = """
from apperate.accounts.models import Workspace
from tests.support.factories import TokenFactory
other = Workspace.objects.get(name="OTHERS")
one = TokenFactory(workspace=other, settings={"core_credit_limit": LIMIT})
print(one.test_value, one.public_id, one.pk)
"""
# One row for each batch; a table scan of one dataset, on a database that nobody uses any more.
STORED = """
SELECT key, count(*), count(DISTINCT data->>'number'), count(DISTINCT updated),
       extract(epoch FROM max(updated))::float8
  FROM records WHERE dataset_id = (
       SELECT d.id FROM datasets_dataset d JOIN accounts_workspace w ON w.id = d.workspace_id
        WHERE w.name = 'TORTURE' AND d.name = 'BATCHES') GROUP BY key"""
# One row for each job that stored something, with the Idempotency-Key that leads to it.
JOBS = """
SELECT coalesce(k.key, 'job ' || j.public_id), count(*)
  FROM datasets_ingestjob j JOIN datasets_dataset d ON d.id = j.dataset_id
  LEFT JOIN accounts_keptanswer k ON k.answer LIKE '%%' || j.public_id || '%%'
 WHERE d.name = 'BATCHES' AND j.status = 'INGESTED' GROUP BY 1"""
OPEN_JOBS = "SELECT count(*) FROM datasets_ingestjob WHERE status IN ('CREATED', 'VALIDATING', 'PROCESSING')"
CHARGED = "SELECT coalesce(sum(used), 0)::bigint FROM tokens_creditwindow WHERE token_id = %s"
RENAMED = """
SELECT after->>'nickname' FROM accounts_auditevent
 WHERE action = 'token.renamed' AND after->>'nickname' LIKE 'edit %%'"""


class Stage(Demo):
    """`changes` are environment variables of this installation."""

    workers = 2
    limit = 1_000
    limited = 2

    def __init__(self, home: Path, database_url: str = "", **changes: str) -> None:
        super().__init__(home)
        self.database_url, self.changes = database_url, changes
        self.secret_keys = keyring.new_key()  # Secret tokens of the cast need one to be there.
        self.cast: dict[str, str] = {}
        self.ids: dict[str, tuple[str, int]] = {}
        self.limits: dict[str, int] = {}

    def environment(self, **changes: str) -> dict[str, str]:
        given = {
            "APPERATE_DEMO": "0",
            keyring.KEYS_VARIABLE: self.secret_keys,
            "APPERATE_WORKERS": str(self.workers),
            # Where the tests run is not what is looked at, unless an experiment says so.
            "APPERATE_DISK_RESERVE_MB": "0",
            **self.changes,
        }
        environment = super().environment(**(given | changes))
        environment.pop("DATABASE_URL", None)
        if self.database_url:
            environment["DATABASE_URL"] = self.database_url
        return environment

    def on_given_server(self, statement: str) -> None:
        """Its database is chosen by the experiment."""

    def start(self) -> None:
        Installation.start(self)  # Without the demo, which takes long to make.
        if self.cast:
            return
        names = f"LIMIT, LIMITED = {self.limit}, {self.limited}\n"
        made = json.loads(self.manage("shell", "-c", names + MAKE).splitlines()[-1])
        self.cast = {name: value for name, (value, _, _) in made.items()}
        self.ids = {name: (public, number) for name, (_, public, number) in made.items()}
        self.limits = {name: self.limit for name in made if name.startswith("limited")}
        for dataset, token in ((PRICED, "core_writer"), (CLOSED, "writer")):
            self.write(dataset, [{"name": f"name {number}"} for number in range(20)], token)

    def is_well(self) -> bool:
        """Whether it is ready, and stores a record."""
        try:
            self.write(CLOSED, [{"name": secrets.token_hex(8)}], "writer")
        except (AssertionError, OSError, http.client.HTTPException):
            return False
        return self.status("/readyz") == 200

    def write(self, dataset: str, records: list[dict[str, Any]], token: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)
        target = f"/v1/record/{dataset}?token={self.cast[token]}"
        try:
            connection.request("POST", target, json.dumps(records))
            reply = connection.getresponse()
            assert reply.status == 200, reply.read()
        finally:
            connection.close()

    def add_limited(self, name: str, limit: int) -> str:
        """One more limited token; its value."""
        said = self.manage("shell", "-c", f"LIMIT = {limit}\n" + LIMITED_TOKEN)
        value, public, number = said.split()[-3:]
        self.cast[name], self.ids[name], self.limits[name] = value, (public, int(number)), limit
        return value

    def connect(self) -> "psycopg.Connection[tuple[Any, ...]]":
        if self.database_url:
            return psycopg.connect(self.direct_url, autocommit=True)
        return psycopg.connect(
            host=str(launcher.socket_dir(self.home / "db")),
            port=launcher.PORT,
            user="apperate_app",
            dbname="apperate",
            autocommit=True,
            passfile=str(self.home / "db.key"),
        )

    @property
    def direct_url(self) -> str:
        """The database without a proxy of ours in between."""
        return self.database_url

    def settle(self) -> None:
        """Wait until nothing is under way: no job, and no lease that a live worker holds."""
        time.sleep(LEASE_SECONDS)
        with self.connect() as connection:
            until(
                lambda: connection.execute(OPEN_JOBS).fetchone() == (0,),
                seconds=SETTLE_SECONDS_MAX,
                said=lambda: str(connection.execute(OPEN_JOBS).fetchone()) + " jobs are under way",
            )

    def tables(self) -> Tables:
        with self.connect() as connection:
            connection.execute("SET statement_timeout = 0")
            return Tables(
                batches={row[0]: StoredBatch(*row[1:]) for row in connection.execute(STORED)},
                jobs={row[0]: row[1] for row in connection.execute(JOBS)},
                accounts={
                    name: Account(self.charged(connection, name), limit, max(1, limit // 64))
                    for name, limit in self.limits.items()
                },
                nicknames=[row[0] for row in connection.execute(RENAMED)],
            )

    def charged(self, connection: "psycopg.Connection[tuple[Any, ...]]", name: str) -> int:
        row = connection.execute(CHARGED, [self.ids[name][1]]).fetchone()
        assert row is not None
        return int(row[0])

    # --- its processes ---------------------------------------------------------------------------

    def servers(self) -> tuple[int, list[int]]:
        """The main process of the server, and its workers; (0, []) while there is none."""
        pids = self.pids("apperate.running.server")
        parents = {pid: parent_of(pid) for pid in pids}
        workers = [pid for pid in pids if parents[pid] in parents]
        main = [pid for pid in pids if parents[pid] not in parents]
        return (main[0] if main else 0), workers

    def job_workers(self) -> list[int]:
        return self.pids("procrastinate worker")

    def watcher(self) -> int:
        """The process that watches the embedded server; 0 while there is none."""
        return pid_in(self.home / "db" / ".watcher.lock")

    def postmaster(self) -> int:
        """The embedded server; 0 while there is none."""
        return pid_in(self.home / "db" / "pg" / "postmaster.pid")


def pid_in(path: Path) -> int:
    """The number on the first line of a file, 0 when it is not there or only being written."""
    try:
        return int(path.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 0


def parent_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


def children_of(pid: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return [int(line) for line in found.stdout.split()]


def memory_mb(pid: int) -> float:
    """What a process holds in memory, in MB; 0 when it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
