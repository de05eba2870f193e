"""Takes away again, in a restored database, what was taken away after the backup.

    found_beside(path, given) -> list of Path      the files of revocations that can be seen from here
    apply(noted, since=…, now=…) -> Replayed

The last line on a subject counts. Tokens that were disabled, deleted or rotated, that expire sooner, members
who were removed or lost a role, and links of invitations that ended: all of that is done again, audited as
the restore's. Settings that were saved since are named and not applied: the file does not hold them.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from django.conf import settings
from django.db import transaction
from django.db.models import Q

from apperate.accounts import services as people
from apperate.accounts.audit import trail
from apperate.accounts.models import Invitation, Membership, Role
from apperate.backup import revocations
from apperate.backup.revocations import Line, Noted
from tokens.models import Secret, Token
from tokens.services import lifecycle, rows

ACTOR = "operator (restore)"
# Two lines of one subject and group say the same thing twice, or one takes the other back.
GROUP_OF = {
    "token.disabled": "disabled",
    "token.enabled": "disabled",
    "token.deleted": "deleted",
    "token.restored": "deleted",
    "token.expiry_set": "expiry",
    "token.settings_saved": "settings",
    "member.joined": "membership",
    "member.removed": "membership",
    "member.role_changed": "membership",
}


@dataclass(slots=True)
class Replayed:
    """In sentences: what was taken away again, and what has to be looked at by a person."""

    done: list[str] = field(default_factory=list)
    to_see: list[str] = field(default_factory=list)


def found_beside(path: Path, given: Iterable[Path] = ()) -> list[Path]:
    """Those named, the data directory's, and those beside the backup and in the folder of the backups."""
    folders = [path.parent, *([Path(settings.BACKUP_TO)] if settings.BACKUP_TO else [])]
    beside = [
        found
        for folder in folders
        for pattern in (revocations.FILE, revocations.COPIES)
        for found in sorted(folder.glob(pattern))
    ]
    every = [*given, *([revocations.own_file()] if revocations.own_file().exists() else []), *beside]
    return list(dict.fromkeys(found.resolve() for found in every))


def apply(noted: Noted, *, since: datetime, now: datetime) -> Replayed:
    """Each subject in its own transaction; doing it twice changes nothing."""
    outcome = Replayed()
    last: dict[tuple[str, ...], Line] = {}
    for line in noted.lines:
        if line.at >= since:
            last[_subject(line)] = line
    with trail.asked_by(address="", actor=ACTOR):
        for line in last.values():
            kind = line.what.partition(".")[0]
            with transaction.atomic():
                if kind == "token":
                    _token(line, outcome, now=now)
                elif kind == "member":
                    _member(line, outcome, now=now)
                elif line.what == "invitation.ended":
                    _invitation(line, outcome, now=now)
                else:
                    outcome.to_see.append(
                        f"{line.at:%Y-%m-%d %H:%M} {line.what} is not known to this version."
                    )
    return outcome


def _subject(line: Line) -> tuple[str, ...]:
    group = GROUP_OF.get(line.what)
    named = tuple(str(line.facts.get(name, "")) for name in ("token", "workspace", "user"))
    return (group, *named) if group else (line.what, line.at.isoformat(), str(sorted(line.facts.items())))


def _token(line: Line, outcome: Replayed, *, now: datetime) -> None:
    public_id = str(line.facts.get("token", ""))
    token = Token.objects.filter(public_id=public_id).select_related("workspace").first()
    if token is None:
        outcome.to_see.append(f"{public_id} was made after the backup, and is gone.")
        return
    when = f"{token.public_id} ({token.name}, {token.workspace.name})"
    match line.what:
        case "token.disabled" if not token.disabled_at:
            lifecycle.disable(token=token, by=None, now=now)
            outcome.done.append(f"{when}: disabled")
        case "token.deleted" if not token.deleted_at:
            lifecycle.delete_token(token=token, by=None, now=now)
            outcome.done.append(f"{when}: in the trash")
        case "token.expiry_set" if line.facts.get("expires_at"):
            expires_at = datetime.fromisoformat(str(line.facts["expires_at"]))
            if token.expires_at is None or token.expires_at > expires_at:
                lifecycle.set_expiry(token=token, expires_at=expires_at, by=None, now=now)
                outcome.done.append(f"{when}: expires {expires_at:%Y-%m-%d %H:%M}")
        case "token.rotated":
            if _end_values(token, line, now=now):
                outcome.done.append(f"{when}: the value before its rotation ends")
                outcome.to_see.append(
                    f"{when} was rotated after the backup; rotate it again for a new value."
                )
        case "token.settings_saved":
            outcome.to_see.append(
                f"{when}: settings saved after the backup are lost; compare what it may do."
            )


def _end_values(token: Token, line: Line, *, now: datetime) -> int:
    ends_at = datetime.fromisoformat(str(line.facts["ends_at"]))
    known = [bytes.fromhex(str(digest)) for digest in line.facts.get("digests", [])]
    later = Q(retires_at=None) | Q(retires_at__gt=ends_at)
    token = rows.lock(token)
    changed = Secret.objects.filter(later, token=token, digest__in=known).update(retires_at=ends_at)
    if changed:
        rows.touch(token)
        after = {"old_value_ends_at": ends_at.isoformat()}
        rows.audit("token.rotated", token, by=None, now=now, address="", after=after)
    return changed


def _member(line: Line, outcome: Replayed, *, now: datetime) -> None:
    membership = (
        Membership.objects.filter(workspace__name=line.facts.get("workspace"), user=line.facts.get("user"))
        .select_related("workspace", "user")
        .first()
    )
    if membership is None:
        return
    who = f"{membership.user.email} in {membership.workspace.name}"
    if line.what == "member.removed":
        people.remove_member(membership=membership, by=None, now=now)
        outcome.done.append(f"{who}: removed")
    elif line.what == "member.role_changed" and line.facts.get("role") == Role.USER and membership.manages:
        people.change_role(membership=membership, role=Role.USER, by=None, now=now)
        outcome.done.append(f"{who}: no admin any more")


def _invitation(line: Line, outcome: Replayed, *, now: datetime) -> None:
    known = [bytes.fromhex(str(digest)) for digest in line.facts.get("digests", [])]
    for invitation in Invitation.objects.filter(digest__in=known, accepted_at=None, withdrawn_at=None):
        people.withdraw_invitation(invitation=invitation, by=None, now=now)
        outcome.done.append(f"{invitation.email}: the link of an invitation ended")
