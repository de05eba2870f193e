"""A complete workspace: the row, its secret token and its owner. Above the apps, because it needs both."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar

from django.db import transaction

from apperate.accounts import services as people
from apperate.accounts.audit import trail
from apperate.accounts.models import Membership, Role, User, Workspace
from apperate.kernel.refusals import Refusal
from tokens.services.lifecycle import create_secret_token

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Created:
    """A new workspace, and the owner's invitation link; no link when the owner got a password at once.

    `mail_fault` says why the link could not be sent: somebody has to pass it on.
    """

    workspace: Workspace
    url: str | None
    mail_fault: str = ""


class Refused(Exception):
    """Rolls back the transaction of a workspace that cannot be completed."""

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal


def create_workspace(
    *,
    name: str,
    title: str,
    plan: str | None,
    owner_email: str,
    by: User | None,
    now: datetime,
    password: str | None = None,
    address: str = "",
) -> Created | Refusal:
    """Make a workspace with its secret token and invite its owner as primary, or nothing at all.

    With `password` the owner's account is made at once, without an e-mail; the caller has checked it.
    """
    made: Created | None = None
    try:
        with transaction.atomic():
            workspace = kept(
                people.create_workspace_row(
                    name=name, title=title, plan=plan, by=by, now=now, address=address
                )
            )
            create_secret_token(workspace=workspace, by=by, now=now)
            if password is not None:
                add_owner(workspace, owner_email, password, now=now)
                return Created(workspace, None)
            invited = kept(
                people.invite(
                    workspace=workspace,
                    email=owner_email,
                    role=Role.PRIMARY,
                    by=by,
                    now=now,
                    address=address,
                )
            )
            made = Created(workspace, invited.url)
        return made
    except Refused as refused:
        return refused.refusal
    except OSError as error:
        if made is None:
            raise
        return replace(made, mail_fault=str(error))  # It was saved; the message comes after that.


def kept(outcome: T | Refusal) -> T:
    if isinstance(outcome, Refusal):
        raise Refused(outcome)
    return outcome


def add_owner(workspace: Workspace, email: str, password: str, *, now: datetime) -> None:
    user = kept(people.create_person(email=email, name="", password=password))
    Membership.objects.create(workspace=workspace, user=user, role=Role.PRIMARY, created_at=now)
    trail.record(
        "member.joined",
        workspace=workspace,
        by=user,
        now=now,
        target=user.email,
        after={"role": Role.PRIMARY.value},
    )
