"""S30, S32: limits hold over worker processes; that of credits to the credit, also when workers are killed.

`python benchmarks/credits.py` runs each race for credits six times.
"""

from collections.abc import Iterator

import pytest

from tests.support.installation import started
from tests.support.load import throttle_race
from tests.support.load.credit_race import LIMIT, Race, race
from tokens.gate.throttling import Rate

pytestmark = [pytest.mark.server, pytest.mark.database]


@pytest.fixture(scope="module")
def installation() -> Iterator[Race]:
    with started(Race) as installation:
        yield installation


@pytest.mark.check("S32")
def test_eight_clients_and_four_workers_spend_exactly_the_limit(installation: Race) -> None:
    outcome = race(installation)

    assert (outcome.served, outcome.charged) == (LIMIT, LIMIT)


@pytest.mark.check("S32")
def test_killed_workers_never_let_more_through_and_lose_only_the_answers_under_way(
    installation: Race,
) -> None:
    """What they held is given back, but for one lease at most that was on its way back already."""
    outcome = race(installation, kill_every_seconds=1)

    assert outcome.kills > 0
    assert outcome.served <= outcome.charged <= LIMIT
    assert outcome.charged - outcome.served <= outcome.cut_max + LIMIT // 64
    assert outcome.served <= outcome.counted <= outcome.served + outcome.cut_max


RATE = Rate(per_second=20, burst=20)


@pytest.mark.check("S30")
@pytest.mark.parametrize("times_rate", [0.8, 1, 10])
def test_eight_clients_and_four_workers_keep_to_the_rate_of_a_token(
    installation: Race, times_rate: float
) -> None:
    outcome = throttle_race.race(installation, RATE, times_rate=times_rate, seconds=2)

    assert {answer.status for answer in outcome.answers} <= {200, 429}
    assert outcome.worst <= 1.05
    if times_rate < 1:
        assert len(outcome.passed) == len(outcome.answers)
    if times_rate > 1:
        assert len(outcome.passed) < len(outcome.answers)
        assert outcome.worst > 0.5
