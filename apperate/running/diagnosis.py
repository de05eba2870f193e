"""What may be wrong with this installation: each check inspects and reports, and changes nothing.

    examine() -> list[Finding]        every check in order; only those without SQL when the database is away

A finding is "ok", "warn" (it works, but could be better) or "fail" (something will not work), with what to
do. No finding contains a password, a key or a token.
"""

import os
import smtplib
import stat
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.mail import get_connection
from django.db import DatabaseError, connection, connections
from django.db.migrations.executor import MigrationExecutor
from django.db.utils import InterfaceError
from django.http.request import split_domain_port, validate_host
from procrastinate.contrib.django.models import ProcrastinateJob, ProcrastinateWorker

from apperate.accounts.audit import chain
from apperate.accounts.models import Workspace
from apperate.accounts.plans import PLANS
from apperate.accounts.sign_in.mail import can_send
from apperate.database import disk, grants
from apperate.database.clock import database_now
from apperate.kernel import keyring
from apperate.kernel.hosts import is_loopback
from apperate.running import structure
from datasets.selectors import NEARLY_PERCENT, stored_by
from tokens.models import Secret
from tokens.usage import rollup

OK, WARN, FAIL = "ok", "warn", "fail"
SERVER_MIN = 150_000
CLOCK_SECONDS_MAX = 5
HEARTBEAT_SECONDS_MAX = 30
WAITING_SECONDS_MAX = 60
SECRETS_TRIED = 1_000
MAIL_SECONDS_MAX = 3
NAMED_MAX = 5
UNLIMITED = [plan.name for plan in PLANS.values() if plan.storage_bytes_max is None]
# Files of the data directory that must be private to their owner.
PRIVATE_FILES = (keyring.KEY_FILE, "session.key", "demo.json", "db.key")


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. `advice` says what to do; empty when all is well."""

    level: str
    subject: str
    detail: str
    advice: str = ""


def examine() -> list[Finding]:
    findings = [check() for check in WITHOUT_DATABASE]
    reached = database()
    findings.append(reached)
    if reached.level != FAIL:
        findings += [guarded(check) for check in ON_DATABASE]
    return findings


def guarded(check: Callable[[], Finding]) -> Finding:
    """The check's finding; a missing table is a finding too."""
    try:
        return check()
    except (DatabaseError, InterfaceError) as error:
        return Finding(
            FAIL,
            subject_of(check),
            first_line(error),
            "Run `manage.py migrate` with the role that owns the tables.",
        )


def subject_of(check: Callable[[], Finding]) -> str:
    return check.__name__.replace("_", " ").capitalize()


def first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


# --- without the database -----------------------------------------------------------------------------


def data_directory() -> Finding:
    """Can it be written, and are its secrets private to their owner?"""
    place, subject = Path(settings.DATA_DIR), "Data directory"
    if not os.access(place if place.exists() else place.parent, os.W_OK):
        return Finding(FAIL, subject, f"{place} cannot be written.", "Set APPERATE_DATA_DIR, or its owner.")
    open_files = [name for name in PRIVATE_FILES if is_open_to_others(place / name)]
    if open_files:
        return Finding(
            FAIL,
            subject,
            f"Others can read {', '.join(open_files)} in {place}.",
            f"Run: chmod 600 {' '.join(str(place / name) for name in open_files)}",
        )
    return Finding(OK, subject, str(place))


def is_open_to_others(path: Path) -> bool:
    return path.exists() and bool(stat.S_IMODE(path.stat().st_mode) & 0o077)


def disk_space() -> Finding:
    """Is there room, well above the reserve?"""
    disk.forget()
    found = disk.disks()
    least = min(found, key=lambda one: one.free_bytes - one.reserve_bytes)
    kept = f"{least.reserve_bytes / 1e9:.1f} GB of it are kept back."
    detail = f"{least.free_bytes / 1e9:.1f} GB free on the disk of {least.folder}; {kept}"
    if not least.has_room():
        return Finding(FAIL, "Disk space", detail, "Writes are refused until there is more: make room.")
    if least.free_bytes < 2 * least.reserve_bytes:
        return Finding(WARN, "Disk space", detail, "Below what is kept back writes are refused: make room.")
    return Finding(OK, "Disk space", detail)


def public_address() -> Finding:
    """Do people and programs connect over https, and does the dashboard answer to its own name?"""
    subject = "Public address"
    host = split_domain_port(settings.PUBLIC_URL.partition("://")[2])[0].strip("[]")
    if not validate_host(host, settings.ALLOWED_HOSTS):
        detail = f"Pages refuse {host}: it is not among APPERATE_ALLOWED_HOSTS."
        return Finding(FAIL, subject, detail, f"Add {host} to APPERATE_ALLOWED_HOSTS.")
    if settings.SERVES_HTTPS and not settings.TRUSTED_PROXIES:
        detail = "It is https, and no proxy is trusted to say so: every page is redirected to itself."
        return Finding(FAIL, subject, detail, "Set APPERATE_TRUSTED_PROXIES to the number of proxies.")
    if settings.SERVES_HTTPS or is_loopback(host):
        return Finding(OK, subject, settings.PUBLIC_URL)
    return Finding(
        WARN,
        subject,
        f"{settings.PUBLIC_URL} is plain http: tokens and passwords cross the network in clear.",
        "Serve it over https and set APPERATE_PUBLIC_URL=https://….",
    )


def mail() -> Finding:
    if not can_send():
        detail = "Messages are not sent; over https their links are not printed either."
        return Finding(
            WARN, "E-mail", detail, "Set EMAIL_URL to send invitations, password links and alerts."
        )
    if settings.EMAIL_BACKEND.endswith("console.EmailBackend"):
        return Finding(
            WARN, "E-mail", "Messages are printed, not sent.", "Set EMAIL_URL to send invitations and alerts."
        )
    try:
        server = get_connection(timeout=MAIL_SECONDS_MAX)
        server.open()
        server.close()
    except (OSError, smtplib.SMTPException) as error:
        detail = f"The mail server cannot be reached: {first_line(error)}."
        return Finding(FAIL, "E-mail", detail, "Look at EMAIL_URL, and at the server that it names.")
    return Finding(OK, "E-mail", "Messages are sent.")


def static_files() -> Finding:
    manifest = Path(settings.STATIC_ROOT) / "staticfiles.json"
    wants_manifest = "Manifest" in settings.STORAGES["staticfiles"]["BACKEND"]
    if wants_manifest and not manifest.exists():
        advice = "`manage.py up` collects them; otherwise run `manage.py collectstatic`."
        return Finding(FAIL, "Static files", "They are not collected: pages would fail.", advice)
    return Finding(OK, "Static files", "They are in place.")


# --- on the database ----------------------------------------------------------------------------------


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
    executor = MigrationExecutor(connection)
    waiting = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if waiting:
        names = ", ".join(str(migration) for migration, _ in waiting[:3])
        return Finding(
            FAIL, "Tables", f"{len(waiting)} migrations are not applied: {names}.", "Run `manage.py migrate`."
        )
    missing = structure.missing_parts()
    if missing:
        more = f" and {len(missing) - NAMED_MAX:,} more" if len(missing) > NAMED_MAX else ""
        detail = f"Gone from the database: {', '.join(missing[:NAMED_MAX])}{more}."
        return Finding(FAIL, "Tables", detail, "Restore a backup, or make them again as the migrations do.")
    return Finding(OK, "Tables", "Every migration is applied.")


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
        more = f" and {len(missing) - NAMED_MAX:,} rights more" if len(missing) > NAMED_MAX else ""
        return Finding(
            FAIL,
            "Database role",
            f"{role} lacks {', '.join(missing[:NAMED_MAX])}{more}.",
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


def audit_log() -> Finding:
    """Is it append-only, by triggers and rights, and does each event match the one before it?"""
    subject = "Audit log"
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT count(*) FILTER (WHERE tgenabled IN ('O', 'A')),
                      pg_has_role(c.relowner, 'USAGE'),
                      has_table_privilege(c.oid, 'UPDATE, DELETE, TRUNCATE')
                 FROM pg_class c LEFT JOIN pg_trigger t ON t.tgrelid = c.oid AND t.tgname = 'audit_rows_stay'
                WHERE c.oid = 'accounts_auditevent'::regclass GROUP BY c.oid, c.relowner"""
        )
        triggers, owns, may_change = cursor.fetchone()
    if not triggers:
        advice = "Run: ALTER TABLE accounts_auditevent ENABLE TRIGGER USER. Ask who switched it off."
        return Finding(FAIL, subject, "The trigger that keeps its rows is switched off or gone.", advice)
    if may_change and not owns:
        advice = "Run: REVOKE UPDATE, DELETE, TRUNCATE ON accounts_auditevent FROM that role."
        return Finding(WARN, subject, "The role that serves requests has rights to change it.", advice)
    if found := chain.breaks():
        first = found[0]
        name = (
            Workspace.objects.filter(pk=first.chain).values_list("name", flat=True).first() or "No workspace"
        )
        more = f" And {len(found) - 1} more." if len(found) > 1 else ""
        advice = "Compare it with a backup and with exported CSVs; ask who may change the database's tables."
        return Finding(FAIL, subject, f"{name}: {first.words}{more}", advice)
    return Finding(OK, subject, "Its rows stay as they were written.")


def clock() -> Finding:
    """Times are the database's; a web host's clock far off only makes logs hard to read."""
    apart = abs((datetime.now(UTC) - database_now()).total_seconds())
    if apart > CLOCK_SECONDS_MAX:
        detail = f"This machine's clock and the database's are {apart:.0f} s apart."
        return Finding(WARN, "Clock", detail, "Keep both by NTP.")
    return Finding(OK, "Clock", "It agrees with the database's.")


def secrets_at_rest() -> Finding:
    """Can the key ring decrypt what is stored?"""
    subject = "Secrets at rest"
    sealed = Secret.objects.filter(ciphertext__isnull=False).select_related("token").order_by("-pk")
    if not os.environ.get(keyring.KEYS_VARIABLE) and not (settings.DATA_DIR / keyring.KEY_FILE).exists():
        if sealed.exists():
            advice = f"Put the file back from a backup, or set {keyring.KEYS_VARIABLE}."
            return Finding(FAIL, subject, f"{keyring.KEY_FILE} is gone from the data directory.", advice)
        return Finding(OK, subject, "There are none yet; a key is made with the first one.")
    try:
        keys = keyring.load(os.environ, settings.DATA_DIR)
    except (keyring.BadKeys, OSError) as error:
        return Finding(FAIL, subject, first_line(error), "Put the keys of this database in place.")
    unreadable = total = 0
    for secret in sealed[:SECRETS_TRIED]:
        total += 1
        try:
            keys.decrypt(secret.ciphertext or b"", bound_to=secret.token.public_id)
        except keyring.UnreadableSecret:
            unreadable += 1
    if unreadable:
        return Finding(
            FAIL,
            subject,
            f"{unreadable} of {total} secrets were encrypted under another key and cannot be shown.",
            f"Put the old key beside the new ones ({keyring.KEYS_VARIABLE} or the key file).",
        )
    return Finding(OK, subject, f"{total} secrets can be decrypted.")


def storage() -> Finding:
    """Has any workspace nearly used up its plan?"""
    found = []
    for workspace in Workspace.objects.exclude(plan__in=UNLIMITED).order_by("name"):
        percent = stored_by(workspace).percent
        if percent >= NEARLY_PERCENT:
            found.append(f"{workspace.name} {percent} %")
    if not found:
        return Finding(OK, "Storage", f"No workspace uses {NEARLY_PERCENT} % of its plan's storage.")
    more = f" and {len(found) - NAMED_MAX:,} more" if len(found) > NAMED_MAX else ""
    detail = f"Nearly used up: {', '.join(found[:NAMED_MAX])}{more}."
    return Finding(
        WARN, "Storage", detail, "At 100 % their writes are refused: talk to them, or raise the plan."
    )


def background_work() -> Finding:
    """Is a worker alive, and is nothing waiting for long?"""
    now, subject = database_now(), "Background work"
    beats = ProcrastinateWorker.objects.values_list("last_heartbeat", flat=True)
    alive = sum((now - beat).total_seconds() <= HEARTBEAT_SECONDS_MAX for beat in beats)
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT count(*) FROM procrastinate_jobs j JOIN procrastinate_events e ON e.job_id = j.id
                WHERE j.status = 'todo' AND e.type = 'deferred' AND e.at < now() - make_interval(secs => %s)
                  AND (j.scheduled_at IS NULL OR j.scheduled_at <= now())""",
            [WAITING_SECONDS_MAX],
        )
        waiting = cursor.fetchone()[0]
    failed = ProcrastinateJob.objects.filter(status="failed").count()
    detail = f"{alive} workers alive, {waiting} jobs waiting for more than a minute, {failed} failed."
    if waiting:
        return Finding(FAIL, subject, detail, "Start `manage.py up`, or `manage.py procrastinate worker`.")
    if not alive or failed:
        return Finding(WARN, subject, detail, "`manage.py up` starts a worker; the log has the faults.")
    return Finding(OK, subject, detail)


def usage_counters() -> Finding:
    """Do old counters become hours and days, as they should every hour?"""
    oldest = rollup.behind(now=database_now())
    if oldest is None:
        return Finding(OK, "Usage counters", "Old ones were made coarser.")
    detail = f"Those of {oldest:%Y-%m-%d} still count by the minute: pages that sum them become slow."
    return Finding(WARN, "Usage counters", detail, "The log of the worker says why roll_up_usage fails.")


WITHOUT_DATABASE: tuple[Callable[[], Finding], ...] = (
    data_directory,
    disk_space,
    public_address,
    mail,
    static_files,
)
ON_DATABASE: tuple[Callable[[], Finding], ...] = (
    replica,
    tables,
    database_role,
    audit_log,
    clock,
    secrets_at_rest,
    storage,
    background_work,
    usage_counters,
)
