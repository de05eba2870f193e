"""Run the experiments: `make torture`, or `python -m tests.torture --only E-D4,E-D5 --seed 7 --quick`.

Each prints what was acknowledged, lost, doubled, overspent, refused, what passed that should not, and how
long it took until all was well again. The report is a JSON file. Exit code 1 when one was broken or failed.
"""

import argparse
import contextlib
import os
import platform
import random
import secrets
import signal
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from tests.support.installation import ROOT, Installation
from tests.torture import experiments, outcome
from tests.torture.external.elsewhere import Elsewhere, elsewhere
from tests.torture.outcome import BROKEN, FAILED
from tests.torture.stage import Stage
from tests.torture.trial import EXPERIMENTS, Experiment, Trial

# By what is hit: workers, database and network, credits, disk, connections, starts, clock; the longest last.
ORDER = "WDCPFNZXUTL"
REPORT = ROOT / "var" / "torture.json"


def chosen(only: str) -> list[Experiment]:
    """Those whose id is named, or begins with a name and a dash: E-D5 is E-D5-cut and its siblings."""
    names = [name for name in only.replace(" ", "").split(",") if name]
    unknown = [name for name in names if not any(belongs(id, name) for id in EXPERIMENTS)]
    if unknown:
        sys.exit(f"There is no experiment {', '.join(unknown)}. There are: {', '.join(EXPERIMENTS)}")
    found = [one for id, one in EXPERIMENTS.items() if not names or any(belongs(id, name) for name in names)]
    return sorted(found, key=lambda one: (ORDER.index(one.id[2]), one.id[:4]))


def belongs(id: str, name: str) -> bool:
    return id == name or id.startswith(name + "-")


class Shared:
    """What quick experiments have in common, while it is well; the others have installations of their own."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed = folder, seed
        self.embedded: Stage | None = None
        self.place: Elsewhere | None = None
        self.stack = contextlib.ExitStack()

    def give(self, trial: Trial) -> None:
        if self.embedded is not None and self.embedded.process and not self.embedded.is_well():
            self.embedded.end()
            self.embedded = None
        if self.embedded is None:
            self.embedded = Stage(self.folder / secrets.token_hex(4))
        trial.shared, trial.shared_elsewhere = self.embedded, self.elsewhere

    def elsewhere(self) -> Elsewhere:
        if self.place is not None and not self.place.stage.is_well():
            self.stack.close()
            self.place = None
        if self.place is None:
            home = self.folder / secrets.token_hex(4)
            self.place = self.stack.enter_context(elsewhere(home, self.seed))
        return self.place

    def end(self) -> None:
        self.stack.close()
        if self.embedded is not None:
            self.embedded.end()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=experiments.__doc__)
    parser.add_argument("--only", default="", help="ids, separated by commas")
    parser.add_argument(
        "--seed", type=int, default=0, help="repeats what chance decided; 0: another each time"
    )
    parser.add_argument("--quick", action="store_true", help="each for seconds, not minutes; proves less")
    parser.add_argument("--report", type=Path, default=REPORT, help="where the JSON goes")
    return parser.parse_args()


def main() -> None:
    # Whoever ends this run ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    given = arguments()
    seed = given.seed or random.randrange(1, 1_000_000)
    found, began = [], time.monotonic()
    facts = {
        "began_at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "seed": seed,
        "quick": given.quick,
        "only": given.only,
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        # Of the last minute, before anything of ours ran: whether the machine was quiet.
        "load_before": round(os.getloadavg()[0], 2),
    }
    given.report.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="apperate-torture-") as folder:
        Installation.copies = Path(folder)
        shared = Shared(Path(folder), seed)
        try:
            for one in chosen(given.only):
                print(f"… {one.id}: {one.title}", flush=True)
                place = Path(folder) / one.id
                place.mkdir(mode=0o755)
                trial = Trial(one, seed, place, quick=given.quick)
                if given.quick:
                    shared.give(trial)
                found.append(trial.run())
                print(found[-1].line(), flush=True)
                # After each: a run that is stopped has a report of what it did.
                outcome.save(found, given.report, **facts, seconds=round(time.monotonic() - began))
        finally:
            shared.end()
    wrong = [one.id for one in found if one.state in (BROKEN, FAILED)]
    print(f"{len(found)} experiments in {time.monotonic() - began:.0f} s, seed {seed}: {given.report}")
    print(f"Broken: {', '.join(wrong)}" if wrong else "All that could be run held.")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
