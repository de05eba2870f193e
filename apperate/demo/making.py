"""The demo: a workspace with people, data, tokens and a month of usage, made completely or not at all.

    make(reset=False) -> Demo        makes what is missing, even while a server runs
    Demo.document() -> dict          what `manage.py demo --json` prints

The passwords are random per installation and stored in a file of mode 0600 in the data directory.
"""

import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from django.conf import settings
from django.db import transaction
from django.urls import reverse

from apperate.accounts.audit import trail
from apperate.accounts.models import Role, User, Workspace
from apperate.database import sealing
from apperate.database.clock import database_now
from apperate.demo import tokens as demo_tokens
from apperate.demo.content import CORE_NAMES, NAMES, WORKSPACE, DemoFault, make_datasets, remove_datasets
from apperate.demo.usage import make_usage
from datasets.storage import writes
from tokens.models import Secret
from tokens.rules.token_format import TokenKind

# Nobody can own an address of this domain, so an account with one is the demo's.
OWNER, TEAMMATE, OPERATOR = "owner@demo.example", "teammate@demo.example", "operator@demo.example"
PEOPLE = {OWNER: "Maya Okafor", TEAMMATE: "Jonas Lind", OPERATOR: "Operator"}
ROLES = {OWNER: Role.PRIMARY, TEAMMATE: Role.USER}


@dataclass(frozen=True, slots=True)
class Demo:
    """What a person or a program needs for using the demo."""

    passwords: dict[str, str]
    secret_token: str
    publishable_token: str

    def document(self) -> dict[str, Any]:
        url = settings.PUBLIC_URL
        return {
            "url": url,
            "workspace": WORKSPACE,
            "email": OWNER,
            "password": self.passwords[OWNER],
            "admin_email": OPERATOR,
            "admin_password": self.passwords[OPERATOR],
            "secret_token": self.secret_token,
            "publishable_token": self.publishable_token,
            "datasets": list(NAMES),
            "core_datasets": list(CORE_NAMES),
            "tokens_url": url + reverse("tokens:list"),
            "admin_url": url + reverse("admin:index") if settings.ADMIN_ENABLED else None,
            "api_base": f"{url}/v1",
        }


def make(*, reset: bool = False) -> Demo:
    """Make the missing parts of the demo; with `reset`, remove it first. Raises DemoFault."""
    with one_at_a_time():
        passwords = kept_passwords()
        with transaction.atomic():
            writes.lift_time_limits()
            now = database_now()
            workspace = find_workspace(now=now)
            owner = make_people(workspace, passwords, now=now)
            if reset:
                remove(workspace, by=owner, now=now)
            found = make_datasets(workspace, by=owner, now=now)
            made = demo_tokens.make_tokens(workspace, found, by=owner, now=now)
            make_usage(made, found, now=now)
            return describe(workspace, passwords)


def describe(workspace: Workspace, passwords: dict[str, str]) -> Demo:
    secret = Secret.objects.current().get(token__workspace=workspace, token__kind=TokenKind.SECRET)
    # Whoever runs this has the key ring anyway; the page that reveals the value to people is audited.
    value = sealing.unseal_value(secret.ciphertext, public_id=secret.token.public_id, digest=secret.digest)
    public = demo_tokens.find(workspace, demo_tokens.PUBLIC)
    if public is None:
        raise DemoFault("The demo's publishable token is gone; run the command again.")
    return Demo(passwords, value, public.value)


def find_workspace(*, now: datetime) -> Workspace:
    """The demo's workspace, on its plan, made if missing. Raises DemoFault when others have the name."""
    workspace = Workspace.objects.select_for_update().filter(name=WORKSPACE).first()
    if workspace is None:
        made_at = now - timedelta(days=45)
        return Workspace.objects.create(
            name=WORKSPACE, title="Demo workspace", plan="business", has_premium=True, created_at=made_at
        )
    if not workspace.memberships.filter(user__email=OWNER).exists():
        raise DemoFault(f"There is a workspace {WORKSPACE} that is not the demo's; it was left alone.")
    if (workspace.plan, workspace.has_premium) != ("business", True):
        workspace.plan, workspace.has_premium = "business", True
        workspace.save(update_fields=["plan", "has_premium"])
    return workspace


def make_people(workspace: Workspace, passwords: dict[str, str], *, now: datetime) -> User:
    """The accounts with the stored passwords, and their roles in the workspace; returns the owner."""
    for email, name in PEOPLE.items():
        user = User.objects.filter(email=email).first() or User(email=email, name=name)
        user.is_staff = user.is_superuser = email == OPERATOR
        user.is_active = True
        if not user.check_password(passwords[email]):
            user.set_password(passwords[email])
        user.save()
        EmailAddress.objects.get_or_create(
            user=user, email=email, defaults={"verified": True, "primary": True}
        )
    owner = User.objects.get(email=OWNER)
    workspace.memberships.filter(role=Role.PRIMARY).exclude(user=owner).update(role=Role.ADMIN)
    for email, role in ROLES.items():
        user = User.objects.get(email=email)
        workspace.memberships.update_or_create(
            user=user,
            defaults={"role": role},
            create_defaults={"user": user, "role": role, "created_at": now},
        )
    return owner


def remove(workspace: Workspace, *, by: User, now: datetime) -> None:
    """Remove the demo and what people added to it. Its audit log stays: nobody may shorten one."""
    demo_tokens.remove_tokens(workspace)
    remove_datasets(workspace)
    workspace.memberships.exclude(user__email__in=ROLES).delete()
    workspace.invitations.all().delete()
    Authenticator.objects.filter(user__email__in=PEOPLE).delete()
    workspace.save(update_fields=["title"])  # Workers then drop their cached tokens of the workspace.
    trail.record("demo.reset", workspace=workspace, by=by, now=now, target=WORKSPACE)


def kept_passwords() -> dict[str, str]:
    """The password of each account, made once and stored."""
    path = Path(settings.DATA_DIR) / "demo.json"
    try:
        known = json.loads(path.read_text())["passwords"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        known = {}
    passwords = {email: known.get(email) or secrets.token_urlsafe(16) for email in PEOPLE}
    if passwords != known:
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        draft.unlink(missing_ok=True)
        draft.touch(mode=0o600)
        draft.write_text(json.dumps({"passwords": passwords}, indent=1))
        draft.replace(path)
    return passwords


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Only one process of this machine may make the demo at a time; others wait."""
    settings.DATA_DIR.mkdir(parents=True, exist_ok=True)
    with open(settings.DATA_DIR / ".demo.lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
