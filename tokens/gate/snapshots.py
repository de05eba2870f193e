"""for_value(): the Snapshot of a token value, cached per process and kept fresh in the background.

A hit costs no query. apperate.database.changes reports which tokens and workspaces were written; their
entries are dropped, so disabling, deleting and narrowing reach every worker within a second. Widening is
not urgent: a revision carries its start time. Source: docs/decisions/0004-how-workers-learn-of-changes.md.
"""

import json
import logging
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from apperate.accounts.plans import PLANS
from apperate.database import pool, sealing
from apperate.database.changes import Stale, changes
from apperate.database.flights import Flights
from apperate.kernel.keyring import UnreadableSecret
from tokens.gate.credits import spent
from tokens.rules import settings_table, token_format
from tokens.rules.permissions import Action, Settings, SigningKey, Snapshot, WorkspaceFacts
from tokens.rules.token_format import TokenKind

ENTRIES_MAX = 10_000
MISS_SECONDS = 2.0
logger = logging.getLogger("apperate.tokens")

# One row per value: the token, its workspace and its live revisions (at most two, newest first) with their
# grants as JSON; for a token that requires signatures, what may sign its requests: its own signing secret and
# the values of the workspace's secret token; its spending this month. Index: tokens_secret_digest,
# tokens_revision_live, tokens_grant_once, tokens_signingsecret_token_id, tokens_token_one_secret,
# tokens_creditwindow_once.
LOAD = """
SELECT t.id, t.public_id, t.kind, t.nickname, t.disabled_at, t.deleted_at, t.expires_at,
       s.retires_at, w.id, w.name, w.has_premium, w.allows_secret_in_browser, w.plan, clock_timestamp(),
       (SELECT coalesce(json_agg(v ORDER BY v.number DESC), '[]')
          FROM (SELECT r.*, (SELECT coalesce(json_agg(json_build_array(
                                      g.dataset_id, g.can_read, g.can_write, g.can_delete)), '[]')
                               FROM tokens_grant g WHERE g.revision_id = r.id) AS grants
                  FROM tokens_revision r
                 WHERE r.token_id = t.id AND r.withdrawn_at IS NULL AND NOT r.is_past
                 ORDER BY r.number DESC LIMIT 2) v)::text,
       CASE WHEN EXISTS (SELECT FROM tokens_revision r WHERE r.token_id = t.id AND r.signed_requests
                                                         AND r.withdrawn_at IS NULL AND NOT r.is_past)
            THEN (SELECT json_agg(k) FROM (
                SELECT g.token_id, t.public_id, encode(g.ciphertext, 'hex') AS sealed, NULL AS digest,
                       NULL::timestamptz AS retires_at, false AS is_disabled
                  FROM tokens_signingsecret g WHERE g.token_id = t.id
                UNION ALL
                SELECT o.id, o.public_id, encode(c.ciphertext, 'hex'), encode(c.digest, 'hex'),
                       least(c.retires_at, o.expires_at), o.disabled_at IS NOT NULL
                  FROM tokens_token o JOIN tokens_secret c ON c.token_id = o.id
                 WHERE o.workspace_id = t.workspace_id AND o.kind = 'secret') k)::text END,
       m.month, coalesce(c.used, 0)
  FROM tokens_secret s
  JOIN tokens_token t ON t.id = s.token_id
  JOIN accounts_workspace w ON w.id = t.workspace_id
 CROSS JOIN (SELECT date_trunc('month', now() AT TIME ZONE 'UTC')::date AS month) m
  LEFT JOIN tokens_creditwindow c ON c.token_id = t.id AND c.month = m.month
 WHERE s.digest = %(digest)s AND (s.is_imported OR %(has_checksum)s)
"""


class SnapshotCache:
    """digest → Snapshot, the least recently used dropped first. Unknown values are remembered for 2 s."""

    def __init__(self) -> None:
        self._entries: OrderedDict[bytes, Snapshot] = OrderedDict()
        self._of_token: dict[int, set[bytes]] = {}
        self._of_workspace: dict[int, set[bytes]] = {}
        self._misses: OrderedDict[bytes, float] = OrderedDict()

    def get(self, digest: bytes) -> Snapshot | None:
        if (snapshot := self._entries.get(digest)) is not None:
            self._entries.move_to_end(digest)
        return snapshot

    def put(self, digest: bytes, snapshot: Snapshot) -> None:
        self._entries[digest] = snapshot
        for token_id in _tokens_of(snapshot):
            self._of_token.setdefault(token_id, set()).add(digest)
        self._of_workspace.setdefault(snapshot.workspace.id, set()).add(digest)
        while len(self._entries) > ENTRIES_MAX:
            self._drop(next(iter(self._entries)))

    def is_known_miss(self, digest: bytes) -> bool:
        missed = self._misses.get(digest)
        return missed is not None and time.monotonic() - missed < MISS_SECONDS

    def put_miss(self, digest: bytes) -> None:
        self._misses[digest] = time.monotonic()
        self._misses.move_to_end(digest)
        while len(self._misses) > ENTRIES_MAX:
            self._misses.popitem(last=False)

    def __len__(self) -> int:
        return len(self._entries)

    def evict_tokens(self, ids: Iterable[int]) -> None:
        self._misses.clear()  # A changed token may have a new value.
        for token_id in ids:
            for digest in tuple(self._of_token.get(token_id, ())):
                self._drop(digest)

    def evict_workspaces(self, ids: Iterable[int]) -> None:
        for workspace_id in ids:
            for digest in tuple(self._of_workspace.get(workspace_id, ())):
                self._drop(digest)

    def clear(self) -> None:
        for part in (self._entries, self._of_token, self._of_workspace, self._misses):
            part.clear()

    def _drop(self, digest: bytes) -> None:
        snapshot = self._entries.pop(digest)
        places = [(self._of_token, token_id) for token_id in _tokens_of(snapshot)]
        for index, key in (*places, (self._of_workspace, snapshot.workspace.id)):
            index[key].discard(digest)
            if not index[key]:
                del index[key]


def _tokens_of(snapshot: Snapshot) -> set[int]:
    """The tokens whose change invalidates a snapshot: its own, and those whose secrets it signs with."""
    return {snapshot.token_id, *snapshot.signs_with}


cache = SnapshotCache()
changes.listen("tokens_token", cache.evict_tokens, cache.clear)
changes.listen("accounts_workspace", cache.evict_workspaces, cache.clear)


async def for_value(value: token_format.ParsedValue) -> Snapshot | None:
    """The snapshot of a well-formed value, or None when it belongs to no token. At most one query.

    Raises Stale when the database has been silent for 5 s: the caller must refuse.
    """
    changes.now()  # Raises when the caches are stale.
    digest = token_format.digest(value.text)
    if (snapshot := cache.get(digest)) is not None:
        return snapshot
    if cache.is_known_miss(digest):
        return None
    return await loads.join(digest, lambda: _load(digest, value))


loads: Flights[Snapshot | None] = Flights()


async def _load(digest: bytes, value: token_format.ParsedValue) -> Snapshot | None:
    generation = changes.generation
    rows = await pool.fetch_all(LOAD, {"digest": digest, "has_checksum": value.has_checksum})
    if not rows:
        cache.put_miss(digest)
        return None
    *facts, month, used = rows[0]
    snapshot = snapshot_of(facts)
    spent.put(snapshot.token_id, month, used)
    # If a poll ended meanwhile, it may already have reported this token, and the row read may be old.
    if generation == changes.generation:
        cache.put(digest, snapshot)
    return snapshot


def snapshot_of(row: Sequence[Any]) -> Snapshot:
    """A row of LOAD, without its last two columns."""
    (token_id, public_id, kind, nickname, disabled_at, deleted_at, expires_at, retires_at,
     workspace_id, workspace_name, has_premium, secret_in_browser, plan, now,
     revisions, sealed) = row  # fmt: skip
    in_force = pending = effective_at = None
    for revision in json.loads(revisions):
        starts_at = datetime.fromisoformat(revision["effective_at"])
        # The one before a pending version was in force when that was saved, even if the clock was set back.
        if starts_at <= now or pending is not None:
            in_force = _settings(revision)
            break
        pending, effective_at = _settings(revision), starts_at
    signing = json.loads(sealed) if sealed else []
    return Snapshot(
        token_id=token_id, public_id=public_id, kind=TokenKind(kind), nickname=nickname,
        workspace=WorkspaceFacts(
            workspace_id, workspace_name, has_premium, secret_in_browser, PLANS[plan].requests_per_second
        ),
        disabled_at=disabled_at, deleted_at=deleted_at, expires_at=expires_at, value_retires_at=retires_at,
        in_force=in_force, pending=pending, effective_at=effective_at,
        signing_keys=tuple(_signing_key(key) for key in signing if not key["is_disabled"]),
        signs_with=tuple(key["token_id"] for key in signing),
    )  # fmt: skip


def _signing_key(key: dict[str, Any]) -> SigningKey:
    """Decrypts once per snapshot. A secret that cannot be decrypted signs nothing."""
    retires_at = datetime.fromisoformat(key["retires_at"]) if key["retires_at"] else None
    sealed, public_id = bytes.fromhex(key["sealed"] or ""), key["public_id"]
    is_own = key["digest"] is None
    try:
        if is_own:
            secret = sealing.unseal_signing_secret(sealed, public_id=public_id)
        else:
            digest = bytes.fromhex(key["digest"])
            secret = sealing.unseal_value(sealed, public_id=public_id, digest=digest)
    except UnreadableSecret as error:
        logger.error("a secret to check signatures with cannot be read token=%s: %s", public_id, error)
        return SigningKey(None, retires_at, is_own)
    return SigningKey(secret, retires_at, is_own)


def _settings(revision: dict[str, Any]) -> Settings:
    return Settings(
        grants={dataset_id: _actions(*flags) for dataset_id, *flags in revision["grants"]},
        all_datasets=_actions(*(revision[f"all_datasets_{action}"] for action in Action)),
        **settings_table.loaded(revision.__getitem__),
    )


def _actions(can_read: bool, can_write: bool, can_delete: bool) -> frozenset[Action]:
    flags = zip(Action, (can_read, can_write, can_delete), strict=True)
    return frozenset(action for action, allowed in flags if allowed)


__all__ = ["Stale", "cache", "for_value"]
