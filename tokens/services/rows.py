"""The rows behind a change to a token: lock, write, and add the audit row.

Each function runs inside the transaction of the service that calls it.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from apperate.accounts.audit.trail import record
from apperate.accounts.models import User, Workspace
from apperate.backup import revocations
from apperate.database import propagation, sealing
from tokens.models import Revision, Secret, SigningSecret, Token
from tokens.rules import signing, token_format
from tokens.rules.permissions import Settings
from tokens.rules.token_format import TokenKind
from tokens.services import saved_settings

PUBLIC_ID_TRIES = 5
# What a restored backup must not forget; each is set by set_field().
NOTED = {
    "token.disabled", "token.enabled", "token.deleted", "token.restored", "token.expiry_set",
}  # fmt: skip


def lock(token: Token) -> Token:
    """The token as it is in the database now; changes by others wait until this transaction ends."""
    # NO KEY: rows that refer to the token, such as its spending, can still be written meanwhile.
    return (
        Token.objects.select_for_update(of=("self",), no_key=True)
        .select_related("workspace")
        .get(pk=token.pk)
    )


def lock_workspace(workspace: Workspace) -> None:
    # Serialises concurrent creations, so that each is counted against the plan.
    Workspace.objects.select_for_update(no_key=True).get(pk=workspace.pk)


def touch(token: Token) -> None:
    """Write the token's row though nothing in it changed: a trigger stamps it, and changes.py finds it."""
    token.save(update_fields=["nickname"])
    propagation.announce_on_commit()


def set_field(
    token: Token, name: str, value: Any, action: str, *, by: User | None, now: datetime, address: str
) -> Token:
    """Write one immediate field of a token and its audit row; an equal value writes nothing."""
    token = lock(token)
    old = getattr(token, name)
    if old == value:
        return token
    setattr(token, name, value)
    token.save(update_fields=[name])
    if name != "nickname":  # No worker decides by it.
        propagation.announce_on_commit()
    audit(
        action,
        token,
        by=by,
        now=now,
        address=address,
        before={name: _plain(old)},
        after={name: _plain(value)},
    )
    if action in NOTED:
        facts = {name: _plain(value)} if action == "token.expiry_set" else {}
        revocations.note(action, now=now, token=token.public_id, **facts)
    return token


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def insert(*, workspace: Workspace, kind: TokenKind, nickname: str, by: User | None, now: datetime) -> Token:
    for _ in range(PUBLIC_ID_TRIES):
        public_id = token_format.new_public_id()
        if not Token.objects.filter(public_id=public_id).exists():
            break
    return Token.objects.create(
        workspace=workspace, public_id=public_id, kind=kind, nickname=nickname, created_at=now, created_by=by
    )


def insert_value(token: Token, value: str, *, now: datetime, **columns: Any) -> None:
    Secret.objects.create(
        token=token,
        digest=token_format.digest(value),
        masked=token_format.mask(value),
        created_at=now,
        **columns,
    )


def ensure_signing_secret(token: Token, *, now: datetime) -> SigningSecret:
    """The secret that signs the token's requests; made on first need, encrypted and bound to its row."""
    found = SigningSecret.objects.filter(token=token).first()
    if found is not None:
        return found
    sealed = sealing.seal_signing_secret(signing.new_secret(), public_id=token.public_id)
    return SigningSecret.objects.create(token=token, ciphertext=sealed, created_at=now)


def insert_revision(
    token: Token, settings: Settings, *, by: User | None, now: datetime, effective_at: datetime
) -> Revision:
    latest = token.revisions.order_by("-number").values_list("number", flat=True).first()
    revision = Revision.objects.create(
        token=token,
        number=(latest or 0) + 1,
        saved_at=now,
        saved_by=by,
        effective_at=effective_at,
        **saved_settings.columns(settings),
    )
    revision.grants.bulk_create(saved_settings.grant_rows(settings, revision))
    return revision


def withdraw(revision: Revision, why: Revision.Withdrawal, *, now: datetime) -> None:
    revision.withdrawn_at, revision.withdrawal = now, why
    revision.save(update_fields=["withdrawn_at", "withdrawal"])


def retire_before(in_force: Revision) -> None:
    in_force.token.revisions.live().filter(number__lt=in_force.number).update(is_past=True)


def changed_words(
    workspace: Workspace, old: Settings, new: Settings
) -> tuple[dict[str, Any], dict[str, Any]]:
    changed = saved_settings.differences(old, new, saved_settings.dataset_names(workspace))
    return {d.field: d.before for d in changed}, {d.field: d.after for d in changed}


def audit(
    action: str,
    token: Token,
    *,
    by: User | None,
    now: datetime,
    address: str,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    record(
        action,
        workspace=token.workspace,
        by=by,
        now=now,
        target=token.public_id,
        before=before,
        after=after,
        address=address,
    )
