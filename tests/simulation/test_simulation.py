"""S07, S19, S30, S32: the token core keeps its promises in simulated storms; a planted bug is found."""

import pytest

from tests.simulation.bugs import BUGS
from tests.simulation.world import Run, Violation

STEPS = 25_000
STEPS_TO_FIND = 40_000  # for each seed that is tried


@pytest.mark.slow("simulated runs")
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_token_core_keeps_its_promises(seed: int) -> None:
    run = Run(seed, STEPS)

    run.go()

    assert run.steps >= STEPS
    assert {"ok", "credits-exhausted", "rate-limited", "unavailable"} <= set(run.judge.seen)


def test_a_seed_always_gives_the_same_run() -> None:
    first, second = Run(4, 5_000), Run(4, 5_000)

    first.go()
    second.go()

    assert first.trace == second.trace and first.digest == second.digest


@pytest.mark.slow("a simulated run for each planted bug")
@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_found(name: str) -> None:
    for seed in range(1, 6):
        try:
            Run(seed, STEPS_TO_FIND, bugs=(BUGS[name],)).go()
        except Violation:
            return
    pytest.fail(f"nothing was noticed in five runs of {STEPS_TO_FIND} steps")
