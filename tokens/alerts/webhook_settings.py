"""A workspace's webhook: where its alerts go and the secret that signs them, changed by its managers.

save(workspace=…, url=…, by=…, now=…) -> Saved | Refusal     with the secret when there is a new one
renew_secret(…) -> Saved | Refusal
remove(…) -> None | Refusal
send_test(…) -> str | Refusal                                "" when it was accepted
"""

import asyncio
import secrets
import uuid
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime

from django.db import transaction

from apperate.accounts.audit import trail
from apperate.accounts.models import User, Workspace
from apperate.accounts.preconditions import may_manage
from apperate.database import sealing
from apperate.kernel.refusals import Refusal, invalid_value
from tokens.alert_models import FAULT_MAX, Webhook
from tokens.alerts import webhooks
from tokens.rules.webhook_target import target_of

SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class Saved:
    """The webhook, and its secret when new: it is shown only this once."""

    webhook: Webhook
    secret: str = field(default="", repr=False)


@transaction.atomic
def save(
    *, workspace: Workspace, url: str, by: User | None, now: datetime, address: str = ""
) -> Saved | Refusal:
    """Set the address. The first one comes with a new secret; later ones keep it."""
    if refusal := may_manage(workspace, by):
        return refusal
    if isinstance(fault := target_of(url), str):
        return invalid_value("url", url, fault, check="body")
    webhook = Webhook.objects.select_for_update().filter(workspace=workspace).first()
    before = {"host": host_of(webhook.url)} if webhook else None
    secret = ""
    if webhook is None:
        secret = new_secret()
        webhook = Webhook(workspace=workspace, created_at=now, ciphertext=sealed(secret, workspace))
    webhook.url, webhook.tried_at, webhook.fault = url, None, ""
    webhook.save()
    trail.record(
        "webhook.saved", workspace=workspace, by=by, now=now, target=workspace.name,
        before=before, after={"host": host_of(url)}, address=address,
    )  # fmt: skip
    return Saved(webhook, secret)


@transaction.atomic
def renew_secret(
    *, workspace: Workspace, by: User | None, now: datetime, address: str = ""
) -> Saved | Refusal:
    """Make a new secret, which signs from the next message on."""
    if refusal := may_manage(workspace, by):
        return refusal
    webhook = Webhook.objects.select_for_update().filter(workspace=workspace).first()
    if webhook is None:
        return missing()
    secret = new_secret()
    webhook.ciphertext = sealed(secret, workspace)
    webhook.save(update_fields=["ciphertext"])
    trail.record(
        "webhook.secret_renewed", workspace=workspace, by=by, now=now, target=workspace.name, address=address
    )
    return Saved(webhook, secret)


@transaction.atomic
def remove(*, workspace: Workspace, by: User | None, now: datetime, address: str = "") -> Refusal | None:
    """Stop all messages, including queued ones."""
    if refusal := may_manage(workspace, by):
        return refusal
    webhook = Webhook.objects.select_for_update().filter(workspace=workspace).first()
    if webhook is None:
        return missing()
    webhook.delete()
    trail.record(
        "webhook.removed", workspace=workspace, by=by, now=now, target=workspace.name,
        before={"host": host_of(webhook.url)}, address=address,
    )  # fmt: skip
    return None


def send_test(*, workspace: Workspace, by: User | None, now: datetime, address: str = "") -> str | Refusal:
    """Send a message marked as a test, and wait for its result. Raises UnreadableSecret."""
    if refusal := may_manage(workspace, by):
        return refusal
    webhook = Webhook.objects.filter(workspace=workspace).first()
    if webhook is None:
        return missing()
    secret = sealing.unseal_webhook_secret(webhook.ciphertext, workspace_id=workspace.pk)
    message_id = uuid.uuid4()
    body = webhooks.document("test", message_id, workspace.name, now, {})

    def run() -> str:
        return asyncio.run(webhooks.post(webhook.url, body, message_id=message_id, secret=secret, at=now))

    with ThreadPoolExecutor(1) as pool:  # This thread may already run an event loop.
        fault = pool.submit(run).result()
    # Only for this address: it may have been changed meanwhile.
    Webhook.objects.filter(pk=webhook.pk, url=webhook.url).update(tried_at=now, fault=fault[:FAULT_MAX])
    trail.record(
        "webhook.tested", workspace=workspace, by=by, now=now, target=workspace.name,
        after={"taken": not fault}, address=address,
    )  # fmt: skip
    return fault


def host_of(url: str) -> str:
    """The part of an address that the audit log stores: the rest may hold a key."""
    target = target_of(url)
    return "" if isinstance(target, str) else target.authority


def new_secret() -> str:
    """In the form of Standard Webhooks. Older secrets are 64 hexadecimal digits, also valid base64."""
    return "whsec_" + b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def sealed(secret: str, workspace: Workspace) -> bytes:
    return sealing.seal_webhook_secret(secret, workspace_id=workspace.pk)


def missing() -> Refusal:
    return Refusal("not-found", "The workspace has no webhook.")
