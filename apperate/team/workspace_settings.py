"""The switches of a workspace that its admins set themselves."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from django.db import transaction

from apperate.accounts.audit import trail
from apperate.accounts.decorators import has_second_factor
from apperate.accounts.models import User, Workspace
from apperate.database import propagation
from apperate.kernel.refusals import Refusal


@dataclass(frozen=True, slots=True)
class Security:
    """The page's form; the fields have the names of the workspace's own."""

    allows_secret_in_browser: bool
    requires_second_factor: bool


@transaction.atomic
def save_security(
    *, workspace: Workspace, security: Security, by: User, now: datetime, address: str = ""
) -> list[str] | Refusal:
    """Save the switches and return the names of those that changed. Returns once workers follow it.

    A person without a second factor cannot require one: that would lock them out too.
    """
    kept = Workspace.objects.select_for_update().get(pk=workspace.pk)
    wanted = asdict(security)
    before = {name: getattr(kept, name) for name in wanted if getattr(kept, name) != wanted[name]}
    if "requires_second_factor" in before and security.requires_second_factor and not has_second_factor(by):
        return Refusal(
            "invalid-values", "Add a second factor to your own account first; else this would shut you out."
        )
    for name in before:
        setattr(kept, name, wanted[name])
    save_fields(workspace=kept, before=before, by=by, now=now, address=address)
    return list(before)


@transaction.atomic
def save_fields(
    *, workspace: Workspace, before: Mapping[str, Any], by: User, now: datetime, address: str = ""
) -> None:
    """Save the fields named in `before` as they are set now, and audit them; nothing if there are none."""
    if not before:
        return
    workspace.save(update_fields=list(before))
    propagation.announce_on_commit()
    trail.record(
        "workspace.changed",
        workspace=workspace,
        target=workspace.name,
        by=by,
        now=now,
        address=address,
        before=before,
        after={name: getattr(workspace, name) for name in before},
    )
