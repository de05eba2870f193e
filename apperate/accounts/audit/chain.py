"""The hash chain of audit events: each is sealed with the digest of the event before it in its workspace.

    breaks() -> list[Break]      where the chains no longer hold; empty when the log is untampered

    digest = sha256(previous digest + text), both as bytes; the first of a chain has no bytes before it
    text   = the event as a JSON array, as event_text() writes it

The database does the sealing (migration 0008); this module implements the rule on its own, so that tampering
with the database's functions shows too. A table owner who recomputes a whole chain is caught only by
comparing its last digest with an exported one. Source: docs/security-checks.md, S54.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from django.db import connection, transaction

BREAKS_MAX = 20
# One statement sees one snapshot, so events written or purged meanwhile are not reported as breaks.
WHOLE_LOG = """
SELECT coalesce(h.chain, e.workspace_id, 0), h.position, h.digest, h.purged,
       e.id, e.position, e.previous, e.digest, e.workspace_id, (extract(epoch FROM e.at) * 1000000)::bigint,
       e.user_id, e.actor, e.address, e.action, e.target, e.before::text, e.after::text
  FROM accounts_audithead h FULL JOIN accounts_auditevent e ON h.chain = coalesce(e.workspace_id, 0)
 ORDER BY 1, e.position, e.id
"""


@dataclass(frozen=True, slots=True)
class Break:
    """Where a chain does not hold. `chain` is the id of the workspace, 0 for events without one."""

    chain: int
    words: str


@dataclass(frozen=True, slots=True)
class Sealed:
    """An event as stored: its position, its seal, and what is sealed. A row without an event has no id."""

    id: int | None
    position: int | None
    previous: bytes
    digest: bytes
    columns: tuple[Any, ...]


def event_text(position: int, columns: Iterable[Any]) -> str:
    """Position, workspace, microseconds since 1970, user, actor, address, action, target, before, after."""
    return json.dumps([position, *columns], ensure_ascii=False)


def digest_of(previous: bytes, position: int, columns: Iterable[Any]) -> bytes:
    return hashlib.sha256(previous + event_text(position, columns).encode()).digest()


def breaks() -> list[Break]:
    """Every break in every chain, at most BREAKS_MAX, found by reading the whole log."""
    found: list[Break] = []
    with transaction.atomic(), connection.cursor() as setting, connection.chunked_cursor() as cursor:
        setting.execute("SET LOCAL statement_timeout = 0")
        cursor.execute(WHOLE_LOG)
        for chain, rows in groupby(iter(cursor), key=lambda row: row[0]):
            for words in breaks_of(rows):
                found.append(Break(chain, words))
                if len(found) == BREAKS_MAX:
                    return found
    return found


def breaks_of(rows: Iterable[tuple[Any, ...]]) -> Iterator[str]:
    """The breaks in one chain; each of its rows begins with the chain's head."""
    end, end_digest, expected, last = None, b"", 0, b""
    for _, head_position, head_digest, purged, *event in rows:
        one = Sealed(event[0], event[1], bytes(event[2] or b""), bytes(event[3] or b""), tuple(event[4:]))
        if not expected:
            end, end_digest, expected = head_position, bytes(head_digest or b""), (purged or 0) + 1
            # A purged event leaves only its digest, in the event after it or in the head.
            last = end_digest if one.id is None else one.previous
        if one.id is None:
            continue
        if one.position is None:
            yield f"Event {one.id} was not sealed when it was written."
            continue
        if one.position != expected:
            yield gone(expected, one.position - 1)
        elif one.previous != last:
            yield f"Event {one.position} does not follow the one before it."
        if digest_of(one.previous, one.position, one.columns) != one.digest:
            yield f"Event {one.position} was changed after it was written."
        expected, last = one.position + 1, one.digest
    if end is None:
        yield "Its last event is not marked."
    elif expected <= end:
        yield gone(expected, end)
    elif expected > end + 1:
        yield f"Event {expected - 1} is beyond the one that was marked as the last."
    elif end_digest != last:
        yield f"Event {end} is not the one that was marked as the last."


def gone(first: int, last: int) -> str:
    return f"Event {first} is gone." if first == last else f"Events {first} to {last} are gone."
