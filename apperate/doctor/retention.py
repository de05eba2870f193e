"""How long each kind of row is kept, how many there are, how much they take, and what should be gone.

kinds(now=…) -> list[Kept]       for `manage.py doctor --retention`
retention() -> Finding           whether something that is past its time is still there
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from django.conf import settings
from django.db import connection

from apperate.database.clock import database_now
from apperate.doctor.findings import OK, WARN, Finding, some_of

# Above this, the number of rows is PostgreSQL's own estimate.
COUNTED_MAX = 100_000
PAST_COUNTED_MAX = 10_000
# The purge runs every hour; after this many it is late.
GRACE_HOURS = 3


@dataclass(frozen=True, slots=True)
class Kind:
    """`at`: the column that says how old a row is. `past`: what is true of a row that should be gone."""

    name: str
    kept: str
    table: str
    at: str = ""
    past: str = ""


@dataclass(frozen=True, slots=True)
class Kept:
    """`rows` is an estimate when there are many. `past`: rows that should be gone, at most a few thousand."""

    name: str
    kept: str
    rows: int
    size_bytes: int
    oldest: datetime | None
    past: int


def _older(column: str, interval: str) -> str:
    return f"{column} < now() - interval '{interval}' - interval '{GRACE_HOURS} hours'"


KINDS = (
    Kind("records", "until they are deleted", "records"),
    Kind(
        "deletes of records", "24 hours", "datasets_deletion", "deleted_at", _older("deleted_at", "24 hours")
    ),
    Kind("records in the trash", "24 hours", "deleted_records"),
    Kind(
        "datasets", "until they are deleted, then 24 hours", "datasets_dataset", "created_at",
        _older("deleted_at", "24 hours"),
    ),
    Kind(
        "marks of queryId", "24 hours unused", "datasets_querymark", "used_at",
        _older("used_at", "24 hours"),
    ),
    Kind(
        "jobs", "90 days after their end", "datasets_ingestjob", "created_at",
        _older("ended_at", "90 days"),
    ),
    Kind("files of jobs and uploads", "until they are stored; what failed 24 hours", "datasets_filechunk",
         "stored_at"),
    Kind(
        "usage counters", "by minute 3 hours, by hour 5 weeks, by day for good", "tokens_usagecounter",
        "minute",
        "minute < now() - interval '2 days 3 hours' AND minute <> date_trunc('hour', minute, 'UTC')",
    ),
    Kind("spent credits by month", "for good", "tokens_creditwindow", "month"),
    Kind("ids of flushes", "24 hours", "tokens_usageflush", "flushed_at", _older("flushed_at", "24 hours")),
    Kind("refusals of tokens", "30 days", "tokens_tokenrefusal", "last_at", _older("last_at", "30 days")),
    Kind(
        "used signatures", "until their date is refused", "tokens_usedsignature", "expires_at",
        _older("expires_at", "0 hours"),
    ),
    Kind(
        "tokens", "until they are deleted, then 30 days; what they used stays", "tokens_token", "created_at",
        f"{_older('deleted_at', '30 days')} "
        "AND EXISTS (SELECT FROM tokens_secret s WHERE s.token_id = kept.id)",
    ),
    Kind("settings of tokens", "as long as their token", "tokens_revision", "saved_at"),
    Kind("alerts about credits", "as long as their token", "tokens_creditalert", "reached_at"),
    Kind("answers under an Idempotency-Key", "24 hours", "accounts_keptanswer", "kept_at",
         _older("kept_at", "24 hours")),
    Kind(
        "audit events", "by plan 1, 3, 30 or 365 days", "accounts_auditevent", "at",
        "at < now() - interval '3 hours' - make_interval(days => audit_days("
        "(SELECT w.plan FROM accounts_workspace w WHERE w.id = kept.workspace_id)))",
    ),
    Kind(
        "invitations", "30 days after they ended", "accounts_invitation", "created_at",
        _older("least(expires_at, accepted_at, withdrawn_at)", "30 days"),
    ),
    Kind("sessions", "until they expire", "django_session", "expire_date", _older("expire_date", "0 hours")),
    Kind(
        "limits of signing in", "until they expire", "apperate_cache", "expires",
        _older("expires", "0 hours"),
    ),
    Kind("log of the operators' admin", "365 days", "django_admin_log", "action_time",
         _older("action_time", "365 days")),
    Kind("tasks of the queue", "24 hours", "procrastinate_jobs"),
    Kind("events of the queue", "24 hours", "procrastinate_events", "at"),
)  # fmt: skip


def kinds() -> list[Kept]:
    return [*map(_asked, KINDS), files()]


def _asked(kind: Kind) -> Kept:
    with connection.cursor() as cursor:
        # Names and conditions are constants of this module.
        cursor.execute(
            """SELECT greatest(reltuples, 0)::bigint, pg_total_relation_size(oid)
                 FROM pg_class WHERE oid = %s::regclass""",
            [kind.table],
        )
        rows, size_bytes = cursor.fetchone()
        if rows < COUNTED_MAX:
            cursor.execute(
                f"SELECT count(*) FROM (SELECT FROM {kind.table} LIMIT {COUNTED_MAX + 1}) AS counted"  # noqa: S608
            )
            rows = cursor.fetchone()[0]
        oldest = None
        if kind.at:
            cursor.execute(f"SELECT min({kind.at})::timestamptz FROM {kind.table}")  # noqa: S608
            oldest = cursor.fetchone()[0]
    return Kept(kind.name, kind.kept, rows, size_bytes, oldest, past(kind))


def past(kind: Kind) -> int:
    """How many rows should be gone."""
    if not kind.past:
        return 0
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT count(*) FROM (SELECT FROM {kind.table} AS kept WHERE {kind.past} "  # noqa: S608
            f"LIMIT {PAST_COUNTED_MAX}) AS late"
        )
        return int(cursor.fetchone()[0])


def files() -> Kept:
    """The folders of jobs and unfinished uploads."""
    found = [path.stat() for path in _walk(Path(settings.INGEST_DIR))]
    oldest = min((one.st_mtime for one in found), default=None)
    now = database_now()
    return Kept(
        "files of jobs", "until the job is done; 24 hours after it failed", len(found),
        sum(one.st_size for one in found), datetime.fromtimestamp(oldest, now.tzinfo) if oldest else None, 0,
    )  # fmt: skip


def _walk(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file()) if folder.exists() else iter(())


def retention() -> Finding:
    """Is everything gone that is past its time?"""
    late = [f"{kind.name} ({count:,})" for kind in KINDS if (count := past(kind))]
    if late:
        detail = f"Past their time and still there: {some_of(late)}."
        advice = (
            "The log of the background work says why purge_files fails; `doctor --retention` has all kinds."
        )
        return Finding(WARN, "Retention", detail, advice)
    return Finding(OK, "Retention", "What is past its time is gone.")
