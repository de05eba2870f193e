"""The Core credit usage limit is never exceeded, whoever asks at the same time."""

import asyncio
from datetime import UTC, datetime

import pytest

from apperate.clock import month_of, next_month
from apperate.refusals import Refusal
from tests.data_plane_client import DataPlaneClient
from tests.factories import TokenFactory
from tokens import credits
from tokens.credits import Charged, spent
from tokens.models import CreditWindow

pytestmark = pytest.mark.django_db(transaction=True)
NOW = datetime(2026, 2, 28, 23, 59, 59, tzinfo=UTC)


@pytest.fixture(autouse=True)
def nothing_known() -> None:
    spent.clear()


@pytest.mark.parametrize(
    ("limit", "cost", "calls", "charged"), [(100, 1, 250, 100), (100, 7, 60, 14), (1, 1, 50, 1), (0, 1, 5, 0)]
)
def test_the_limit_is_hit_exactly_by_many_at_once(
    api: DataPlaneClient, limit: int, cost: int, calls: int, charged: int
) -> None:
    token = TokenFactory()

    async def all_at_once() -> list[Charged | Refusal]:
        return await asyncio.gather(
            *(credits.charge(token.pk, cost, limit=limit, now=NOW) for _ in range(calls))
        )

    verdicts = api.run(all_at_once())

    assert sum(isinstance(verdict, Charged) for verdict in verdicts) == charged
    used = CreditWindow.objects.filter(token=token).values_list("used", flat=True).first() or 0
    assert used == charged * cost


def test_a_new_month_starts_anew(api: DataPlaneClient) -> None:
    token = TokenFactory()
    later = datetime(2026, 3, 1, tzinfo=UTC)

    verdicts = [api.run(credits.charge(token.pk, 10, limit=10, now=now)) for now in (NOW, NOW, later)]

    assert [type(verdict) for verdict in verdicts] == [Charged, Refusal, Charged]
    assert verdicts[1].retry_after_seconds == 2
    assert CreditWindow.objects.filter(token=token).count() == 2


def test_a_limit_lowered_below_what_is_used_refuses(api: DataPlaneClient) -> None:
    token = TokenFactory()
    api.run(credits.charge(token.pk, 10, limit=10, now=NOW))

    verdict = api.run(credits.charge(token.pk, 1, limit=5, now=NOW))

    assert isinstance(verdict, Refusal)
    assert "0 are left" in verdict.detail


@pytest.mark.parametrize(
    ("now", "first", "after"),
    [
        (
            datetime(2026, 12, 31, 23, 59, tzinfo=UTC),
            datetime(2026, 12, 1, tzinfo=UTC),
            datetime(2027, 1, 1, tzinfo=UTC),
        ),
        (
            datetime(2028, 2, 29, tzinfo=UTC),
            datetime(2028, 2, 1, tzinfo=UTC),
            datetime(2028, 3, 1, tzinfo=UTC),
        ),
    ],
)
def test_the_window_is_the_utc_month(now: datetime, first: datetime, after: datetime) -> None:
    assert (month_of(now), next_month(now)) == (first, after)
