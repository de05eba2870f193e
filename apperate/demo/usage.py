"""A month of made-up usage for the demo's tokens: one row per hour, each marked is_demo."""

import math
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from apperate.accounts.models import CORE, PREMIUM
from apperate.database.clock import month_of
from apperate.demo import tokens as demo_tokens
from apperate.demo.content import WORKSPACE
from datasets.models import Dataset
from tokens.alerts import telling
from tokens.gate import refusal_log
from tokens.models import CreditWindow, Token, TokenRefusal, UsageCounter

DAYS = 30
HOUR = timedelta(hours=1)
# Spent by the token near its limit: 97 %.
NEARLY_SPENT = 48_640
ROWS_AT_ONCE = 2_000


@dataclass(frozen=True, slots=True)
class Traffic:
    """A token's use of a dataset: calls in a busy hour, records per call, and hours since the last call."""

    nickname: str
    dataset: tuple[str, str] | None
    calls: float
    records: int = 1
    operation: str = "read"
    outcome: str = "ok"
    idle: int = 0


STOCKS, WEATHER, CARS = (WORKSPACE, "STOCKS"), (WORKSPACE, "WEATHER"), (WORKSPACE, "CARS")
PRICES, RETURNS = (CORE, "HISTORICAL_PRICES"), (PREMIUM, "MONTHLY_RETURNS")
TRAFFIC = (
    Traffic(demo_tokens.SECRET, STOCKS, 2, 25, "write", idle=6),
    Traffic(demo_tokens.SECRET, WEATHER, 1, 5, "write", idle=6),
    Traffic(demo_tokens.PUBLIC, STOCKS, 180, 20),
    Traffic(demo_tokens.PUBLIC, WEATHER, 60, 7),
    Traffic(demo_tokens.PUBLIC, CARS, 25, 10),
    Traffic(demo_tokens.PUBLIC, PRICES, 12, 5),
    Traffic(demo_tokens.PUBLIC, RETURNS, 6, 12),
    Traffic("Customer websites", STOCKS, 320, 5),
    Traffic("Customer websites", PRICES, 20, 1),
    Traffic("Customer websites", None, 9, 0, outcome="domain-not-allowed"),
    Traffic(demo_tokens.NEAR_LIMIT, PRICES, 8, 10, idle=2),
    Traffic(demo_tokens.NEAR_LIMIT, STOCKS, 45, 10, idle=2),
    Traffic(demo_tokens.SCHEDULED, STOCKS, 140, 3),
    Traffic(demo_tokens.SCHEDULED, PRICES, 15, 1),
    Traffic(demo_tokens.SCHEDULED, None, 2, 0, outcome="dataset-not-granted"),
    Traffic(demo_tokens.DISABLED, CARS, 12, 50),
)


@dataclass(frozen=True, slots=True)
class Caller:
    """A site whose pages called, or what a program asked for; its share of such calls in percent."""

    nickname: str
    outcome: str
    site: str
    percent: int
    dataset: tuple[str, str] | None = None


# The percentages of one token and outcome add up to 100, unless some calls come from programs.
CALLERS = (
    Caller("Customer websites", refusal_log.ANSWERED, "www.example.com", 55),
    Caller("Customer websites", refusal_log.ANSWERED, "shop.example.org", 25),
    Caller("Customer websites", "domain-not-allowed", "staging.example.net", 82),
    Caller("Customer websites", "domain-not-allowed", "preview.example.com", 18),
    Caller(demo_tokens.SCHEDULED, "dataset-not-granted", "", 100, CARS),
)


def make_usage(
    tokens: Mapping[str, Token], found: Mapping[tuple[str, str], Dataset], *, now: datetime
) -> None:
    """Record a month of calls for these tokens, and their spending on CORE. `tokens`: nickname → token."""
    rows: list[UsageCounter] = []
    for traffic in TRAFFIC:
        if traffic.nickname in tokens:
            rows += _rows(traffic, tokens[traffic.nickname], found, now=now)
    UsageCounter.objects.bulk_create(rows, batch_size=ROWS_AT_ONCE)
    spent: dict[tuple[int, date], int] = defaultdict(int)
    for row in rows:
        spent[row.token_id, month_of(row.minute).date()] += row.core_credits
    CreditWindow.objects.bulk_create(
        CreditWindow(token_id=token_id, month=month, used=used)
        for (token_id, month), used in spent.items()
        if used
    )
    make_callers(rows, tokens, found)
    telling.skip_alerts([token.pk for token in tokens.values()], now=now)


def make_callers(
    rows: Iterable[UsageCounter], tokens: Mapping[str, Token], found: Mapping[tuple[str, str], Dataset]
) -> None:
    """Record for the token pages who called and what was refused, in the same numbers."""
    counted: dict[tuple[int, str], list[UsageCounter]] = defaultdict(list)
    for row in rows:
        counted[row.token_id, row.outcome].append(row)
    TokenRefusal.objects.bulk_create(
        TokenRefusal(
            token_id=token.pk,
            code=caller.outcome,
            dataset_id=found[caller.dataset].pk if caller.dataset else 0,
            site=caller.site,
            calls=max(1, sum(row.calls for row in those) * caller.percent // 100),
            first_at=min(row.minute for row in those),
            last_at=max(row.minute for row in those),
        )
        for caller in CALLERS
        if (token := tokens.get(caller.nickname)) and (those := counted[token.pk, caller.outcome])
    )


def _rows(
    traffic: Traffic, token: Token, found: Mapping[tuple[str, str], Dataset], *, now: datetime
) -> Iterator[UsageCounter]:
    dataset = found[traffic.dataset] if traffic.dataset else None
    is_core = traffic.dataset is not None and traffic.dataset[0] == CORE
    price = dataset.credits_per_record if dataset and traffic.operation == "read" else 0
    for hour, records in _records_by_hour(traffic, token, now=now).items():
        calls = max(1, round(records / traffic.records)) if traffic.records else records
        records = records if traffic.records else 0
        yield UsageCounter(
            token_id=token.pk,
            dataset_id=dataset.pk if dataset else 0,
            operation=traffic.operation,
            outcome=traffic.outcome,
            minute=hour,
            calls=calls,
            records=records,
            credits=records * price,
            core_credits=records * price if is_core else 0,
            is_demo=True,
        )


def _records_by_hour(traffic: Traffic, token: Token, *, now: datetime) -> dict[datetime, int]:
    """Records (or calls, when a call has none) per full past hour; empty hours are left out."""
    chance = random.Random(f"{traffic.nickname} {traffic.dataset} {traffic.outcome}")  # noqa: S311  Not a secret.
    last = now.replace(minute=0, second=0, microsecond=0)
    end = min(last - HOUR * traffic.idle, token.disabled_at or last)
    hours = [last - HOUR * back for back in range(DAYS * 24, 0, -1)]
    busy = {hour: busyness(hour) * chance.uniform(0.7, 1.2) for hour in hours if hour < end}
    found = {hour: round(traffic.calls * share) * max(traffic.records, 1) for hour, share in busy.items()}
    if traffic.nickname == demo_tokens.NEAR_LIMIT and traffic.dataset == PRICES:
        month = month_of(now)
        found = {hour: records for hour, records in found.items() if hour < month}
        found |= _shares(
            NEARLY_SPENT, {hour: share for hour, share in busy.items() if hour >= month} or {month: 1.0}
        )
    return {hour: records for hour, records in found.items() if records}


def busyness(hour: datetime) -> float:
    """How busy an hour is, from 0 to 1: most in the afternoon, least at night, less at weekends."""
    of_day = 0.12 + 0.88 * max(0.0, math.sin((hour.hour - 6) / 24 * 2 * math.pi))
    return of_day * (0.4 if hour.weekday() >= 5 else 1.0)


def _shares(total: int, weights: Mapping[datetime, float]) -> dict[datetime, int]:
    """Split a total into whole parts by weight; the parts add up to it."""
    whole, done, parts = sum(weights.values()), 0.0, {}
    for hour, weight in weights.items():
        before = round(total * done / whole)
        done += weight
        parts[hour] = round(total * done / whole) - before
    return parts
