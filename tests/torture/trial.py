"""One run of an experiment, and the list of experiments.

    @experiment("E-W1", "kill -9 of a web worker")
    def killed(trial: Trial) -> None: …

An experiment puts a `Stage` up, lets clients play while it breaks something, and writes into `trial.outcome`.
"""

import contextlib
import random
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from tests.support.installation import Installation
from tests.torture.checker import judge
from tests.torture.clients import Load, Players, playing
from tests.torture.external.elsewhere import Elsewhere, elsewhere
from tests.torture.history import Request
from tests.torture.outcome import ABSENT, FAILED, Mark, Outcome
from tests.torture.stage import Stage

WARM_SECONDS = 2.0
AnyStage = TypeVar("AnyStage", bound=Installation)


class NotThere(Exception):
    """What the experiment needs is missing on this machine, or not built yet; the text says what."""


@dataclass(frozen=True)
class Experiment:
    id: str
    title: str
    run: "Callable[[Trial], None]"


EXPERIMENTS: dict[str, Experiment] = {}


def experiment(id: str, title: str) -> "Callable[[Callable[[Trial], None]], Callable[[Trial], None]]":
    def add(run: "Callable[[Trial], None]") -> "Callable[[Trial], None]":
        assert id not in EXPERIMENTS
        EXPERIMENTS[id] = Experiment(id, title, run)
        return run

    return add


class Trial:
    """`quick`: for so short a time that it fits among other tests."""

    def __init__(self, found: Experiment, seed: int, folder: Path, *, quick: bool = False) -> None:
        self.experiment, self.folder, self.quick = found, folder, quick
        self.random = random.Random(f"{seed} {found.id}")
        self.seed = seed
        self.outcome = Outcome(found.id, found.title, seed)
        self.requests: list[Request] = []
        self.acts = 0
        # Installations that several experiments have in common, started when the first needs them.
        self.shared: Stage | None = None
        self.shared_elsewhere: Callable[[], Elsewhere] | None = None

    def run(self) -> Outcome:
        began = time.monotonic()
        self.outcome.began_at = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        try:
            self.experiment.run(self)
        except NotThere as missing:
            self.outcome.state, self.outcome.reason = ABSENT, str(missing)
        except Exception as error:
            self.outcome.state = FAILED
            self.outcome.reason = f"{type(error).__name__}: {str(error)[-1_500:]}"
            sys.stderr.write(traceback.format_exc()[-4_000:])
        self.outcome.seconds = round(time.monotonic() - began, 1)
        self.outcome.close()
        return self.outcome

    def long(self, seconds: float, quick_seconds: float) -> float:
        return quick_seconds if self.quick else seconds

    def times(self, count: int, quick_count: int) -> int:
        return quick_count if self.quick else count

    @contextlib.contextmanager
    def stage(self, stage: AnyStage) -> Iterator[AnyStage]:
        """The installation, running until the end of the block; its log is kept if the experiment fails."""
        try:
            stage.start()
            yield stage
        finally:
            stage.end()
            shutil.rmtree(stage.home, ignore_errors=True)

    @contextlib.contextmanager
    def embedded(self) -> Iterator[Stage]:
        """An installation on the embedded server: that in `shared`, else one of the experiment's own."""
        if self.shared is not None:
            if self.shared.process is None or self.shared.process.poll() is not None:
                self.shared.start()
            yield self.shared
            return
        with self.stage(Stage(self.folder / "data")) as stage:
            yield stage

    @contextlib.contextmanager
    def elsewhere(self) -> Iterator[Elsewhere]:
        """An installation on a database elsewhere, behind a proxy."""
        if self.shared_elsewhere is not None:
            yield self.shared_elsewhere()
            return
        with elsewhere(self.folder / "data", self.seed) as place:
            yield place

    @contextlib.contextmanager
    def played(
        self, stage: Stage, load: Load, *, leases_lost_max: Callable[[], int] = lambda: 0
    ) -> Iterator[Players]:
        """Clients play during the block. Afterwards everything settles, and history and tables are judged."""
        self.acts += 1
        before = stage.tables()
        with playing(stage, self.folder / f"history-{self.acts}", self.seed + self.acts, load) as players:
            time.sleep(WARM_SECONDS)
            yield players
            time.sleep(self.long(3, 1))
        stage.settle()
        self.requests = players.history()
        tables = stage.tables().since(before)
        verdict = judge(self.requests, tables, leases_lost_max=leases_lost_max())
        self.outcome.add(verdict)
        if load.writers:  # Where nothing is stored, nothing is lost either.
            count = verdict.acknowledged
            self.mark("batches that were acknowledged", ">= 1", count, count >= 1)

    def mark(self, name: str, wanted: str, measured: object, holds: bool) -> None:
        shown = f"{measured:.2f}" if isinstance(measured, float) else str(measured)
        self.outcome.marks.append(Mark(name, wanted, shown, holds))

    # --- what a history says ----------------------------------------------------------------------

    def first_ok(self, act: str, after: float) -> float:
        """Seconds until the first 200 to what was asked after this moment; infinite without one."""
        ends = [one.ended_at for one in self.requests if one.act == act and one.end == "ok"
                and one.invoked_at >= after]  # fmt: skip
        return min(ends, default=float("inf")) - after

    def between(self, start: float, end: float, *acts: str) -> list[Request]:
        """What was asked in this span."""
        return [one for one in self.requests if start <= one.invoked_at < end and one.act in acts]


def slowest(requests: Sequence[Request]) -> float:
    return max((one.seconds for one in requests if one.ended_at != float("inf")), default=0.0)


def p99(requests: Sequence[Request]) -> float:
    found = sorted(one.seconds for one in requests)
    return found[min(len(found) - 1, int(len(found) * 0.99))] if found else 0.0


def statuses(requests: Sequence[Request]) -> dict[str, int]:
    """How often each answer came: {"200": 10, "503 unavailable": 2, "ConnectionResetError": 1}."""
    found: dict[str, int] = {}
    for one in requests:
        told = one.told
        text = f"{told.get('status') or ''} {told.get('code', '')}".strip() or "nothing"
        found[text] = found.get(text, 0) + 1
    return found
