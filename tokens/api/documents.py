"""A token as the Tokens API shows it: the Token object and its parts. Source: docs/api.md, Tokens.

token_document(token, names, now=…) -> dict     a token from selectors.of_workspace()
own_document(token, names, now=…) -> dict       what GET /v1/token shows the token's holder
moment(at) -> "2026-11-23T20:00:00Z"
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from apperate.database.clock import next_month
from tokens import selectors
from tokens.models import Revision, Token
from tokens.rules import settings_table
from tokens.rules.permissions import Action, Settings
from tokens.rules.settings_table import SETTINGS, with_permissions
from tokens.services import saved_settings


def moment(at: datetime | None) -> str | None:
    """A UTC time to the second, or null."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if at else None


def token_document(token: Token, names: Mapping[int, str], *, now: datetime) -> dict[str, Any]:
    """The Token object. `names`: dataset id → name; a secret token's value is masked."""
    row = selectors.row(token, now=now)
    return {
        "id": token.public_id,
        "type": token.kind,
        "nickname": token.nickname,
        "token": shown_value(token),
        "status": row.status.value,
        "createdAt": moment(token.created_at),
        "createdBy": token.created_by.email if token.created_by else None,
        "lastUsedAt": moment(row.last_used_at),
        "expiresAt": moment(token.expires_at),
        **_versions(token, names, now=now),
        "usage": _usage(row.usage, now=now),
    }


def shown_value(token: Token) -> str:
    """The value of a publishable token; a secret one's is masked."""
    return token.masked if token.is_secret else token.value


def own_document(token: Token, names: Mapping[int, str], *, now: datetime) -> dict[str, Any]:
    """What a token may know about itself: all but its creator and its value."""
    whole = token_document(token, names, now=now)
    left_out = ("token", "createdBy")
    return {"workspace": token.workspace.name} | {
        name: value for name, value in whole.items() if name not in left_out
    }


def settings_document(settings: Settings, names: Mapping[int, str]) -> dict[str, Any]:
    """One version of the settings. Grants on datasets in the trash are left out."""
    granted = {names[pk]: _actions(actions) for pk, actions in settings.grants.items() if pk in names}
    columns = settings_table.stored(settings)
    told = [(setting.api_name, columns[setting.name]) for setting in SETTINGS]
    permissions = [
        ("datasets", dict(sorted(granted.items()))),
        ("allDatasets", _actions(settings.all_datasets)),
    ]
    return dict(with_permissions(told, *permissions))


def _versions(token: Token, names: Mapping[int, str], *, now: datetime) -> dict[str, Any]:
    """The settings in force, null while there are none; and the pending ones, with their time."""
    versions = token.versions(now=now)

    def described(revision: Revision) -> dict[str, Any]:
        return settings_document(saved_settings.of_revision(revision), names)

    pending = versions.pending
    return {
        "settings": described(versions.in_force) if versions.in_force else None,
        "pending": {"settings": described(pending), "effectiveAt": moment(pending.effective_at)}
        if pending
        else None,
    }


def _usage(usage: selectors.Usage, *, now: datetime) -> dict[str, Any]:
    left = None if usage.limit is None else max(0, usage.limit - usage.used)
    return {"creditsUsed": usage.used, "creditsRemaining": left, "resetsAt": moment(next_month(now))}


def _actions(actions: frozenset[Action]) -> list[str]:
    return [action.value for action in Action if action in actions]
