"""The experiments in small, each for seconds: `make torture` runs all of them, and for longer.

What is looked at is what must never happen; how long something takes is for a quiet machine to say.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.torture import experiments
from tests.torture.outcome import Outcome
from tests.torture.stage import Stage
from tests.torture.trial import EXPERIMENTS, Trial

pytestmark = [
    pytest.mark.server,
    pytest.mark.slow("each breaks a running installation for some seconds and waits until it is well"),
]
SEED = 7


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """One installation on the embedded server, which the experiments break one after the other."""
    with tempfile.TemporaryDirectory(prefix="apperate-torture-") as folder:
        stage = Stage(Path(folder) / "data")
        try:
            stage.start()
            yield stage
        finally:
            stage.end()


def run(id: str, folder: Path, stage: Stage | None = None) -> Outcome:
    assert experiments.__all__
    trial = Trial(EXPERIMENTS[id], SEED, folder, quick=True)
    trial.shared = stage
    found = trial.run()
    assert found.state in ("held", "broken"), found.line()
    assert found.violations == [], found.line()
    assert (found.lost, found.partial, found.doubled, found.overspent, found.passed) == (0, 0, 0, 0, 0)
    assert found.misrefused == {}, found.line()
    return found


@pytest.mark.parametrize("id", ["E-W1", "E-D1", "E-D2", "E-C3-database"])
def test_nothing_is_lost_doubled_or_overspent(id: str, stage: Stage, tmp_path: Path) -> None:
    """Workers and the database are killed, and sessions ended, under load: the invariants I1 to I7 hold."""
    found = run(id, tmp_path, stage)

    if id == "E-C3-database":
        assert 0 < found.served <= found.charged
    else:
        assert found.acknowledged > 0
    assert stage.is_well()


def test_a_commit_that_is_cut_is_resolved_by_its_key(tmp_path: Path) -> None:
    """E-D5: reset before or after the database has the COMMIT; the same key tells what became of it."""
    found = run("E-D5-commit", tmp_path)

    assert found.acknowledged > 0
    assert found.figures["connections reset in a COMMIT"] > 0
