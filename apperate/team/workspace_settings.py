"""The switches of a workspace that its admins set themselves."""

from dataclasses import dataclass
from datetime import datetime

from django.db import transaction

from apperate.accounts import audit
from apperate.accounts.decorators import has_second_factor
from apperate.accounts.models import User, Workspace
from apperate.refusals import Refusal


@dataclass(frozen=True, slots=True)
class Security:
    """What the page's form says; the fields are the workspace's own."""

    allows_secret_in_browser: bool
    requires_second_factor: bool


@transaction.atomic
def save_security(
    *, workspace: Workspace, security: Security, by: User, now: datetime, address: str = ""
) -> list[str] | Refusal:
    """Save the switches; the names of those that changed. Workers follow within a second.

    Who has no second factor cannot require one: that would shut them out with the others.
    """
    kept = Workspace.objects.select_for_update().get(pk=workspace.pk)
    names = ["allows_secret_in_browser", "requires_second_factor"]
    changed = [name for name in names if getattr(kept, name) != getattr(security, name)]
    if "requires_second_factor" in changed and security.requires_second_factor and not has_second_factor(by):
        return Refusal(
            "invalid-values", "Add a second factor to your own account first; else this would shut you out."
        )
    if not changed:
        return []
    before = {name: getattr(kept, name) for name in changed}
    after = {name: getattr(security, name) for name in changed}
    for name in changed:
        setattr(kept, name, after[name])
    kept.save(update_fields=changed)
    audit.record(
        "workspace.changed",
        workspace=kept,
        target=kept.name,
        by=by,
        now=now,
        address=address,
        before=before,
        after=after,
    )
    return changed
