"""record(): one audit row beside the change it tells of, in the same transaction."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from apperate.accounts.models import AuditEvent, User, Workspace


def record(
    action: str,
    *,
    workspace: Workspace | None,
    by: User | None,
    now: datetime,
    target: str = "",
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    address: str = "",
) -> AuditEvent:
    """Write one audit row. `before` and `after` must hold no secret; by=None is the system."""
    return AuditEvent.objects.create(
        workspace=workspace,
        at=now,
        user=by,
        actor=by.email if by else "system",
        address=address,
        action=action,
        target=target[:254],
        before=before,
        after=after,
    )
