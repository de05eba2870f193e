"""S32: a credit limit is exact over worker processes, also when they are killed.

`python benchmarks/credits.py` runs each race six times.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.credit_race import LIMIT, Race, race

pytestmark = [pytest.mark.server, pytest.mark.database]


@pytest.fixture(scope="module")
def installation() -> Iterator[Race]:
    with tempfile.TemporaryDirectory(prefix="apperate-race-") as folder:
        installation = Race(Path(folder) / "data")
        installation.start()
        yield installation
        installation.end()


def test_eight_clients_and_four_workers_spend_exactly_the_limit(installation: Race) -> None:
    outcome = race(installation)

    assert (outcome.served, outcome.charged) == (LIMIT, LIMIT)


def test_killed_workers_never_let_more_through_and_lose_only_what_they_held(installation: Race) -> None:
    outcome = race(installation, kill_every_seconds=1)

    assert outcome.kills > 0
    assert outcome.served <= outcome.charged <= LIMIT
    assert outcome.charged - outcome.served <= outcome.unspendable_max
