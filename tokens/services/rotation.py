"""rotate(): a token gets a new value, and the old one keeps working for a chosen time.

    rotate(token=…, overlap_seconds=…, by=…, now=…) -> Rotated | Refusal
    old_value_ends_at(token, now=…) -> datetime | None

Id, nickname, settings, history and limit are kept. A second rotation ends the first overlap.
Source: docs/api.md, Tokens.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q

from apperate.accounts.models import User
from apperate.backup import revocations
from apperate.database import sealing
from apperate.kernel.refusals import Refusal, invalid_value
from tokens.models import Secret, Token
from tokens.rules import token_format
from tokens.rules.token_format import TokenKind
from tokens.rules.vocabulary import OVERLAPS
from tokens.services import rows


@dataclass(frozen=True, slots=True)
class Rotated:
    """The token, its new value (a secret one is shown only this once), and when the old one ends."""

    token: Token
    value: str = field(repr=False)
    old_value_ends_at: datetime


@transaction.atomic
def rotate(
    *, token: Token, overlap_seconds: int, by: User | None, now: datetime, address: str = ""
) -> Rotated | Refusal:
    """Give the token a new value that works at once; the old one works for another `overlap_seconds`."""
    if overlap_seconds not in OVERLAPS:
        needed = "one of " + ", ".join(map(str, OVERLAPS))
        return invalid_value("overlapSeconds", overlap_seconds, needed, check="body")
    token = rows.lock(token)
    if token.deleted_at:
        return invalid_value("token", token.public_id, "a token outside the trash", check="token")
    ends_at = now + timedelta(seconds=overlap_seconds)
    current = token.secrets.current().first()
    ending = list(token.secrets.filter(Q(retires_at__gt=now) | Q(retires_at=None)))
    token.secrets.filter(retires_at__gt=now).update(retires_at=now)
    token.secrets.filter(retires_at=None).update(retires_at=ends_at)
    value = token_format.make(TokenKind(token.kind))
    if token.is_secret:
        sealed = sealing.seal_value(value, public_id=token.public_id)
        rows.insert_value(token, value, ciphertext=sealed, now=now)
    else:
        rows.insert_value(token, value, clear=value, now=now)
    rows.touch(token)
    rows.audit(
        "token.rotated", token, by=by, now=now, address=address,
        before={"token": current.masked if current else ""},
        after={"token": token_format.mask(value), "old_value_ends_at": ends_at.isoformat()},
    )  # fmt: skip
    for old in ending:
        revocations.note(
            "token.rotated", now=now, token=token.public_id, digests=revocations.digests([old.digest]),
            ends_at=(ends_at if old.retires_at is None else now).isoformat(),
        )  # fmt: skip
    return Rotated(token, value, ends_at)


def old_value_ends_at(token: Token, *, now: datetime) -> datetime | None:
    """When the value before the last rotation stops working; None when no old value works any more."""
    old: Secret | None = token.secrets.filter(retires_at__gt=now).order_by("-retires_at").first()
    return old.retires_at if old else None
