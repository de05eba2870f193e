"""The audit log in words: every action that is ever recorded, and how a value reads. Pure."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

# Grouped by subject: (title, {action: words}).
GROUPS: tuple[tuple[str, dict[str, str]], ...] = (
    (
        "Tokens",
        {
            "token.created": "Created a token",
            "token.renamed": "Changed the nickname",
            "token.settings_saved": "Saved settings",
            "token.change_undone": "Undid a pending change",
            "token.change_applied": "Applied a pending change at once",
            "token.disabled": "Disabled a token",
            "token.enabled": "Enabled a token",
            "token.expiry_set": "Set the expiry",
            "token.rotated": "Rotated a token",
            "token.deleted": "Deleted a token",
            "token.restored": "Restored a token",
            "token.secret_revealed": "Revealed the secret token",
            "token.signing_secret_revealed": "Revealed the signing secret",
        },
    ),
    (
        "Datasets",
        {
            "dataset.create": "Created a dataset",
            "dataset.edit": "Changed a dataset",
            "dataset.rename": "Renamed a dataset",
            "dataset.price_set": "Set the price per record",
            "dataset.delete": "Deleted a dataset",
            "dataset.restore": "Restored a dataset",
            "dataset.erase": "Deleted a dataset for good",
            "records.delete": "Deleted records",
            "records.restore": "Restored deleted records",
            "records.erase": "Deleted records for good",
            "job.upload": "Uploaded a file",
            "job.cancel": "Cancelled a job",
            "job.retry": "Tried a job again",
        },
    ),
    (
        "People",
        {
            "member.invited": "Invited a person",
            "invitation.resent": "Sent an invite again",
            "invitation.withdrawn": "Withdrew an invite",
            "member.joined": "Joined the workspace",
            "member.role_changed": "Changed a status",
            "member.removed": "Removed a person",
            "sign_in.done": "Signed in",
            "sign_in.failed": "Failed to sign in",
            "sessions.ended": "Ended other sessions",
            "sign_in.code_failed": "Gave a wrong second factor",
            "sign_out.done": "Signed out",
            "password.changed": "Changed a password",
            "email.added": "Added an e-mail address",
            "email.changed": "Changed the e-mail address",
            "email.removed": "Removed an e-mail address",
            "factor.added": "Added a second factor",
            "factor.removed": "Removed a second factor",
            "person.changed": "Changed a person",
        },
    ),
    (
        "Workspace",
        {
            "workspace.created": "Created the workspace",
            "workspace.changed": "Changed the workspace",
            "account.edit": "Changed an account setting",
            "webhook.saved": "Set the webhook",
            "webhook.secret_renewed": "Renewed the webhook's secret",
            "webhook.tested": "Sent a test to the webhook",
            "webhook.removed": "Removed the webhook",
            "audit_log.exported": "Exported the audit log",
            "usage.exported": "Exported the usage",
            "demo.reset": "Reset the demo",
            "workspace.exported": "Exported the workspace",
            "workspace.erased": "Erased a workspace",
        },
    ),
)
ACTIONS = {action: words for _, actions in GROUPS for action, words in actions.items()}
VALUE_LENGTH_MAX = 300
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?\+\d\d:\d\d")


@dataclass(frozen=True, slots=True)
class Change:
    """One field that an event changed. `before` or `after` is None when the event records only the other."""

    label: str
    before: str | None
    after: str | None


def changes(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> list[Change]:
    """What differs, one entry per name, in the order written.

    An event without `before` created something: what it left blank or off is not listed.
    """
    old, new = before or {}, after or {}
    if not old:
        new = {name: value for name, value in new.items() if value is not False and not is_blank(value)}
    return [
        Change(
            label(name),
            value_words(old[name]) if name in old else None,
            value_words(new[name]) if name in new else None,
        )
        for name in [*old, *(name for name in new if name not in old)]
        if name not in old or name not in new or old[name] != new[name]
    ]


def label(name: str) -> str:
    words = name.replace("_", " ").strip()
    return words[:1].upper() + words[1:]


def is_blank(value: Any) -> bool:
    return value is None or value in ("", [], {})


def value_words(value: Any) -> str:
    """A value in words, cut when long; the CSV has all of it."""
    if is_blank(value):
        return "nothing"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        text = ", ".join(value)
    elif isinstance(value, dict | list):
        text = json.dumps(value, ensure_ascii=False)
    else:
        text = moment_words(value) if isinstance(value, str) else str(value)
    return text if len(text) <= VALUE_LENGTH_MAX else f"{text[: VALUE_LENGTH_MAX - 1]}…"


def moment_words(text: str) -> str:
    """A timestamp as events store it, in words; any other text unchanged."""
    if not MOMENT.fullmatch(text):
        return text
    try:
        moment = datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return text
    return f"{moment.day} {moment:%b %Y, %H:%M:%S} UTC"
