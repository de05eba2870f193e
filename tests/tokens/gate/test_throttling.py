"""S30: in any t seconds at most 1.05 × (burst + rate × t) requests pass, over all workers."""

import logging
from datetime import UTC, datetime, timedelta

import pytest
from django.conf import settings
from psycopg_pool import PoolTimeout

from apperate.database.outage import Outage
from tests.support.data_plane_client import DataPlaneClient
from tests.support.factories import DatasetFactory, TokenFactory
from tokens.gate.throttling import Bucket, Buckets, Rate, rate_of
from tokens.models import Token
from tokens.rules.permissions import Settings

pytestmark = pytest.mark.django_db(transaction=True)
START = datetime(2026, 5, 1, tzinfo=UTC)
RATES = [Rate(10, 10), Rate(100, 100), Rate(1_000, 1_000), Rate(50, 5), Rate(2, 400)]


async def ask(token: Token, rate: Rate, *, times_rate: float, seconds: float) -> tuple[int, int]:
    """(asked, passed) by evenly spaced requests that reach two workers in turn."""
    workers = [Buckets() for _ in range(settings.WORKERS)]
    asked = int(rate.per_second * times_rate * seconds)
    passed = 0
    for number in range(asked):
        bucket = workers[number % len(workers)]
        now = START + timedelta(seconds=number / (rate.per_second * times_rate))
        passed += (await bucket.take(token.pk, rate, now=now)).passes
        for worker in workers:
            for known in worker._buckets.values():
                if known.draw is not None:
                    await known.draw
    return asked, passed


@pytest.mark.check("S30")
@pytest.mark.parametrize("rate", RATES, ids=str)
def test_no_more_pass_than_the_bucket_holds(api: DataPlaneClient, rate: Rate) -> None:
    seconds = 200 / rate.per_second

    asked, passed = api.run(ask(TokenFactory(), rate, times_rate=10, seconds=seconds))

    bound = rate.burst + rate.per_second * seconds
    assert 0.9 * min(bound, asked) <= passed <= 1.05 * bound


@pytest.mark.check("S30")
@pytest.mark.parametrize("rate", RATES, ids=str)
def test_a_caller_at_four_fifths_of_its_rate_is_never_refused(api: DataPlaneClient, rate: Rate) -> None:
    asked, passed = api.run(ask(TokenFactory(), rate, times_rate=0.8, seconds=300 / rate.per_second))

    assert passed == asked


def test_a_bucket_fills_again(api: DataPlaneClient) -> None:
    token, buckets, rate = TokenFactory(), Buckets(), Rate(2, 3)

    async def passes(seconds: float) -> bool:
        return (await buckets.take(token.pk, rate, now=START + timedelta(seconds=seconds))).passes

    verdicts = [api.run(passes(second)) for second in (0, 0, 0, 0, 0.4, 0.5, 0.5, 1.6, 1.6, 1.6)]

    assert verdicts == [True, True, True, False, False, True, False, True, True, False]


def test_a_clock_that_was_set_back_stops_no_bucket_from_filling(api: DataPlaneClient) -> None:
    """Neither the row nor what a worker remembers of it waits for the time that had been."""
    token, buckets, rate = TokenFactory(), Buckets(), Rate(2, 2)

    async def passes(seconds: float) -> bool:
        return (await buckets.take(token.pk, rate, now=START + timedelta(seconds=seconds))).passes

    before = [api.run(passes(0)) for _ in range(3)]
    after = [api.run(passes(second)) for second in (-3_600, -3_599.4, -3_599.4, -3_590, -3_590, -3_590)]

    assert before == [True, True, False]
    assert after == [False, True, False, True, True, False]


def test_a_worker_whose_time_is_behind_fills_nothing_twice(api: DataPlaneClient) -> None:
    token, rate = TokenFactory(), Rate(2, 2)
    ahead, behind = Buckets(), Buckets()

    async def passes(buckets: Buckets, seconds: float) -> bool:
        return (await buckets.take(token.pk, rate, now=START + timedelta(seconds=seconds))).passes

    first = [api.run(passes(ahead, 0)) for _ in range(3)]
    second = [api.run(passes(behind, -10)) for _ in range(3)]
    third = api.run(passes(ahead, 0.4))

    assert (first, second, third) == ([True, True, False], [False] * 3, False)


@pytest.mark.parametrize(
    ("versions", "plan_rate", "rate"),
    [
        ((), 100, Rate(100, 100)),
        ((Settings(),), 5, Rate(5, 10)),
        ((Settings(requests_per_second=3),), 100, Rate(3, 10)),
        ((Settings(requests_per_second=30, burst=4), Settings(requests_per_second=20)), 100, Rate(20, 4)),
    ],
)
def test_the_lowest_rate_of_both_versions_holds(
    versions: tuple[Settings, ...], plan_rate: int, rate: Rate
) -> None:
    assert rate_of(versions, plan_rate) == rate


@pytest.fixture
def slow(db: None) -> Token:
    """A token of two requests at once, and one more in a thousand seconds at most."""
    return TokenFactory(settings={"requests_per_second": 1, "burst": 2, "all_datasets_read": True})


def test_above_the_rate_is_429_and_says_when_to_return(api: DataPlaneClient, slow: Token) -> None:
    dataset = DatasetFactory(workspace=slow.workspace)
    path = f"/v1/data/{slow.workspace.name}/{dataset.name}?token={slow.test_value}"

    replies = [api.get(path) for _ in range(6)]
    refused = next(reply for reply in replies if reply.status == 429)

    assert replies[0].headers["ratelimit-policy"] == '"token";q=2;w=2'
    assert replies[0].headers["ratelimit"] == '"token";r=1;t=1'
    assert (refused.code, refused.json()["check"]) == ("rate-limited", "rate")
    assert refused.headers["retry-after"] == "1"
    assert refused.headers["ratelimit"] == '"token";r=0;t=1'


def test_a_batch_counts_one(api: DataPlaneClient, slow: Token) -> None:
    names = ",".join(dataset.name for dataset in DatasetFactory.create_batch(5, workspace=slow.workspace))

    reply = api.get(f"/v1/data/{slow.workspace.name}/{names}?token={slow.test_value}")

    assert (reply.status, reply.headers["ratelimit"]) == (200, '"token";r=1;t=1')


def test_a_request_without_permission_takes_nothing(api: DataPlaneClient, slow: Token) -> None:
    """Permission comes before the rate: the first "no" is the answer."""
    path = f"/v1/data/{slow.workspace.name}/NONE?token={slow.test_value}"

    assert {api.get(path).code for _ in range(5)} == {"dataset-not-granted"}


def test_slices_that_an_outage_costs_are_no_traceback_each(
    api: DataPlaneClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The line that says the database is away is that of all of them."""

    async def away(*_: object, **__: object) -> None:
        raise PoolTimeout("couldn't get a connection after 1.00 sec")

    monkeypatch.setattr("apperate.database.pool.fetch_all", away)
    monkeypatch.setattr("tokens.gate.throttling.outage", Outage())
    bucket = Bucket(RATES[0], level=1.0)

    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            api.run(Buckets()._draw_beside(1, bucket, START))

    (line,) = [record for record in caplog.records if record.name.startswith(("apperate.", "tokens."))]
    assert line.getMessage().startswith("the database does not answer error=PoolTimeout")
    assert line.exc_info is None
