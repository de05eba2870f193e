"""The PostgreSQL server: whether it keeps what it said it stored, cleans up, and lets all workers in."""

from django.conf import settings
from django.db import connection

from apperate.database import pool, shares
from apperate.database.settings import POOL
from apperate.doctor.findings import FAIL, OK, WARN, Finding, some_of

# Above a billion transactions PostgreSQL should long have frozen old rows; at two billion it stops.
TRANSACTIONS_MAX = 1_000_000_000
TRANSACTION_SECONDS_MAX = 3_600
# The background work, its periodic tasks, commands of the operator.
CONNECTIONS_BESIDE = 8


def durability() -> Finding:
    """Is what was acknowledged still there after the power failed?"""
    subject = "Durability"
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT name FROM pg_settings WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off'
                UNION ALL
               SELECT name FROM pg_settings
                WHERE name = 'synchronous_commit' AND setting IN ('off', 'local') ORDER BY 1"""
        )
        off = [name for (name,) in cursor.fetchall()]
        cursor.execute("SELECT relname FROM pg_class WHERE relkind = 'r' AND relpersistence = 'u' ORDER BY 1")
        unlogged = [name for (name,) in cursor.fetchall()]
    if off:
        detail = f"{some_of(off)} is off: a write that was acknowledged is lost when the power fails."
        level = FAIL if set(off) & {"fsync", "full_page_writes"} else WARN
        return Finding(level, subject, detail, "Switch it on in postgresql.conf, or with ALTER SYSTEM.")
    if unlogged:
        detail = f"{some_of(unlogged)} is unlogged: it is empty after a crash."
        return Finding(FAIL, subject, detail, "Run: ALTER TABLE … SET LOGGED for each.")
    return Finding(OK, subject, "What is acknowledged is on the disk.")


def writable() -> Finding:
    """Can anything be written? A copy that follows another server takes connections too."""
    subject = "Writing"
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only')::bool")
        is_copy, is_read_only = cursor.fetchone()
    if is_copy:
        detail = "The database is a copy that follows another server: nothing can be written."
        return Finding(FAIL, subject, detail, "Name the primary in DATABASE_URL, or promote this one.")
    if is_read_only:
        detail = "default_transaction_read_only is on: nothing can be written."
        return Finding(FAIL, subject, detail, "Switch it off for the server, the database and the role.")
    return Finding(OK, subject, "The database takes writes.")


def cleaning() -> Finding:
    """Does the server remove what was deleted, and is nothing keeping it from that?"""
    subject = "Cleaning"
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT current_setting('autovacuum')::bool AND current_setting('track_counts')::bool,
                      age(datfrozenxid) FROM pg_database WHERE datname = current_database()"""
        )
        is_on, age = cursor.fetchone()
        cursor.execute(
            """SELECT c.relname FROM pg_class c, unnest(c.reloptions) AS o(text)
                WHERE c.relnamespace = 'public'::regnamespace
                  AND o.text IN ('autovacuum_enabled=false', 'autovacuum_enabled=off') ORDER BY 1"""
        )
        switched_off = [name for (name,) in cursor.fetchall()]
        cursor.execute(
            """SELECT count(*) FROM (
                   SELECT 1 FROM pg_stat_activity WHERE datname = current_database()
                      AND xact_start < now() - make_interval(secs => %(seconds)s)
                   UNION ALL
                   SELECT 1 FROM pg_prepared_xacts WHERE database = current_database()
                      AND prepared < now() - make_interval(secs => %(seconds)s)
                   UNION ALL
                   SELECT 1 FROM pg_replication_slots WHERE NOT active AND xmin IS NOT NULL) AS held""",
            {"seconds": TRANSACTION_SECONDS_MAX},
        )
        held = cursor.fetchone()[0]
    if not is_on or switched_off:
        what = "Autovacuum is off" if not is_on else f"Autovacuum is off for {some_of(switched_off)}"
        detail = f"{what}: tables grow for ever, and questions become slow."
        return Finding(
            FAIL, subject, detail, "Switch autovacuum and track_counts on; then run VACUUM ANALYZE."
        )
    if age > TRANSACTIONS_MAX:
        detail = f"Rows of {age:,} transactions ago are not frozen; at two billion the server stops."
        return Finding(
            FAIL, subject, detail, "Run VACUUM FREEZE, and look for what keeps autovacuum from it."
        )
    if held:
        detail = f"{held} transactions or replication slots have been open for more than an hour."
        advice = "Look in pg_stat_activity, pg_prepared_xacts and pg_replication_slots, and end them."
        return Finding(WARN, subject, f"{detail} Nothing deleted since is removed.", advice)
    return Finding(OK, subject, "What is deleted makes room for new rows.")


def connections_allowed() -> Finding:
    """May all workers open all their connections at the same time?"""
    subject = "Connections"
    # One more follows the changes.
    of_worker = 1 + sum(kind.connections_max for kind in pool.KINDS) + shares.EXPORTS.places
    of_worker += int(POOL["max_size"])
    needed = settings.WORKERS * of_worker + CONNECTIONS_BESIDE
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT current_setting('max_connections')::int
                      - current_setting('superuser_reserved_connections')::int,
                      (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user),
                      (SELECT datconnlimit FROM pg_database WHERE datname = current_database())"""
        )
        allowed = min(limit for limit in cursor.fetchone() if limit is not None and limit >= 0)
    if allowed < needed:
        return Finding(
            WARN,
            subject,
            f"{settings.WORKERS} workers may want {needed} connections, and the server allows {allowed}: "
            "under load requests are refused.",
            f"Set max_connections to {needed} or more, or APPERATE_WORKERS to fewer.",
        )
    return Finding(OK, subject, f"{allowed} are allowed; {settings.WORKERS} workers want {needed} at most.")
