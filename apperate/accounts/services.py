"""Every change to a workspace's people, atomic and audited in its transaction. A "no" is a Refusal.

`by` is the person who acts; None means the system, for example a command.
"""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from allauth.account.models import EmailAddress
from django.conf import settings
from django.db import transaction

from apperate.accounts import preconditions
from apperate.accounts.audit import trail
from apperate.accounts.models import Invitation, Membership, Role, User, Workspace
from apperate.accounts.plans import PLANS
from apperate.accounts.sign_in import mail
from apperate.accounts.sign_in.adapter import public_address
from apperate.backup import revocations
from apperate.kernel.refusals import Refusal, invalid_value


@dataclass(frozen=True, slots=True)
class Invited:
    """An invitation and its link. The link is available only now: the row stores its digest."""

    invitation: Invitation
    url: str


# --- workspaces ---------------------------------------------------------------------------------------


@transaction.atomic
def create_workspace_row(
    *, name: str, title: str, plan: str | None, by: User | None, now: datetime, address: str = ""
) -> Workspace | Refusal:
    """Make a workspace without members or tokens; team.services.create_workspace makes a complete one.

    The name becomes upper-case. Only operators make CORE and PREMIUM. The default plan is business for the
    installation's first workspace and launch for the others.
    """
    name = name.strip().upper()
    if refusal := preconditions.workspace_name(name, by):
        return refusal
    if plan is None:
        plan = "launch" if Workspace.objects.filter(is_system=False).exists() else "business"
    if plan not in PLANS:
        return invalid_value("plan", plan, f"one of {', '.join(PLANS)}", check="body")
    workspace = Workspace.objects.create(
        name=name,
        title=title.strip() or name,
        plan=plan,
        is_system=name in preconditions.SYSTEM_NAMES,
        created_at=now,
    )
    after = {"name": name, "title": workspace.title, "plan": plan}
    trail.record(
        "workspace.created", workspace=workspace, by=by, now=now, target=name, after=after, address=address
    )
    return workspace


# --- invitations --------------------------------------------------------------------------------------


def digest_of(token: str) -> bytes:
    """The digest that a link is looked up by; 256 random bits need no salt."""
    return hashlib.sha256(token.encode()).digest()


@transaction.atomic
def invite(
    *, workspace: Workspace, email: str, role: str, by: User | None, now: datetime, address: str = ""
) -> Invited | Refusal:
    """Make an invitation and send its link once the transaction is committed.

    An earlier pending invitation to the address is withdrawn, so only the latest link works. Raises
    OSError at the commit when the message cannot be sent; by then the invitation is saved.
    """
    email = email.strip().lower()
    if refusal := preconditions.may_manage(workspace, by) or preconditions.may_be_invited(
        workspace, email, role
    ):
        return refusal
    earlier = workspace.invitations.pending(now=now).filter(email=email)
    for invitation in earlier:
        note_ended(invitation, now=now)
    earlier.update(withdrawn_at=now)
    token = secrets.token_urlsafe(32)
    invitation = Invitation.objects.create(
        workspace=workspace,
        email=email,
        role=role,
        digest=digest_of(token),
        invited_by=by,
        created_at=now,
        expires_at=now + timedelta(days=settings.INVITATION_DAYS),
    )
    trail.record(
        "member.invited",
        workspace=workspace,
        by=by,
        now=now,
        target=email,
        after={"role": role},
        address=address,
    )
    return sent(invitation, token)


@transaction.atomic
def resend_invitation(
    *, invitation: Invitation, by: User | None, now: datetime, address: str = ""
) -> Invited | Refusal:
    """Send a new link with the full validity period; the old link stops working."""
    invitation = Invitation.objects.select_for_update().get(pk=invitation.pk)
    if refusal := preconditions.may_manage(invitation.workspace, by) or preconditions.unusable(
        invitation, now=None
    ):
        return refusal
    note_ended(invitation, now=now)
    token = secrets.token_urlsafe(32)
    invitation.digest = digest_of(token)
    invitation.expires_at = now + timedelta(days=settings.INVITATION_DAYS)
    invitation.save(update_fields=["digest", "expires_at"])
    trail.record(
        "invitation.resent",
        workspace=invitation.workspace,
        by=by,
        now=now,
        target=invitation.email,
        address=address,
    )
    return sent(invitation, token)


@transaction.atomic
def withdraw_invitation(
    *, invitation: Invitation, by: User | None, now: datetime, address: str = ""
) -> Invitation | Refusal:
    """Invalidate an invitation's link."""
    invitation = Invitation.objects.select_for_update().get(pk=invitation.pk)
    if refusal := preconditions.may_manage(invitation.workspace, by) or preconditions.unusable(
        invitation, now=None
    ):
        return refusal
    invitation.withdrawn_at = now
    invitation.save(update_fields=["withdrawn_at"])
    note_ended(invitation, now=now)
    trail.record(
        "invitation.withdrawn",
        workspace=invitation.workspace,
        by=by,
        now=now,
        target=invitation.email,
        address=address,
    )
    return invitation


def note_ended(invitation: Invitation, *, now: datetime) -> None:
    """The link that was sent must not work again when a backup is restored."""
    revocations.note("invitation.ended", now=now, digests=revocations.digests([invitation.digest]))


def sent(invitation: Invitation, token: str) -> Invited:
    """Send the link once the transaction is committed: no link may lead to a row that was rolled back."""
    url = public_address("invitation_accept", token)
    transaction.on_commit(lambda: mail.send_invitation(invitation, url))
    return Invited(invitation, url)


def find_invitation(token: str) -> Invitation | None:
    """The invitation that a link belongs to, whatever its state."""
    return (
        Invitation.objects.select_related("workspace", "invited_by").filter(digest=digest_of(token)).first()
    )


# --- joining ------------------------------------------------------------------------------------------


@transaction.atomic
def accept_invitation(
    *,
    token: str,
    now: datetime,
    user: User | None = None,
    name: str = "",
    password: str = "",
    address: str = "",
) -> Membership | Refusal:
    """Make the invited person a member: the signed-in `user`, or a new one with name and password."""
    invitation = Invitation.objects.select_for_update().filter(digest=digest_of(token)).first()
    if invitation is None:
        return Refusal("not-found", "This link belongs to no invitation, or a newer one was sent.")
    if refusal := preconditions.unusable(invitation, now=now):
        return refusal
    if user is None:
        made = create_person(email=invitation.email, name=name, password=password)
        if isinstance(made, Refusal):
            return made
        user = made
    elif not preconditions.owns(user, invitation.email):
        return Refusal(
            "invalid-values",
            f"This invitation was sent to {invitation.email}, and you are signed in as {user.email}.",
        )
    membership = join(invitation, user, now=now)
    invitation.accepted_at = now
    invitation.save(update_fields=["accepted_at"])
    trail.record(
        "member.joined",
        workspace=invitation.workspace,
        by=user,
        now=now,
        target=user.email,
        after={"role": membership.role},
        address=address,
    )
    note_member("member.joined", membership, now=now)
    return membership


def join(invitation: Invitation, user: User, *, now: datetime) -> Membership:
    """The membership an invitation promises; somebody who is already a member keeps their role."""
    # The workspace's row is locked, so that two invited primaries cannot both find the role vacant.
    workspace = Workspace.objects.select_for_update().get(pk=invitation.workspace_id)
    role = invitation.role
    if role == Role.PRIMARY and workspace.memberships.filter(role=Role.PRIMARY).exists():
        role = Role.ADMIN
    membership, _ = Membership.objects.get_or_create(
        workspace=workspace, user=user, defaults={"role": role, "created_at": now}
    )
    return membership


def create_person(*, email: str, name: str, password: str) -> User | Refusal:
    """A new account. Its address counts as confirmed, because the link was sent there."""
    email = email.lower()
    if User.objects.filter(email__iexact=email).exists():
        return Refusal("invalid-values", f"{email} has an account already: sign in with it.")
    user = User.objects.create_user(email, password, name=name.strip())
    EmailAddress.objects.create(user=user, email=email, verified=True, primary=True)
    return user


# --- members ------------------------------------------------------------------------------------------


@transaction.atomic
def change_role(
    *, membership: Membership, role: str, by: User | None, now: datetime, address: str = ""
) -> Membership | Refusal:
    """Grant or revoke Admin. The primary stays primary, and nobody becomes primary this way."""
    membership = locked(membership)
    if refusal := preconditions.may_manage(membership.workspace, by) or preconditions.not_of_primary(
        membership
    ):
        return refusal
    if role not in {Role.ADMIN, Role.USER}:
        return invalid_value("role", role, "admin or user", check="body")
    before, membership.role = membership.role, role
    if before != role:
        membership.save(update_fields=["role"])
        trail.record(
            "member.role_changed",
            workspace=membership.workspace,
            by=by,
            now=now,
            target=membership.user.email,
            before={"role": before},
            after={"role": role},
            address=address,
        )
        note_member("member.role_changed", membership, now=now)
    return membership


@transaction.atomic
def remove_member(
    *, membership: Membership, by: User | None, now: datetime, address: str = ""
) -> Membership | Refusal:
    """Remove a person from a workspace. Their sessions lose it from the next request on."""
    membership = locked(membership)
    if refusal := preconditions.may_manage(membership.workspace, by) or preconditions.not_of_primary(
        membership
    ):
        return refusal
    trail.record(
        "member.removed",
        workspace=membership.workspace,
        by=by,
        now=now,
        target=membership.user.email,
        before={"role": membership.role},
        address=address,
    )
    note_member("member.removed", membership, now=now)
    membership.delete()
    return membership


def note_member(what: str, membership: Membership, *, now: datetime) -> None:
    """What a restored backup must not forget."""
    revocations.note(
        what, now=now, workspace=membership.workspace.name, user=membership.user_id, role=membership.role
    )


def locked(membership: Membership) -> Membership:
    return (
        Membership.objects.select_for_update(of=("self",))
        .select_related("workspace", "user")
        .get(pk=membership.pk)
    )
