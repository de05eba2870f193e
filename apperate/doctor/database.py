"""The database: whether it answers, what it has, and the role that serves requests."""

import os
from datetime import UTC, datetime

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connection, connections
from django.db.migrations.executor import MigrationExecutor
from django.db.utils import InterfaceError

from apperate.database.clock import database_now
from apperate.database.schema import grants
from apperate.doctor import structure
from apperate.doctor.findings import FAIL, OK, WARN, Finding, first_line, some_of

SERVER_MIN = 150_000
CLOCK_SECONDS_MAX = 5


def database() -> Finding:
    """Does it answer, and is it new enough?"""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('server_version'), pg_encoding_to_char(encoding) "
                           "FROM pg_database WHERE datname = current_database()")  # fmt: skip
            version, encoding = cursor.fetchone()
            number = connection.pg_version  # type: ignore[attr-defined]
    except (DatabaseError, InterfaceError, ImproperlyConfigured) as error:
        return Finding(FAIL, "Database", first_line(error), "Start it, or correct DATABASE_URL.")
    if number < SERVER_MIN:
        return Finding(FAIL, "Database", f"PostgreSQL {version} is too old.", "Use PostgreSQL 15 or newer.")
    if encoding != "UTF8":
        return Finding(FAIL, "Database", f"Its encoding is {encoding}.", "Make a database with UTF8.")
    return Finding(OK, "Database", f"PostgreSQL {version} answers.")


def replica() -> Finding:
    """Does the database for reading answer, where one is named?"""
    if "replica" not in settings.DATABASES:
        return Finding(OK, "Replica", "None is named; the database answers reads too.")
    try:
        with connections["replica"].cursor() as cursor:
            cursor.execute("SELECT 1")
    except (DatabaseError, InterfaceError) as error:
        return Finding(FAIL, "Replica", first_line(error), "Start it, or correct DATABASE_REPLICA_URL.")
    return Finding(OK, "Replica", "It answers.")


def tables() -> Finding:
    """Are the tables those of this version, all there, and fit for the next row?"""
    subject = "Tables"
    executor = MigrationExecutor(connection)
    graph = executor.loader.graph
    waiting = executor.migration_plan(graph.leaf_nodes())
    if waiting:
        names = ", ".join(str(migration) for migration, _ in waiting[:3])
        detail = f"{len(waiting)} migrations are not applied: {names}."
        return Finding(FAIL, subject, detail, "Run `manage.py migrate`.")
    apps = {app for app, _ in graph.nodes}
    unknown = sorted(
        f"{app}.{name}"
        for app, name in executor.loader.applied_migrations
        if app in apps and (app, name) not in graph.nodes and (app, name) not in executor.loader.replacements
    )
    if unknown:
        detail = f"They were made by a later version: {some_of(unknown)} is not known to this one."
        return Finding(FAIL, subject, detail, "Run the later version, or restore a backup of before.")
    if settings.CACHES["default"]["LOCATION"] not in connection.introspection.table_names():
        detail = "The table of the cache is gone, and with it the limits of signing in."
        return Finding(FAIL, subject, detail, "Run `manage.py createcachetable`.")
    if missing := structure.missing_parts():
        detail = f"Gone from the database: {some_of(missing)}."
        return Finding(FAIL, subject, detail, "Restore a backup, or make them again as the migrations do.")
    if invalid := structure.invalid_indexes():
        detail = f"Not finished, so never read: {some_of(invalid)}."
        return Finding(FAIL, subject, detail, "Run: REINDEX INDEX CONCURRENTLY for each.")
    return Finding(OK, subject, "Every migration is applied.")


def restored() -> Finding:
    """Did rows that were copied in from elsewhere arrive with what belongs to them?"""
    subject = "Copied rows"
    if late := structure.late_sequences():
        detail = f"The next id of {some_of(late)} is taken already: new rows are refused."
        advice = "Restore the whole dump, with its sequences, or set each by setval() to the highest id."
        return Finding(FAIL, subject, detail, advice)
    if ahead := structure.stamped_ahead():
        detail = f"{some_of(ahead)} is stamped by another server: changes are not noticed as they should."
        advice = f"Set changed_xid to 0 in {some_of(ahead)}: a trigger stamps the rows anew."
        return Finding(FAIL, subject, detail, advice)
    return Finding(OK, subject, "Ids and stamps are of this server.")


def database_role() -> Finding:
    """Does the serving role have the rights it needs, and no more?"""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT current_user, has_database_privilege(current_database(), 'TEMP'), "
            "pg_has_role((SELECT relowner FROM pg_class WHERE oid = 'records'::regclass), 'USAGE')"
        )
        role, may_make_temporary, owns = cursor.fetchone()
    missing = grants.missing(role)
    missing += [] if may_make_temporary else ["TEMP on the database"]
    if missing:
        return Finding(
            FAIL,
            "Database role",
            f"{role} lacks {some_of(missing, what='rights ')}.",
            "Run `manage.py grants --apply` with DATABASE_OWNER_URL set.",
        )
    if owns and os.environ.get("APPERATE_DATABASE_ROLE") != "owner":
        return Finding(
            WARN,
            "Database role",
            f"{role} serves requests and owns the tables, so a fault could change them.",
            "Give the owner's URL as DATABASE_OWNER_URL and a lesser role's as DATABASE_URL.",
        )
    return Finding(OK, "Database role", f"{role} may do what it needs.")


def clock() -> Finding:
    """Times are the database's; a web host's clock far off only makes logs hard to read."""
    apart = abs((datetime.now(UTC) - database_now()).total_seconds())
    if apart > CLOCK_SECONDS_MAX:
        detail = f"This machine's clock and the database's are {apart:.0f} s apart."
        return Finding(WARN, "Clock", detail, "Keep both by NTP.")
    return Finding(OK, "Clock", "It agrees with the database's.")
