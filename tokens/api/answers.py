"""The Tokens API without its HTTP layer: what each operation answers for the caller's workspace.

Each function runs in a thread, takes the workspace and a parsed JSON body, and returns a document or a
Refusal. Another workspace's token and a missing one get the same refusal. Source: docs/api.md, Tokens.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Q

from apperate.accounts.models import Workspace
from apperate.kernel import cursors
from apperate.kernel.refusals import REFUSALS, Refusal
from tokens import selectors
from tokens.api import bodies, documents
from tokens.gate import refusal_log
from tokens.models import Token
from tokens.rules.vocabulary import OVERLAP_SECONDS, OVERLAPS
from tokens.services import lifecycle, preconditions, rotation, rows, saved_settings
from tokens.services.lifecycle import Edit
from tokens.usage import series

LIMIT_MAX = 500
CREATED = ("nickname", "settings", "expiresAt", "importValue")
EDITED = ("nickname", "settings", "expiresAt")
Document = dict[str, Any]


def find(workspace: Workspace, public_id: str, *, now: datetime) -> Token | Refusal:
    """A token of the workspace, including the trash."""
    tokens = selectors.of_workspace(workspace, now=now, with_grants=True).select_related(
        "created_by", "workspace"
    )
    is_one = public_id.isascii() and public_id.isprintable()
    token = tokens.filter(public_id=public_id).first() if is_one else None
    return token or no_token(public_id)


def no_token(public_id: str) -> Refusal:
    return Refusal(
        "not-found",
        "The workspace has no token with this id.",
        check="path",
        received=ascii(public_id[:40])[1:-1],
        needed="the id of a token of the workspace, such as tok_8f3k2m9q",
    )


def own(token_id: int, *, now: datetime) -> Document:
    """GET /token: the calling token's permissions and usage."""
    workspace = Workspace.objects.get(tokens__pk=token_id)
    token = (
        selectors.of_workspace(workspace, now=now, with_grants=True)
        .select_related("created_by")
        .get(pk=token_id)
    )
    return documents.own_document(token, saved_settings.dataset_names(workspace), now=now)


def read(workspace: Workspace, public_id: str, *, now: datetime) -> Document | Refusal:
    """GET /tokens/ID."""
    token = find(workspace, public_id, now=now)
    if isinstance(token, Refusal):
        return token
    return documents.token_document(token, saved_settings.dataset_names(workspace), now=now)


def listed(
    workspace: Workspace, *, limit: int, cursor: str, in_trash: bool, now: datetime
) -> tuple[list[Document], str] | Refusal:
    """GET /tokens: a page, oldest first, and the next page's cursor ("" at the end)."""
    tokens = selectors.of_workspace(workspace, now=now, with_grants=True).select_related(
        "created_by", "workspace"
    )
    kind = "trash" if in_trash else ""
    tokens = selectors.filtered(tokens, kind=kind, query="", now=now)
    if cursor:
        place = _place(cursor, kind)
        if place is None:
            needed = "the Apperate-Next-Cursor of an answer to the same query"
            return bodies.wrong("cursor", needed, cursor)
        at, pk = place
        tokens = tokens.filter(Q(created_at__gt=at) | Q(created_at=at, pk__gt=pk))
    found = list(tokens[: limit + 1])
    names = saved_settings.dataset_names(workspace)
    page = [documents.token_document(token, names, now=now) for token in found[:limit]]
    return page, _cursor(found[limit - 1], kind) if len(found) > limit else ""


def last_refusals(workspace: Workspace, public_id: str, *, now: datetime) -> list[Document] | Refusal:
    """GET /tokens/ID/refusals: newest first."""
    token = find(workspace, public_id, now=now)
    if isinstance(token, Refusal):
        return token
    refusals = refusal_log.last(token)
    names = series.dataset_names([row.dataset_id for row in refusals])
    return [
        {
            "code": row.code,
            "title": REFUSALS[row.code][1],
            "dataset": names.get(row.dataset_id),
            "site": row.site or None,
            "calls": row.calls,
            "firstAt": documents.moment(row.first_at),
            "lastAt": documents.moment(row.last_at),
            "docs": f"/docs/errors/#{row.code}",
        }
        for row in refusals
        if row.code in REFUSALS
    ]


def create(workspace: Workspace, body: Any, *, now: datetime, address: str) -> Document | Refusal:
    """POST /tokens."""
    changes = bodies.parse(body, fields=CREATED, dataset_ids=_ids_of(workspace))
    if isinstance(changes, Refusal):
        return changes
    with transaction.atomic():
        token = lifecycle.create_publishable_token(
            workspace=workspace,
            by=None,
            now=now,
            nickname=changes.nickname,
            settings=changes.applied(lifecycle.SettingsInput()),
            import_value=changes.import_value,
            address=address,
        )
        if isinstance(token, Refusal):
            return token
        if changes.expires_at:
            lifecycle.set_expiry(
                token=token, expires_at=changes.expires_at, by=None, now=now, address=address
            )
    return read(workspace, token.public_id, now=now)


def edit(
    workspace: Workspace, public_id: str, body: Any, *, now: datetime, address: str
) -> Document | Refusal:
    """PATCH /tokens/ID: settings become a new version; nickname and expiry apply at once. All or nothing."""
    token = find(workspace, public_id, now=now)
    if isinstance(token, Refusal):
        return token
    fields = ("nickname",) if token.is_secret else EDITED
    changes = bodies.parse(body, fields=fields, dataset_ids=_ids_of(workspace))
    if isinstance(changes, Refusal):
        return changes
    with transaction.atomic():
        locked = rows.lock(token)
        outcome = (
            preconditions.not_editable(locked)
            if locked.deleted_at
            else _edited(locked, changes, now=now, address=address)
        )
        if isinstance(outcome, Refusal):
            transaction.set_rollback(True)
            return outcome
    return read(workspace, public_id, now=now)


def _edited(token: Token, changes: bodies.Changes, *, now: datetime, address: str) -> Refusal | object:
    """Save the body's changes, under the token's lock."""
    nickname = Edit(token.nickname, changes.nickname) if "nickname" in changes.given else None
    expires_at = Edit(token.expires_at, changes.expires_at) if "expiresAt" in changes.given else None
    if "settings" not in changes.given:
        if nickname:
            lifecycle.set_nickname(token=token, nickname=changes.nickname, by=None, now=now, address=address)
        if expires_at:
            lifecycle.set_expiry(
                token=token, expires_at=changes.expires_at, by=None, now=now, address=address
            )
        return token
    saved, _ = lifecycle.saved(token, now=now)
    return lifecycle.edit_token(
        token=token,
        settings=changes.applied(saved),
        nickname=nickname,
        expires_at=expires_at,
        by=None,
        now=now,
        based_on=None,
        address=address,
    )


# Operations that need only the token's id.
AT_ONCE: Mapping[str, Callable[..., Token | Refusal]] = {
    "apply-now": lifecycle.apply_now,
    "undo": lifecycle.undo_pending,
    "disable": lifecycle.disable,
    "enable": lifecycle.enable,
    "restore": lifecycle.restore_token,
    "duplicate": lifecycle.duplicate_token,
}


def do(
    workspace: Workspace, public_id: str, what: str, body: Any, *, now: datetime, address: str
) -> Document | Refusal:
    """POST /tokens/ID/WHAT: the token as it is afterwards; `duplicate` answers with the copy."""
    token = find(workspace, public_id, now=now)
    if isinstance(token, Refusal):
        return token
    if refusal := bodies.nothing(body):
        return refusal
    outcome = AT_ONCE[what](token=token, by=None, now=now, address=address)
    return outcome if isinstance(outcome, Refusal) else read(workspace, outcome.public_id, now=now)


def rotate(
    workspace: Workspace, public_id: str, body: Any, *, now: datetime, address: str
) -> Document | Refusal:
    """POST /tokens/ID/rotate: the token with its new value in full, only this once."""
    token = find(workspace, public_id, now=now)
    if isinstance(token, Refusal):
        return token
    if not isinstance(body, dict):
        return bodies.wrong("body", "a JSON object", body)
    if refusal := bodies.unknown_fields(body, ("overlapSeconds",)):
        return refusal
    seconds = body.get("overlapSeconds", OVERLAP_SECONDS)
    if type(seconds) is not int:
        return bodies.wrong("overlapSeconds", "one of " + ", ".join(map(str, OVERLAPS)), seconds)
    rotated = rotation.rotate(token=token, overlap_seconds=seconds, by=None, now=now, address=address)
    if isinstance(rotated, Refusal):
        return rotated
    document = read(workspace, public_id, now=now)
    if isinstance(document, Refusal):
        return document
    return document | {
        "token": rotated.value,
        "oldValueEndsAt": documents.moment(rotated.old_value_ends_at),
    }


def delete(workspace: Workspace, public_id: str, *, now: datetime, address: str) -> Document | Refusal:
    """DELETE /tokens/ID: to the trash."""
    token = find(workspace, public_id, now=now)
    if isinstance(token, Refusal):
        return token
    outcome = lifecycle.delete_token(token=token, by=None, now=now, address=address)
    if isinstance(outcome, Refusal):
        return outcome
    days = lifecycle.TRASH_DAYS
    return {
        "success": True,
        "message": f"{public_id} is in the trash. It can be restored for {days} days.",
    }


def without_value(document: Document) -> Document:
    """An answer as it is stored for a repeated request: the value is stored with the token only."""
    return document | {"token": None}


def with_value(workspace: Workspace, document: Document, *, now: datetime) -> Document | Refusal:
    """The stored answer, with the value filled in again."""
    token = find(workspace, document["id"], now=now)
    return token if isinstance(token, Refusal) else document | {"token": documents.shown_value(token)}


def _ids_of(workspace: Workspace) -> Callable[[list[str]], dict[str, int]]:
    kept = workspace.datasets.filter(deleted_at=None)

    def ids(names: list[str]) -> dict[str, int]:
        storable = [name for name in names if name.isascii() and name.isprintable()]
        return dict(kept.filter(name__in=storable).values_list("name", "pk"))

    return ids


def _cursor(token: Token, kind: str) -> str:
    return cursors.write([kind, token.created_at.isoformat(), token.pk])


def _place(cursor: str, kind: str) -> tuple[datetime, int] | None:
    """The token after which a page begins; None when the cursor is damaged or from another list."""
    try:
        asked, at, pk = cursors.read(cursor) or []
        created_at = datetime.fromisoformat(at)
    except (ValueError, TypeError):
        return None
    is_one = asked == kind and type(pk) is int and 0 < pk < 2**63 and created_at.tzinfo is not None
    return (created_at, pk) if is_one else None
