"""Judges the throttle: how much passes in any span, and who stays well below the rate is never refused."""

from dataclasses import dataclass
from datetime import datetime
from math import floor
from typing import Any

from tests.simulation.server import TokenRow

MARGIN = 1.05
FREE_SHARE = 0.8
PART = 40
PLAN_RATE = 5_000
JITTER_SECONDS = 0.1  # between a draw and what passes by it, in calm
TROUBLED_JITTER_SECONDS = 15.0


class Violation(AssertionError):
    """A promise was broken."""


@dataclass
class Meter:
    """A token's requests at one rate: `passed` leaks at 1.05 × rate, `asked` at 0.8 × rate."""

    rate: int
    burst: int
    since: float
    passed: float = 0.0
    asked: float = 0.0
    passed_at: float = 0.0
    asked_at: float = 0.0
    beyond_at: float = -1e9  # when it last asked for more than is never refused


class RateJudge:
    """In any t seconds at most 1.05 × (burst + rate × t) pass: a bucket of that size never overflows."""

    def __init__(self, judge: Any) -> None:
        self._judge = judge
        self._meters: dict[int, Meter] = {}
        self.troubled_at = 0.0

    def asked(self, token: int) -> None:
        if meter := self._meters.get(token):
            now = self._judge.now()
            meter.asked = max(0.0, meter.asked - FREE_SHARE * meter.rate * (now - meter.asked_at)) + 1
            meter.asked_at = now
            if meter.asked > max(1.0, 0.3 * meter.burst):
                meter.beyond_at = now

    def passed(self, worker: Any, token: int, begun_at: float) -> None:
        now = self._judge.now()
        meter = self._stable(token, begun_at - self._judge.bound(worker))
        if meter is None:
            return
        meter.passed = max(0.0, meter.passed - MARGIN * meter.rate * (now - meter.passed_at)) + 1
        meter.passed_at = now
        jitter = JITTER_SECONDS if self._judge.all_calm() else TROUBLED_JITTER_SECONDS
        if meter.passed > MARGIN * (meter.burst + meter.rate * jitter) + 1e-6:
            raise self._judge.fail(
                f"token {token} passed {meter.passed:.2f} at {meter.rate} a second, {meter.burst} at once"
            )

    def refused(self, worker: Any, token: int, begun_at: float) -> None:
        """A 429 in calm: only to who asks for more than four fifths of the rate."""
        meter, now = self._stable(token, begun_at - self._judge.bound(worker)), self._judge.now()
        if meter is None or not self._judge.all_calm():
            return
        since = max(meter.beyond_at, meter.since, self.troubled_at + 15.0)
        if now - since > 10 + meter.burst / (0.2 * meter.rate):
            raise self._judge.fail(
                f"token {token} is refused, though it asked for less than its rate for {now - since:.0f} s"
            )

    def forgive(self, workers: int) -> None:
        """A worker was killed: what it had passed ahead is never paid."""
        for meter in self._meters.values():
            meter.passed = max(0.0, meter.passed - floor(meter.burst / PART / workers) - 1)

    def clock_set(self) -> None:
        """A clock that jumps ahead fills every bucket."""
        self.troubled_at = self._judge.now()
        for meter in self._meters.values():
            meter.passed = 0.0

    def _stable(self, token: int, since: float) -> Meter | None:
        """The meter of a token whose rate has been one and the same since then; a change begins anew."""
        rows = self._judge.rows_since(token, since)
        rates = {rate_of(row, at) for _, row, _ in rows for at in self._judge.clock_turns(row, since)}
        meter, now = self._meters.get(token), self._judge.now()
        if len(rates) != 1:
            self._meters.pop(token, None)
            return None
        rate, burst = rates.pop()
        if meter is None or (meter.rate, meter.burst) != (rate, burst):
            meter = self._meters[token] = Meter(rate, burst, now, passed_at=now, asked_at=now)
        return meter


def rate_of(row: TokenRow, at: Any) -> tuple[int, int]:
    """The lowest rate and burst of the versions that count; where none is set, the plan's."""
    versions = [version.settings for version in counting(row, at)]
    rate = min((v["requests_per_second"] or PLAN_RATE for v in versions), default=PLAN_RATE)
    bursts = [v["burst"] for v in versions if v["burst"]]
    return rate, min(bursts, default=max(10, rate))


def counting(row: TokenRow, at: datetime) -> list[Any]:
    """The versions that must all allow a request: the one in force and the one pending."""
    live = row.live()
    if live and live[0].effective_at <= at:
        return live[:1]
    return live if len(live) == 2 else []
