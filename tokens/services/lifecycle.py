"""Every change to a token: atomic, audited in its transaction, and seen by workers before it is answered.

Workers learn of a change from the token row (a trigger stamps it), so a change to a token's revisions
or values writes that row too. Rules answer with a Refusal. Source: docs/decisions/0003-activation.md.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings as django_settings
from django.db import transaction

from apperate.accounts.models import User, Workspace
from apperate.backup import revocations
from apperate.database import sealing
from apperate.kernel.refusals import Refusal, invalid_value
from tokens.models import Revision, Secret, Token
from tokens.rules import token_format
from tokens.rules.permissions import Settings
from tokens.rules.token_format import TokenKind
from tokens.services import preconditions, rows, saved_settings

TRASH_DAYS = 30

# All settings of a version. Start from saved() and use dataclasses.replace to change some.
SettingsInput = Settings


@dataclass(frozen=True, slots=True)
class Saved:
    """The outcome of a save: the token, and the new version (None: nothing had changed)."""

    token: Token
    revision: Revision | None


@dataclass(frozen=True, slots=True)
class Edit:
    """A value that a form's editor changed: its value when the form was opened, and the new one."""

    was: Any
    becomes: Any


@transaction.atomic
def create_secret_token(
    *, workspace: Workspace, by: User | None, now: datetime, immediately: bool = True, address: str = ""
) -> Token:
    """Make the workspace's one secret token. Raises IntegrityError when it already has one."""
    token = rows.insert(workspace=workspace, kind=TokenKind.SECRET, nickname="", by=by, now=now)
    value = token_format.make(TokenKind.SECRET)
    sealed = sealing.seal_value(value, public_id=token.public_id)
    rows.insert_value(token, value, ciphertext=sealed, now=now)
    effective_at = now if immediately else now + delay()
    rows.insert_revision(token, Settings(), by=by, now=now, effective_at=effective_at)
    rows.audit("token.created", token, by=by, now=now, address=address, after={"kind": token.kind})
    return token


@transaction.atomic
def create_publishable_token(
    *,
    workspace: Workspace,
    by: User | None,
    now: datetime,
    nickname: str = "",
    settings: SettingsInput | None = None,
    active_at_once: bool = False,
    import_value: str | None = None,
    address: str = "",
) -> Token | Refusal:
    """Make a publishable token; its first version takes effect after the activation delay.

    Without `settings` it reads CORE from any domain. `import_value` is a value that deployed apps
    already send. Refuses when the plan's tokens are used up, and whatever save_settings refuses.
    """
    rows.lock_workspace(workspace)
    settings = saved_settings.normal(settings or Settings())
    refusal = (
        preconditions.beyond_plan(workspace)
        or preconditions.refused_settings(workspace, Settings(core_data_access=True), settings)
        or preconditions.refused_import(import_value)
    )
    if refusal:
        return refusal
    token = rows.insert(workspace=workspace, kind=TokenKind.PUBLISHABLE, nickname=nickname, by=by, now=now)
    value = import_value or token_format.make(TokenKind.PUBLISHABLE)
    rows.insert_value(token, value, clear=value, is_imported=import_value is not None, now=now)
    effective_at = now if active_at_once else now + delay()
    rows.insert_revision(token, settings, by=by, now=now, effective_at=effective_at)
    if settings.signed_requests:
        rows.ensure_signing_secret(token, now=now)
    after = {"kind": token.kind, "nickname": nickname, "imported": import_value is not None}
    rows.audit("token.created", token, by=by, now=now, address=address, after=after)
    return token


@transaction.atomic
def duplicate_token(*, token: Token, by: User | None, now: datetime, address: str = "") -> Token | Refusal:
    """Make another publishable token with this one's last saved settings and a new value."""
    if token.is_secret:
        return invalid_value("token", token.public_id, "a publishable token; there is one secret token")
    if token.deleted_at:
        return invalid_value("token", token.public_id, "a token outside the trash")
    settings, _ = saved(token, now=now)
    # Grants on datasets in the trash cannot be made again.
    kept = set(token.workspace.datasets.filter(deleted_at=None).values_list("pk", flat=True))
    grants = {pk: actions for pk, actions in settings.grants.items() if pk in kept}
    copy = create_publishable_token(
        workspace=token.workspace,
        by=by,
        now=now,
        nickname=f"Copy of {token.nickname or token.public_id}"[: token.NICKNAME_MAX],
        settings=replace(settings, grants=grants),
        address=address,
    )
    if isinstance(copy, Token) and token.expires_at:
        set_expiry(token=copy, expires_at=token.expires_at, by=by, now=now, address=address)
    return copy


def saved(token: Token, *, now: datetime) -> tuple[Settings, int | None]:
    """The last saved version and its number: what an edit starts from."""
    revision = token.versions(now=now).saved
    if revision is None:
        return Settings(), None
    return saved_settings.of_revision(revision), revision.number


@transaction.atomic
def save_settings(
    *,
    token: Token,
    changes: SettingsInput,
    by: User | None,
    now: datetime,
    based_on: int | None,
    address: str = "",
) -> Saved | Refusal:
    """Save a version of the settings; it takes effect after the activation delay.

    A pending version is superseded, and the delay starts again. Settings equal to the last saved ones save
    nothing. `based_on` is the number of the version the editor saw (None: whatever is saved now).
    """
    token = rows.lock(token)
    if token.deleted_at or token.is_secret:
        return preconditions.not_editable(token)
    versions = token.versions(now=now)
    changes = saved_settings.normal(changes)
    old = saved_settings.of_revision(versions.saved) if versions.saved else Settings()
    if based_on is not None and (versions.saved is None or versions.saved.number != based_on):
        return preconditions.overtaken(token, versions.saved, based_on)
    if refusal := preconditions.refused_settings(token.workspace, old, changes):
        return refusal
    if versions.saved and changes == old:
        return Saved(token, None)
    if versions.pending:
        rows.withdraw(versions.pending, Revision.Withdrawal.SUPERSEDED, now=now)
    if versions.in_force:
        rows.retire_before(versions.in_force)
    revision = rows.insert_revision(token, changes, by=by, now=now, effective_at=now + delay())
    if changes.signed_requests:
        rows.ensure_signing_secret(token, now=now)
    rows.touch(token)
    before, after = rows.changed_words(token.workspace, old, changes)
    after["effective_at"] = revision.effective_at.isoformat()
    rows.audit("token.settings_saved", token, by=by, now=now, address=address, before=before, after=after)
    revocations.note("token.settings_saved", now=now, token=token.public_id)
    return Saved(token, revision)


@transaction.atomic
def edit_token(
    *,
    token: Token,
    settings: SettingsInput,
    nickname: Edit | None,
    expires_at: Edit | None,
    by: User | None,
    now: datetime,
    based_on: int | None,
    address: str = "",
) -> Saved | Refusal:
    """Save everything on the form, or nothing. Pass `nickname` and `expires_at` only when edited."""
    token = rows.lock(token)
    for label, edit, current in (
        ("Nickname", nickname, token.nickname),
        ("Expiry", expires_at, token.expires_at),
    ):
        if edit and current not in (edit.was, edit.becomes):
            return preconditions.overtaken_field(label, current)
    outcome = save_settings(token=token, changes=settings, by=by, now=now, based_on=based_on, address=address)
    if isinstance(outcome, Refusal):
        return outcome
    if nickname:
        set_nickname(token=token, nickname=nickname.becomes, by=by, now=now, address=address)
    if expires_at:
        set_expiry(token=token, expires_at=expires_at.becomes, by=by, now=now, address=address)
    return outcome


@transaction.atomic
def set_nickname(*, token: Token, nickname: str, by: User | None, now: datetime, address: str = "") -> Token:
    """Name a token; takes effect at once."""
    return rows.set_field(token, "nickname", nickname, "token.renamed", by=by, now=now, address=address)


@transaction.atomic
def set_expiry(
    *, token: Token, expires_at: datetime | None, by: User | None, now: datetime, address: str = ""
) -> Token:
    """Set when a token expires, or None for never; takes effect at once."""
    return rows.set_field(
        token, "expires_at", expires_at, "token.expiry_set", by=by, now=now, address=address
    )


@transaction.atomic
def disable(*, token: Token, by: User | None, now: datetime, address: str = "") -> Token:
    """Refuse every request with this token, at once. A pending version's clock keeps running."""
    if rows.lock(token).disabled_at:
        return rows.lock(token)
    return rows.set_field(token, "disabled_at", now, "token.disabled", by=by, now=now, address=address)


@transaction.atomic
def enable(*, token: Token, by: User | None, now: datetime, address: str = "") -> Token:
    """Let a disabled token work again, at once."""
    return rows.set_field(token, "disabled_at", None, "token.enabled", by=by, now=now, address=address)


@transaction.atomic
def undo_pending(*, token: Token, by: User | None, now: datetime, address: str = "") -> Token | Refusal:
    """Drop the pending version, so that only the one in force counts."""
    token = rows.lock(token)
    versions = token.versions(now=now)
    if versions.pending is None:
        return invalid_value("token", token.public_id, "a token with a pending change", check="active")
    if versions.in_force is None:
        return invalid_value(
            "token", token.public_id, "a token that has been active; a new one has nothing to go back to"
        )
    rows.withdraw(versions.pending, Revision.Withdrawal.UNDONE, now=now)
    rows.touch(token)
    before = {"revision": versions.pending.number}
    rows.audit("token.change_undone", token, by=by, now=now, address=address, before=before)
    return token


@transaction.atomic
def apply_now(*, token: Token, by: User | None, now: datetime, address: str = "") -> Token | Refusal:
    """Put the pending version in force early."""
    token = rows.lock(token)
    pending = token.versions(now=now).pending
    if pending is None:
        return invalid_value("token", token.public_id, "a token with a pending change", check="active")
    # After the clock was set back, a version may have been saved "later" than now; it must not delay this.
    pending.effective_at, pending.saved_at = now, min(now, pending.saved_at)
    pending.save(update_fields=["effective_at", "saved_at"])
    rows.touch(token)
    after = {"revision": pending.number}
    rows.audit("token.change_applied", token, by=by, now=now, address=address, after=after)
    return token


@transaction.atomic
def delete_token(*, token: Token, by: User | None, now: datetime, address: str = "") -> Token | Refusal:
    """Move a token to the trash for 30 days; every request with it is refused at once."""
    if token.is_secret:
        return invalid_value("token", token.public_id, "a publishable token; the secret one can be disabled")
    if rows.lock(token).deleted_at:
        return rows.lock(token)
    return rows.set_field(token, "deleted_at", now, "token.deleted", by=by, now=now, address=address)


@transaction.atomic
def restore_token(*, token: Token, by: User | None, now: datetime, address: str = "") -> Token | Refusal:
    """Restore a token from the trash, unchanged. Refuses after 30 days and beyond the plan's tokens."""
    rows.lock_workspace(token.workspace)
    token = rows.lock(token)
    if token.deleted_at is None:
        return token
    if now - token.deleted_at > timedelta(days=TRASH_DAYS):
        return invalid_value("token", token.public_id, f"a token deleted at most {TRASH_DAYS} days ago")
    if refusal := preconditions.beyond_plan(token.workspace):
        return refusal
    return rows.set_field(token, "deleted_at", None, "token.restored", by=by, now=now, address=address)


@transaction.atomic
def reveal_secret(*, token: Token, by: User | None, now: datetime, address: str) -> str:
    """Return the secret token's value, and record who saw it. Raises keyring.UnreadableSecret."""
    secret = Secret.objects.current().get(token=token, ciphertext__isnull=False)
    value = sealing.unseal_value(secret.ciphertext, public_id=token.public_id, digest=secret.digest)
    rows.audit("token.secret_revealed", token, by=by, now=now, address=address)
    return value


@transaction.atomic
def reveal_signing_secret(*, token: Token, by: User | None, now: datetime, address: str) -> str:
    """Return the secret that signs a publishable token's requests, and record who saw it.

    It is made if missing. Raises keyring.UnreadableSecret.
    """
    token = rows.lock(token)
    made = rows.ensure_signing_secret(token, now=now)
    if made.created_at == now:
        rows.touch(token)
    secret = sealing.unseal_signing_secret(made.ciphertext, public_id=token.public_id)
    rows.audit("token.signing_secret_revealed", token, by=by, now=now, address=address)
    return secret


def delay() -> timedelta:
    """How long a saved version waits before it takes effect."""
    return timedelta(seconds=django_settings.ACTIVATION_SECONDS)
