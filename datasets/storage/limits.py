"""How much a workspace has stored, counted as it is written, and whether its plan has room for more.

    usage_of(workspace_id) -> Usage             what is used and what the plan allows, in one query
    ADD, add(workspace_id, bytes)               count a change, in the change's own transaction
    settle(workspace_id, bytes, before=…)       whether the plan allows what was just counted
    stage(name, …), unstage(name)               a file on disk counts while it exists

Records count, including deleted ones that are still restorable, and so do staged files. A writer adds its
change to one of SLOTS rows, as the last statement of its transaction, so that writers run in parallel. Far
from the limit nobody waits; with less than MARGIN_BYTES left, the workspace's writers take turns until they
commit, so that together they cannot exceed it. Source: docs/decisions/0013-storage.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connection, transaction

from apperate.accounts.plans import PLANS
from apperate.kernel.refusals import Refusal
from datasets.models import StagedFile

# What a row and its two index entries take besides the record's own text; an approximation.
ROW_BYTES = 100
SLOTS = 32
# More than all concurrent writers can add that have seen the same figure: a hundred bodies of the
# largest size.
MARGIN_BYTES = 1_000_000_000
LOCKS = 4_150_011  # class of advisory locks, one for each workspace
FREES_ROOM = (
    "delete datasets or records, whose room is free 24 hours later, or at once with “Delete for good” on "
    "their page; or a larger plan"
)

# One row, or none. Indexes: the primary key, datasets_storagecounter_once (at most SLOTS rows), and the
# reservations' by workspace (one row for each running job).
USAGE_COLUMNS = """w.plan,
       (SELECT coalesce(sum(c.bytes), 0) FROM datasets_storagecounter c WHERE c.workspace_id = w.id)
       + (SELECT coalesce(sum(r.bytes), 0) FROM datasets_storagereservation r WHERE r.workspace_id = w.id)"""
USED = f"SELECT {USAGE_COLUMNS} FROM accounts_workspace w WHERE w.id = %(workspace)s"  # noqa: S608  a constant

# Adds the one row (bytes) of the CTE `change` to this connection's slot; nothing for 0.
ADD = f"""
INSERT INTO datasets_storagecounter AS counter (workspace_id, slot, bytes)
SELECT %(workspace)s, pg_backend_pid() %% {SLOTS}, change.bytes FROM change WHERE change.bytes <> 0
ON CONFLICT (workspace_id, slot) DO UPDATE SET bytes = counter.bytes + excluded.bytes"""  # noqa: S608  a constant


def record_bytes(row: str) -> str:
    """The SQL for how many bytes a row of records or deleted_records counts."""
    return (
        f"(octet_length({row}.data::text) + octet_length({row}.key) + octet_length({row}.subkey)"
        f" + {ROW_BYTES})::bigint"
    )


@dataclass(frozen=True, slots=True)
class Usage:
    """What a workspace has stored, and the most its plan allows: None means no limit."""

    used: int
    limit: int | None
    plan: str = ""

    @property
    def is_full(self) -> bool:
        return self.limit is not None and self.used >= self.limit

    def has_room(self, more_bytes: int) -> bool:
        return self.limit is None or self.used + more_bytes <= self.limit

    def refusal(self, more_bytes: int = 1) -> Refusal | None:
        """Why this many more bytes are not accepted, if so."""
        if self.limit is None or self.has_room(more_bytes):
            return None
        more = f", and this needs {more_bytes:,} more" if more_bytes > 1 else ""
        return Refusal(
            "storage-limit",
            f"Nothing was stored, because the storage of the {self.plan} plan is used up: {self.used:,} of "
            f"{self.limit:,} bytes are in use{more}.",
            check="body",
            received=f"{self.used:,} bytes in use{more.replace(', and this needs', ',')}",
            needed=f"at most {self.limit:,} bytes: {FREES_ROOM}",
        )

    def without(self, some_bytes: int) -> "Usage":
        """The same, as if that much did not exist."""
        return Usage(self.used - some_bytes, self.limit, self.plan)


def usage_of(workspace_id: int) -> Usage:
    with connection.cursor() as cursor:
        cursor.execute(USED, {"workspace": workspace_id})
        return usage(cursor.fetchall())


def usage(rows: Sequence[tuple[Any, ...]]) -> Usage:
    """The result of USED."""
    if not rows:
        return Usage(0, None)  # The workspace is gone, and so is what was to be written.
    plan, used = rows[0][:2]
    return Usage(int(used), PLANS[plan].storage_bytes_max, PLANS[plan].title)


def add(workspace_id: int, more_bytes: int) -> None:
    """Count a change of this many bytes. Last in its transaction: others may wait for the slot."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"WITH change AS (SELECT %(bytes)s::bigint AS bytes) {ADD}",
            {"workspace": workspace_id, "bytes": more_bytes},
        )


def settle(workspace_id: int, more_bytes: int, *, before: Usage) -> Refusal | None:
    """Why the plan does not allow what this transaction has counted, if so: the caller must roll back.

    `before`: what was used a moment ago. If that was far from the limit, no query is made.
    """
    if more_bytes <= 0 or before.has_room(more_bytes + MARGIN_BYTES):
        return None
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", [LOCKS, workspace_id % 2**31])
    after = usage_of(workspace_id)
    return after.without(more_bytes).refusal(more_bytes)


def stage(name: str, workspace_id: int, file_bytes: int) -> Refusal | None:
    """Count a file that stays on disk for a while; Refusal when the plan has no room for it."""
    before = usage_of(workspace_id)
    with transaction.atomic():
        StagedFile.objects.create(name=name, workspace_id=workspace_id, bytes=file_bytes)
        add(workspace_id, file_bytes)
        refusal = settle(workspace_id, file_bytes, before=before)
        if refusal is not None:
            transaction.set_rollback(True)
    return refusal


def unstage(name: str) -> int:
    """Stop counting a file that is gone, or about to go; returns how many bytes it counted."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM datasets_stagedfile WHERE name = %s RETURNING workspace_id, bytes", [name]
        )
        row = cursor.fetchone()
        if row is None:
            return 0
        add(row[0], -row[1])
        return int(row[1])


def staged_bytes(name: str) -> int:
    return StagedFile.objects.filter(name=name).values_list("bytes", flat=True).first() or 0
