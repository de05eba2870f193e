"""The programs that one `manage.py up` runs.

of_version(sockets)      the server and the background work, which a reload replaces
publishers()             what holds a port of its own, so that two of it cannot run
archivists()             what makes backups; none of it by default
"""

import os
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any

from django.conf import settings

from apperate.observability.places import FOLDER_VARIABLE
from apperate.running.supervisor import Child, Program

JOBS_AT_ONCE = 2
POLL_SECONDS = 0.5
JOB_STOP_SECONDS = 10


def of_version(sockets: Sequence[socket.socket]) -> list[Program]:
    counting = {FOLDER_VARIABLE: str(settings.METRICS_DIR)} if settings.METRICS.is_on else {}
    descriptors = [one.fileno() for one in sockets]
    server = [sys.executable, "-m", "apperate.running.server", ",".join(map(str, descriptors))]
    jobs = manage(
        "procrastinate", "worker",
        "--concurrency", str(JOBS_AT_ONCE),
        "--no-listen-notify",  # correctness and speed must not depend on LISTEN, which poolers drop
        "--fetch-job-polling-interval", str(POLL_SECONDS),
        "--abort-job-polling-interval", str(POLL_SECONDS),
        "--shutdown-graceful-timeout", str(JOB_STOP_SECONDS),
    )  # fmt: skip
    return [
        program(
            "The server", server, more={**counting, "APPERATE_POOLED": "1"}, descriptors=descriptors,
            reports=True, orphan_signal=signal.SIGQUIT, leave_signal=signal.SIGHUP,
        ),
        program("The background work", jobs, more=counting),
    ]  # fmt: skip


def publishers() -> list[Child]:
    """That of the figures; none by default."""
    if not settings.METRICS.port:
        return []
    command = [
        sys.executable, "-m", "apperate.running.figures", settings.METRICS.host, str(settings.METRICS.port),
    ]  # fmt: skip
    return [program("The port of the figures", command)]


def archivists() -> list[Child]:
    """What makes backups regularly; none by default. Their faults are theirs, and end nothing else."""
    wanted = {
        "The backups": ["backup", "--every"] if settings.BACKUP_TO else [],
        "The archive of the log": ["archivelog", "receive"] if settings.WAL_ARCHIVE else [],
        "The base backups": ["archivelog", "bases"] if settings.WAL_ARCHIVE else [],
    }
    return [
        program(name, manage(*arguments), is_ready=True) for name, arguments in wanted.items() if arguments
    ]


def program(name: str, command: list[str], *, more: dict[str, str] | None = None, **facts: Any) -> Program:
    """A child with the role that may not change tables."""
    environment = {name: value for name, value in os.environ.items() if name != "APPERATE_DATABASE_ROLE"}
    return Program(
        name=name,
        command=command,
        environment=environment | (more or {}),
        directory=settings.BASE_DIR,
        **facts,
    )


def manage(*arguments: str) -> list[str]:
    return [sys.executable, str(settings.BASE_DIR / "manage.py"), *arguments]
