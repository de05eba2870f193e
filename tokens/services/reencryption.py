"""reencrypt(): re-encrypts every stored secret with the key ring's first key; all keys still decrypt.

Small transactions, one locked row at a time: requests continue meanwhile, and an interrupted run is simply
run again. Source: docs/operating.md; docs/security-checks.md S02.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from allauth.mfa.models import Authenticator
from django.db import transaction

from apperate.database import sealing
from apperate.kernel.keyring import UnreadableSecret
from tokens.alert_models import Webhook
from tokens.models import Secret, SigningSecret


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a run. `unreadable` names what no key decrypts, tokens by their public id."""

    encrypted: int
    unchanged: int
    unreadable: tuple[str, ...]


def reencrypt() -> Outcome:
    """Re-encrypt what is not under the first key; check that the rest can be read."""
    encrypted, unchanged = 0, 0
    unreadable: list[str] = []
    for public_id, step in _steps():
        try:
            if step():
                encrypted += 1
            else:
                unchanged += 1
        except UnreadableSecret:
            unreadable.append(public_id)
    return Outcome(encrypted, unchanged, tuple(dict.fromkeys(unreadable)))


def _steps() -> Iterator[tuple[str, Callable[[], bool]]]:
    """One step per stored secret, which returns whether it wrote the row."""
    values = Secret.objects.filter(ciphertext__isnull=False).order_by("pk")
    for pk, public_id in values.values_list("pk", "token__public_id"):
        yield public_id, lambda pk=pk, public_id=public_id: _value(pk, public_id)  # type: ignore[misc]
    for pk, public_id in SigningSecret.objects.order_by("pk").values_list("pk", "token__public_id"):
        yield public_id, lambda pk=pk, public_id=public_id: _signing_secret(pk, public_id)  # type: ignore[misc]
    for webhook in Webhook.objects.select_related("workspace").order_by("pk"):
        yield str(webhook), lambda pk=webhook.pk: _webhook_secret(pk)  # type: ignore[misc]
    for pk, email in Authenticator.objects.order_by("pk").values_list("pk", "user__email"):
        yield f"the second factor of {email}", lambda pk=pk: _factor(pk)  # type: ignore[misc]


@transaction.atomic
def _value(pk: int, public_id: str) -> bool:
    row = Secret.objects.select_for_update(no_key=True).filter(pk=pk, ciphertext__isnull=False).first()
    if row is None or row.ciphertext is None:
        return False
    value = sealing.unseal_value(row.ciphertext, public_id=public_id, digest=row.digest)
    if not sealing.keys().needs_rotation(row.ciphertext):
        return False
    row.ciphertext = sealing.seal_value(value, public_id=public_id)
    row.save(update_fields=["ciphertext"])
    return True


@transaction.atomic
def _signing_secret(pk: int, public_id: str) -> bool:
    row = SigningSecret.objects.select_for_update(no_key=True).filter(pk=pk).first()
    if row is None:
        return False
    secret = sealing.unseal_signing_secret(row.ciphertext, public_id=public_id)
    if not sealing.keys().needs_rotation(row.ciphertext):
        return False
    row.ciphertext = sealing.seal_signing_secret(secret, public_id=public_id)
    row.save(update_fields=["ciphertext"])
    return True


@transaction.atomic
def _webhook_secret(pk: int) -> bool:
    row = Webhook.objects.select_for_update(no_key=True).filter(pk=pk).first()
    if row is None:
        return False
    secret = sealing.unseal_webhook_secret(row.ciphertext, workspace_id=row.workspace_id)
    if not sealing.keys().needs_rotation(row.ciphertext):
        return False
    row.ciphertext = sealing.seal_webhook_secret(secret, workspace_id=row.workspace_id)
    row.save(update_fields=["ciphertext"])
    return True


@transaction.atomic
def _factor(pk: int) -> bool:
    row = Authenticator.objects.select_for_update(no_key=True).filter(pk=pk).first()
    if row is None:
        return False
    kept = {name: row.data[name] for name in ("secret", "seed") if name in row.data}
    plain = {name: sealing.unseal_factor(text) for name, text in kept.items()}
    stale = [name for name, text in kept.items() if _is_stale_factor(text)]
    row.data |= {name: sealing.seal_factor(plain[name]) for name in stale}
    if stale:
        row.save(update_fields=["data"])
    return bool(stale)


def _is_stale_factor(text: str) -> bool:
    is_sealed = text.startswith(sealing.FACTOR_MARK)
    return not is_sealed or sealing.keys().needs_rotation(sealing.factor_blob(text))
