"""What a month comes to at the pace of its days so far."""

from datetime import UTC, datetime, timedelta

import pytest

from tokens.usage.forecasts import limit_met_at, outlook, pace
from tokens.usage.periods import DAY

NOW = datetime(2026, 11, 16, 12, tzinfo=UTC)  # 15.5 of 30 days have passed.


def test_the_days_to_come_are_like_the_mean_of_those_gone() -> None:
    found = outlook(620, 1_000, now=NOW)

    assert found
    assert (found.credits, found.limit_at) == (1_200, NOW + 9.5 * DAY)


@pytest.mark.parametrize(
    ("used", "limit", "why"),
    [(620, None, "no limit"), (620, 1_201, "not this month"), (620, 620, "met already"), (620, 0, "over")],
)
def test_a_limit_that_is_not_met_from_here_on_has_no_date(used: int, limit: int | None, why: str) -> None:
    assert limit_met_at(used, limit, pace(used, now=NOW), now=NOW) is None, why


def test_the_first_hour_and_an_unused_month_tell_nothing() -> None:
    first = NOW.replace(day=1, hour=0)

    assert outlook(50, 100, now=first + timedelta(minutes=59)) is None
    assert outlook(50, 100, now=first + timedelta(minutes=60)) is not None
    assert outlook(0, 100, now=NOW) is None
