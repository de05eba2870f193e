"""The audit log: written in the change's transaction; deleted after the plan's retention.

record(action, workspace=…, by=…, now=…)   one row, in the transaction of the change
record_person(action, …)                   what a person did outside any workspace, one row for each of theirs
purge()                                    delete rows older than their workspace's retention (plans.py)
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import Any

from django.db import connection

from apperate.accounts.models import AuditEvent, Membership, User, Workspace

PURGE_ROWS = 2_000
PURGE_STEPS_MAX = 500
# (actor, address) of the current request; background tasks and commands have none.
_asker: ContextVar[tuple[str, str]] = ContextVar("asker", default=("system", ""))


@contextmanager
def asked_by(*, address: str, actor: str = "system") -> Iterator[None]:
    """Rows written inside carry this address, and this actor where no person acts."""
    before = _asker.set((actor, address))
    try:
        yield
    finally:
        _asker.reset(before)


def record(
    action: str,
    *,
    workspace: Workspace | int | None,
    by: User | None,
    now: datetime,
    target: str = "",
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    address: str = "",
) -> AuditEvent:
    """Write one audit row; a workspace may be named by its id. `before` and `after` must hold no secret.

    by=None means a token or the system.
    """
    asker, its_address = _asker.get()
    return AuditEvent.objects.create(
        workspace_id=workspace if workspace is None or isinstance(workspace, int) else workspace.pk,
        at=now,
        user=by,
        actor=by.email if by else asker,
        address=address or its_address,
        action=action,
        target=target[:254],
        before=before,
        after=after,
    )


def record_person(
    action: str,
    *,
    of: User | str,
    by: User | None,
    now: datetime,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    address: str = "",
) -> None:
    """Record an event about a person, such as a sign-in, in the log of each of their workspaces.

    `of` is the person, or the address that was entered; with no workspace, one row without one is written.
    A known and an unknown address take equally many queries, so the timing of a failed sign-in does not
    reveal whether an account exists.
    """
    members = Membership.objects
    found = members.filter(user__email=of.lower()) if isinstance(of, str) else members.filter(user=of)
    workspaces: list[int | None] = [*found.values_list("workspace_id", flat=True)] or [None]
    AuditEvent.objects.bulk_create(
        AuditEvent(
            workspace_id=workspace_id,
            at=now,
            user=by,
            actor=by.email if by else "unknown",
            address=address or _asker.get()[1],
            action=action,
            target=(of if isinstance(of, str) else of.email)[:254],
            before=before,
            after=after,
        )
        for workspace_id in workspaces
    )


def purge() -> int:
    """Delete the rows past retention and return how many. The database itself decides which those are."""
    removed = 0
    for _ in range(PURGE_STEPS_MAX):
        with connection.cursor() as cursor:
            cursor.execute("SELECT purge_audit_log(%s)", [PURGE_ROWS])
            step = cursor.fetchone()[0]
        removed += step
        if step < PURGE_ROWS:
            break
    return removed
