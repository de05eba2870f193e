"""Idempotency-Key: a repeated POST gets the first answer again and changes nothing twice.

    key_of(header) -> str | None | Refusal
    once(claim, work, now=…) -> Document | Refusal

The key's row is written in the transaction of the change it stands for: both exist or neither does, even
when the process or the server dies in between. Of two concurrent requests the second waits at the row's
unique index, for at most half a second. Only successful answers are stored, for 24 hours.
Source: docs/api.md, Tokens.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg
import simplejson
from django.db import OperationalError, connection, transaction

from apperate.accounts.models import KeptAnswer
from apperate.kernel.refusals import Refusal, invalid_value

ANSWER_HOURS = 24
KEY_CHARS_MAX = 255
WAIT_MILLISECONDS = 500
HEADER = "Idempotency-Key"

Document = dict[str, Any]

# One row when the key is new or a day old, none when it is already in use. Index: accounts_keptanswer_once.
TAKE = """
INSERT INTO accounts_keptanswer AS kept (workspace_id, route, key, fingerprint, answer, kept_at)
VALUES (%(workspace)s, %(route)s, %(key)s, %(fingerprint)s, '', %(now)s)
ON CONFLICT (workspace_id, route, key) DO UPDATE
   SET fingerprint = excluded.fingerprint, answer = '', kept_at = excluded.kept_at
 WHERE kept.kept_at <= %(old)s
RETURNING kept.id"""


@dataclass(frozen=True, slots=True)
class Claim:
    """What identifies a repeat of an earlier request. `fingerprint`: SHA-256 of its query and body."""

    workspace_id: int
    route: str
    key: str
    fingerprint: bytes


def key_of(header: str) -> str | None | Refusal:
    """The request's key; None without one."""
    key = header.strip()
    if not key:
        return None
    if len(key) > KEY_CHARS_MAX or not all(" " < char <= "~" for char in key):
        needed = f"1 to {KEY_CHARS_MAX} visible ASCII characters without spaces"
        return invalid_value(HEADER, ascii(key)[1:-1][:60], needed, check="body")
    return key


def once(
    claim: Claim | None,
    work: Callable[[], Document | Refusal],
    *,
    now: datetime,
    holds_secret: bool = False,
) -> Document | Refusal:
    """The answer of `work`, or its first answer to this claim; it runs in a transaction with the claim.

    An answer that holds a secret is not stored: its repeat is refused. Without a claim `work` just runs.
    """
    if claim is None:
        return work()
    with transaction.atomic():
        row = _take(claim, now=now)
        if isinstance(row, Refusal):
            return row
        if row is None:
            return _kept(claim)
        document = work()
        if isinstance(document, Refusal):
            transaction.set_rollback(True)
        elif not holds_secret:
            KeptAnswer.objects.filter(pk=row).update(answer=simplejson.dumps(document))
        return document


def _take(claim: Claim, *, now: datetime) -> int | None | Refusal:
    """The id of the claim's new row; None when the key was used before."""
    parameters: dict[str, Any] = {
        "workspace": claim.workspace_id, "route": claim.route, "key": claim.key,
        "fingerprint": claim.fingerprint, "now": now, "old": now - timedelta(hours=ANSWER_HOURS),
    }  # fmt: skip
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('lock_timeout')")
            (usual,) = cursor.fetchone()
            cursor.execute("SELECT set_config('lock_timeout', %s, true)", [str(WAIT_MILLISECONDS)])
            cursor.execute(TAKE, parameters)
            row = cursor.fetchone()
            cursor.execute("SELECT set_config('lock_timeout', %s, true)", [usual])
            return row[0] if row else None
    except OperationalError as error:
        if isinstance(error.__cause__, psycopg.errors.LockNotAvailable):
            return Refusal(
                "still-running",
                f"The first request with this {HEADER} has not ended yet. Ask again in a second.",
                check="body",
                received=claim.key,
                needed="the end of the first request",
                retry_after_seconds=1,
            )
        raise


def _kept(claim: Claim) -> Document | Refusal:
    """The first answer, if this is the same request."""
    first = KeptAnswer.objects.get(workspace_id=claim.workspace_id, route=claim.route, key=claim.key)
    if bytes(first.fingerprint) != claim.fingerprint:
        return Refusal(
            "other-body",
            f"This {HEADER} was used before, with another body or other parameters. Nothing was changed.",
            check="body",
            received=claim.key,
            needed="a new key for a new request, or the same request again",
        )
    if not first.answer:
        return already_done()
    document: Document = simplejson.loads(first.answer)
    return document


def already_done() -> Refusal:
    return Refusal(
        "already-done",
        f"The first request with this {HEADER} succeeded, and its answer cannot be given again.",
        check="body",
        needed="the present state: read it instead",
    )


def purge(*, now: datetime) -> int:
    """Delete the answers that are a day old and return how many."""
    count, _ = KeptAnswer.objects.filter(kept_at__lte=now - timedelta(hours=ANSWER_HOURS)).delete()
    return count
