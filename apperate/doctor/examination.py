"""Every check of an installation, in order: what `manage.py doctor` says.

examine() -> list[Finding]        those without SQL alone when the database is away
"""

from collections.abc import Callable

from django.db import DatabaseError
from django.db.utils import InterfaceError

from apperate.doctor import backup_checks, contents, database, machine, retention, server, surroundings, work
from apperate.doctor.findings import FAIL, Finding, first_line

Check = Callable[[], Finding]
WITHOUT_DATABASE: tuple[Check, ...] = (
    machine.data_directory,
    machine.disk_space,
    machine.files_to_come,
    surroundings.public_address,
    surroundings.answering,
    surroundings.mail,
    machine.static_files,
    backup_checks.revocations,
)
ON_DATABASE: tuple[Check, ...] = (
    database.replica,
    database.tables,
    database.restored,
    server.writable,
    server.durability,
    server.cleaning,
    server.connections_allowed,
    database.database_role,
    contents.audit_log,
    database.clock,
    contents.secrets_at_rest,
    contents.storage,
    work.background_work,
    work.usage_counters,
    retention.retention,
    backup_checks.backups,
)


def examine() -> list[Finding]:
    findings = [check() for check in WITHOUT_DATABASE]
    reached = database.database()
    findings.append(reached)
    if reached.level != FAIL:
        findings += [guarded(check) for check in ON_DATABASE]
    return findings


def guarded(check: Check) -> Finding:
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


def subject_of(check: Check) -> str:
    return check.__name__.replace("_", " ").capitalize()
