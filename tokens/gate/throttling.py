"""take(): one request from a token's bucket, which all workers share.

    await buckets.take(token_id, Rate(per_second, burst), now=…)   → Verdict

A token's row holds its bucket's level. A worker pays from a slice it has drawn; with large bursts it may
pass a few requests ahead of a draw, which then runs beside the request. Slices and requests passed ahead
are each at most 1/40 of the burst over all workers, so in any t seconds at most 1.05 × (burst + rate × t)
pass, however requests are spread over the workers. A new worker starts with nothing drawn.
Time is passed in: the database's, as in every check. Source: docs/decisions/0009-throttle.md.
"""

import asyncio
import logging
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import ceil, floor

from django.conf import settings

from apperate.database import pool
from apperate.database.outage import UNAVAILABLE, outage
from apperate.kernel.refusals import Refusal
from tokens.rules.permissions import Settings

BURST_MIN = 10
PART = 40  # what workers hold, and what they pass ahead, are each at most this fraction of the burst
BUCKETS_MAX = 10_000
BEHIND_SECONDS = 15  # a worker's time is never further behind: a poll and its age, with a margin
logger = logging.getLogger("apperate.throttle")

# One row: the level after this draw, and what it took. What was passed ahead is paid in any case, so the
# level may be negative for a while. Workers know the time with some delay, so the row keeps the latest; one
# that is further ahead than that is from before the clock was set back, and would stop the refill until it is
# reached again. Index: tokens_throttle_pkey.
FILLED = """least(%(burst)s, t.level + %(rate)s * greatest(0, extract(epoch FROM %(now)s - t.filled_at)))"""
TAKEN = "(%(debt)s + least(%(wanted)s, greatest(0, floor({filled} - %(debt)s))))"
DRAW = f"""
INSERT INTO tokens_throttle AS t (token_id, level, filled_at, last_taken)
SELECT %(token)s, %(burst)s - n.taken, %(now)s, n.taken
  FROM (SELECT {TAKEN.format(filled="%(burst)s")} AS taken) n
ON CONFLICT (token_id) DO UPDATE
      SET level = {FILLED} - {TAKEN.format(filled=FILLED)}, last_taken = {TAKEN.format(filled=FILLED)},
          filled_at = CASE WHEN t.filled_at > %(now)s + interval '{BEHIND_SECONDS} s' THEN %(now)s
                           ELSE greatest(t.filled_at, %(now)s) END
RETURNING level, last_taken
"""  # noqa: S608  the pieces are constants of this module


@dataclass(frozen=True, slots=True)
class Rate:
    """Requests per second, and how many may come at once."""

    per_second: int
    burst: int


def rate_of(versions: tuple[Settings, ...], plan_rate: int) -> Rate:
    """The lowest rate and burst of the versions that count; the plan's rate where none sets one."""
    rates = [version.requests_per_second or plan_rate for version in versions]
    rate = min(rates, default=plan_rate)
    bursts = [version.burst for version in versions if version.burst]
    return Rate(rate, min(bursts, default=max(BURST_MIN, rate)))


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a request passes, and what the headers report: how many more may come, and when."""

    rate: Rate
    passes: bool
    remaining: int
    wait_seconds: int

    @property
    def headers(self) -> dict[str, str]:
        """Source: draft-ietf-httpapi-ratelimit-headers-10."""
        window = max(1, ceil(self.rate.burst / self.rate.per_second))
        return {
            "RateLimit-Policy": f'"token";q={self.rate.burst};w={window}',
            "RateLimit": f'"token";r={self.remaining};t={self.wait_seconds}',
        }

    def refusal(self) -> Refusal | None:
        if self.passes:
            return None
        return Refusal(
            "rate-limited",
            f"The token may send {self.rate.per_second:,} requests a second, {self.rate.burst:,} at once.",
            check="rate",
            received="more requests than that",
            needed=f"at most {self.rate.per_second:,} requests a second, or a higher rate of the token",
            retry_after_seconds=self.wait_seconds,
        )


def verdict_of(rate: Rate, level: float, filled_at: datetime, *, now: datetime) -> Verdict:
    """What a bucket's row says about one more request, without taking it.

    Approximate: workers hold small slices of a large bucket, and its row is not updated by each request.
    """
    refilled = rate.per_second * max(0.0, (now - filled_at).total_seconds())
    filled = min(float(rate.burst), level + refilled)
    wait = ceil((1 - filled) / rate.per_second)
    return Verdict(rate, filled >= 1, max(0, floor(filled)), max(1, wait))


@dataclass(slots=True)
class Bucket:
    """This worker's part of a token's bucket; negative when it has passed requests ahead."""

    rate: Rate
    held: int = 0
    level: float = 0.0  # of the row, at the last draw; full until then
    empty_from: datetime | None = None  # not before it: the clock was set back, and the row is asked again
    empty_until: datetime | None = None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    draw: "asyncio.Task[None] | None" = None

    @property
    def ahead_max(self) -> int:
        return floor(self.rate.burst / PART / settings.WORKERS)

    def spend(self) -> Verdict:
        self.held -= 1
        left = max(0, floor(self.level) + self.held)
        return Verdict(self.rate, True, left, max(1, ceil((self.rate.burst - left) / self.rate.per_second)))

    def is_empty(self, now: datetime) -> bool:
        """Whether the row is known to have nothing yet."""
        return bool(self.empty_from and self.empty_until and self.empty_from <= now < self.empty_until)

    def refuse(self, now: datetime) -> Verdict:
        wait = (self.empty_until - now).total_seconds() if self.empty_until else 1
        return Verdict(self.rate, False, 0, max(1, ceil(wait)))


class Buckets:
    """The buckets of this process, used only from its event loop; the least recently used dropped first."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[int, Bucket] = OrderedDict()

    async def take(self, token_id: int, rate: Rate, *, now: datetime) -> Verdict:
        """Whether one more request may pass. At most one statement; with large bursts it runs in parallel."""
        bucket = self._of(token_id, rate)
        if bucket.is_empty(now):
            return bucket.refuse(now)
        if bucket.held > -bucket.ahead_max:
            verdict = bucket.spend()
            # Half of what may be passed ahead is reserved for requests that arrive during the draw.
            if bucket.held <= -(bucket.ahead_max // 2) and bucket.ahead_max and bucket.draw is None:
                bucket.draw = asyncio.create_task(self._draw_beside(token_id, bucket, now))
            return verdict
        async with bucket.turn:
            if bucket.held <= -bucket.ahead_max and not bucket.is_empty(now):
                await self._draw(token_id, bucket, now)
            if bucket.held <= 0 and (bucket.held <= -bucket.ahead_max or bucket.empty_until):
                return bucket.refuse(now)
            return bucket.spend()

    def _of(self, token_id: int, rate: Rate) -> Bucket:
        bucket = self._buckets.get(token_id)
        if bucket is None:
            bucket = self._buckets[token_id] = Bucket(rate, level=rate.burst)
        elif bucket.rate != rate:
            bucket.rate, bucket.empty_until = rate, None
            bucket.held = min(bucket.held, bucket.ahead_max)
        self._buckets.move_to_end(token_id)
        while len(self._buckets) > BUCKETS_MAX:
            self._buckets.popitem(last=False)
        return bucket

    async def _draw(self, token_id: int, bucket: Bucket, now: datetime) -> None:
        """Pay for what was passed ahead, and take the next slice if the bucket has it."""
        debt = max(0, -bucket.held)
        parameters = {
            "token": token_id, "rate": bucket.rate.per_second, "burst": bucket.rate.burst, "now": now,
            "debt": debt, "wanted": max(1, bucket.ahead_max),
        }  # fmt: skip
        # A retry after a lost answer may lose a slice; it can never pass one twice.
        rows = await pool.fetch_all(DRAW, parameters)
        level, taken = rows[0]
        bucket.level = level
        bucket.held += taken
        wait = (1 - level) / bucket.rate.per_second
        bucket.empty_from = now
        bucket.empty_until = now + timedelta(seconds=wait) if taken <= debt and wait > 0 else None

    async def _draw_beside(self, token_id: int, bucket: Bucket, now: datetime) -> None:
        try:
            async with bucket.turn:
                await self._draw(token_id, bucket, now)
        # What was passed ahead stays owed; once that is used up, requests wait for a draw.
        except UNAVAILABLE as error:
            outage.note(error)
        except Exception:
            logger.exception("drawing a slice of a token's rate failed")
        finally:
            bucket.draw = None

    def clear(self) -> None:
        """Forget everything, as at the start of the process."""
        self._buckets.clear()


buckets = Buckets()
