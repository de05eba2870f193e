"""Audits what people do to their own account: second factor, addresses, signing out.

allauth's pages do the work and send these signals; sign-ins and passwords are audited in sign_in/adapter.py.
A factor's own signals come after the commit, so its rows are watched instead: they are written before it.
"""

from typing import Any

from allauth.account.signals import email_added, email_changed, email_removed
from allauth.mfa.models import Authenticator
from allauth.mfa.signals import authentication_failed
from django.contrib.auth.signals import user_logged_out
from django.db.models.signals import post_delete, post_save

from apperate.accounts.audit import trail
from apperate.accounts.models import User
from apperate.database.clock import database_now


def connect() -> None:
    """Connect the signals; called once, when the app is ready."""
    user_logged_out.connect(signed_out)
    email_added.connect(address_added)
    email_changed.connect(address_changed)
    email_removed.connect(address_removed)
    post_save.connect(factor_saved, sender=Authenticator)
    post_delete.connect(factor_removed, sender=Authenticator)
    authentication_failed.connect(code_failed)


def record(action: str, user: User, **facts: Any) -> None:
    trail.record_person(action, of=user, by=user, now=database_now(), **facts)


def signed_out(user: User | None, **_: Any) -> None:
    if user is not None:
        record("sign_out.done", user)


def address_added(user: User, email_address: Any, **_: Any) -> None:
    record("email.added", user, after={"email": email_address.email})


def address_changed(user: User, from_email_address: Any, to_email_address: Any, **_: Any) -> None:
    before = {"email": from_email_address.email} if from_email_address else None
    record("email.changed", user, before=before, after={"email": to_email_address.email})


def address_removed(user: User, email_address: Any, **_: Any) -> None:
    record("email.removed", user, before={"email": email_address.email})


def factor_saved(instance: Any, created: bool, **_: Any) -> None:
    # Each use of a factor saves it again.
    if created:
        record("factor.added", instance.user, after={"kind": str(instance.type)})


def factor_removed(instance: Any, **_: Any) -> None:
    record("factor.removed", instance.user, before={"kind": str(instance.type)})


def code_failed(user: User, **_: Any) -> None:
    trail.record_person("sign_in.code_failed", of=user, by=None, now=database_now())
