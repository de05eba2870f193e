"""Each token's last refusals: what was refused, on which dataset, from which site, how often and when.
Also, under the code ANSWERED, the sites that got answers.

refusals.note(…)            in memory, in the request; a background task writes once a second
last(token) -> list[TokenRefusal]
purge(now=…) -> int

Bounded: in kinds per second for a worker, and in rows per code for a token; a row is deleted 30 days after
its last refusal. Only the site of a page is stored. Source: docs/architecture.md.
"""

import logging
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from apperate.database import pool
from apperate.database.background import Background
from tokens.models import Token, TokenRefusal
from tokens.rules import page_address

FLUSH_SECONDS = 1.0
# Kinds a worker remembers between two writes, in total and per token; others count only as usage.
KINDS_MAX = 1_000
KINDS_PER_TOKEN = 50
ROWS_PER_CODE = 20
KEPT_DAYS = 30
SITE_CHARS_MAX = 260
ANSWERED = "ok"
logger = logging.getLogger("apperate.kernel.refusals")

# Index: tokens_refusal_once. A flush repeated after a lost answer may count twice: nobody pays by these.
FLUSH = """
INSERT INTO tokens_tokenrefusal AS r (token_id, code, dataset_id, site, calls, first_at, last_at)
SELECT n.* FROM unnest(%(tokens)s::bigint[], %(codes)s::text[], %(datasets)s::bigint[], %(sites)s::text[],
                       %(calls)s::bigint[], %(firsts)s::timestamptz[], %(lasts)s::timestamptz[])
       AS n(token_id, code, dataset_id, site, calls, first_at, last_at)
ON CONFLICT (token_id, code, dataset_id, site) DO UPDATE
   SET calls = r.calls + excluded.calls, last_at = greatest(r.last_at, excluded.last_at)
"""
TRIM = """
DELETE FROM tokens_tokenrefusal WHERE id IN (
    SELECT id FROM (SELECT id, row_number() OVER (PARTITION BY token_id, code ORDER BY last_at DESC, id DESC)
                      FROM tokens_tokenrefusal WHERE token_id = ANY(%(tokens)s)) AS found(id, place)
     WHERE place > %(kept)s)
"""


class Kind(NamedTuple):
    """Refusals of the same kind are counted together."""

    token_id: int
    code: str
    dataset_id: int
    site: str


@dataclass(slots=True)
class Seen:
    """How often, and when."""

    calls: int
    first_at: datetime
    last_at: datetime


class Refusals:
    """Kinds of refusals in memory until they are written. One per process, used only from its event loop."""

    def __init__(self) -> None:
        self._seen: dict[Kind, Seen] = {}
        self._kinds: Counter[int] = Counter()
        self._work = Background(
            "refusals", self.flush, every_seconds=FLUSH_SECONDS, logger=logger,
            fault="writing refusals failed; trying again",
        )  # fmt: skip

    def note(
        self,
        token_id: int,
        *,
        code: str,
        dataset_id: int,
        origin: str | None,
        referer: str | None,
        now: datetime,
    ) -> None:
        """Remember one refusal. `dataset_id` 0: none, or none that the token's owner may know about."""
        kind = Kind(token_id, code, dataset_id, site_of(origin, referer))
        seen = self._seen.get(kind)
        if seen is not None:
            seen.calls, seen.last_at = seen.calls + 1, max(seen.last_at, now)
        elif len(self._seen) < KINDS_MAX and self._kinds[token_id] < KINDS_PER_TOKEN:
            self._seen[kind] = Seen(1, now, now)
            self._kinds[token_id] += 1

    def note_caller(self, token_id: int, *, origin: str | None, referer: str | None, now: datetime) -> None:
        """Remember that a page of this site got an answer; a program that names no site is not a caller."""
        if site_of(origin, referer):
            self.note(token_id, code=ANSWERED, dataset_id=0, origin=origin, referer=referer, now=now)

    async def flush(self) -> None:
        """Write what was seen, and keep the newest rows per token and code."""
        if not self._seen:
            return
        taken, self._seen = self._seen, {}
        self._kinds.clear()
        kinds = sorted(taken)  # A fixed order, so that workers cannot deadlock.
        tokens = [kind.token_id for kind in kinds]
        rows = {
            "tokens": tokens,
            "codes": [kind.code for kind in kinds],
            "datasets": [kind.dataset_id for kind in kinds],
            "sites": [kind.site for kind in kinds],
            "calls": [taken[kind].calls for kind in kinds],
            "firsts": [taken[kind].first_at for kind in kinds],
            "lasts": [taken[kind].last_at for kind in kinds],
        }
        try:
            await pool.fetch_all(FLUSH, rows, repeat=False, of=pool.BACKGROUND)
        except Exception:
            self._put_back(taken)
            raise
        trim = {"tokens": sorted(set(tokens)), "kept": ROWS_PER_CODE}
        await pool.fetch_all(TRIM, trim, repeat=False, of=pool.BACKGROUND)

    def _put_back(self, taken: dict[Kind, Seen]) -> None:
        """Merge what could not be written into what has come since, for the next attempt."""
        for kind, before in taken.items():
            seen = self._seen.get(kind)
            if seen is not None:
                seen.calls, seen.first_at = seen.calls + before.calls, before.first_at
            elif len(self._seen) < KINDS_MAX:
                self._seen[kind] = before
                self._kinds[kind.token_id] += 1

    async def ensure_started(self) -> None:
        """Start writing every second in this event loop."""
        if not self._work.is_running():
            self._work.start()

    async def stop(self) -> None:
        """Stop the task; what was not written is lost."""
        await self._work.stop()
        self._seen.clear()
        self._kinds.clear()


@lru_cache(maxsize=1_000)
def site_of(origin: str | None, referer: str | None) -> str:
    """The calling page's host, with a port that is not its protocol's default; "" when unknown."""
    page = page_address.parse_origin(origin) if origin else None
    if page is None and referer:
        page = page_address.parse_referer(referer)
    if page is None:
        return ""
    usual = page_address.DEFAULT_PORTS.get(page.protocol)
    site = page.host if page.port in (None, usual) else f"{page.host}:{page.port}"
    return site if len(site) <= SITE_CHARS_MAX else ""


def last(token: Token) -> list[TokenRefusal]:
    """The last refusals of a token, newest first."""
    found = TokenRefusal.objects.filter(token_id=token.pk).exclude(code=ANSWERED)
    return list(found.order_by("-last_at", "-pk")[:500])


def purge(*, now: datetime) -> int:
    """Delete what has not happened again for 30 days; returns how many."""
    count, _ = TokenRefusal.objects.filter(last_at__lt=now - timedelta(days=KEPT_DAYS)).delete()
    return count


refusals = Refusals()
