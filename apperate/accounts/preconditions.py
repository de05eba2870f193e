"""Preconditions for changing a workspace's people: each returns a Refusal, or None."""

import re
from datetime import datetime

from allauth.account.models import EmailAddress

from apperate.accounts.models import CORE, PREMIUM, Invitation, Membership, Role, User, Workspace
from apperate.kernel.refusals import Refusal, invalid_value

SYSTEM_NAMES = {CORE, PREMIUM}
NAME_FORM = re.compile(r"[A-Z0-9_]{1,63}")


def operates(by: User | None) -> bool:
    """Whether the system or an operator acts; the admin has already checked its own permissions."""
    return by is None or by.is_staff


def workspace_name(name: str, by: User | None) -> Refusal | None:
    """Why a workspace may not have this name, which is already upper-case."""
    if not NAME_FORM.fullmatch(name) or name.startswith("_SYSTEM"):
        return invalid_value(
            "name", name, "1 to 63 of A–Z, 0–9 and _, without _SYSTEM in front", check="body"
        )
    if name in SYSTEM_NAMES and not operates(by):
        return invalid_value("name", name, f"a name other than {CORE} and {PREMIUM}", check="body")
    if Workspace.objects.filter(name=name).exists():
        return invalid_value("name", name, "a name that no workspace has", check="body")
    return None


def may_manage(workspace: Workspace, by: User | None) -> Refusal | None:
    """Whether a person may change the team; checked again at the change itself."""
    if operates(by):
        return None
    membership = workspace.memberships.filter(user=by).first()
    if membership and membership.manages:
        return None
    return Refusal("invalid-values", "Only admins and the primary change the team.")


def may_be_invited(workspace: Workspace, email: str, role: str) -> Refusal | None:
    if role not in Role.values:
        return invalid_value("role", role, f"one of {', '.join(Role.values)}", check="body")
    if workspace.memberships.filter(user__email__iexact=email).exists():
        return Refusal("invalid-values", f"{email} is a member of {workspace} already.")
    if role == Role.PRIMARY and workspace.memberships.filter(role=Role.PRIMARY).exists():
        return Refusal("invalid-values", f"{workspace} has a primary already: invite an admin or a user.")
    return None


def unusable(invitation: Invitation, *, now: datetime | None) -> Refusal | None:
    """Why an invitation can no longer be accepted; with now=None its age is ignored."""
    workspace = invitation.workspace
    if invitation.accepted_at:
        return Refusal("invalid-values", f"This invitation to {workspace} was used already.")
    if invitation.withdrawn_at:
        return Refusal("invalid-values", f"This invitation to {workspace} was withdrawn.")
    if now is not None and invitation.expires_at <= now:
        return Refusal("invalid-values", f"This invitation to {workspace} has expired.")
    return None


def owns(user: User, email: str) -> bool:
    """Whether an address belongs to this person: the one they sign in with, or one they confirmed."""
    if user.email.lower() == email.lower():
        return True
    return EmailAddress.objects.filter(user=user, email__iexact=email, verified=True).exists()


def not_of_primary(membership: Membership) -> Refusal | None:
    if membership.role != Role.PRIMARY:
        return None
    return Refusal("invalid-values", "The primary cannot be removed and keeps this status.")
