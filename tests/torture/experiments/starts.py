"""E-U1: several `up` on one folder or one port at the same moment."""

import subprocess
import sys
import time

from tests.support.installation import ROOT, free_port, until
from tests.torture.stage import Stage
from tests.torture.trial import Trial, experiment


@experiment(
    "E-U1", "several `up` are started on one data directory within a second, while one runs and without"
)
def two_at_once(trial: Trial) -> None:
    with trial.embedded() as stage:
        assert stage.process is not None
        url = (stage.home / "url").read_text() if (stage.home / "url").exists() else ""
        began = time.monotonic()
        codes, said = together(stage, trial.times(4, 2))
        trial.outcome.recovered(time.monotonic() - began)
        trial.mark("those beside a running one", "all refused", codes, all(code in (1, 2) for code in codes))
        named = [
            text for text in said if str(stage.process.pid) in text or "already" in text or "in use" in text
        ]
        trial.mark("refusals that say who is there", str(len(said)), len(named), len(named) == len(said))
        trial.mark("the running one answers", "200", stage.status("/readyz"), stage.status("/readyz") == 200)
        after = (stage.home / "url").read_text() if (stage.home / "url").exists() else ""
        trial.mark("its note of the address stays", "yes", "yes" if after == url else "no", after == url)
        stage.stop()
        started = [start(stage, free_port()) for _ in range(3)]
        until(lambda: sum(one.poll() is None for one in started) <= 1, seconds=120)
        alive = [one for one in started if one.poll() is None]
        trial.mark("of three that start at once, so many run", "1", len(alive), len(alive) == 1)
        for one in started:
            one.terminate()
            one.communicate(timeout=60)
        stage.start()


def start(stage: Stage, port: int) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "manage.py", "up"], cwd=ROOT, env=stage.environment(PORT=str(port)),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def together(stage: Stage, count: int) -> tuple[list[int], list[str]]:
    """Half on its own port, half on another: the exit codes, and what they said."""
    ports = [stage.port if number % 2 else free_port() for number in range(count)]
    started = [start(stage, port) for port in ports]
    said = [one.communicate(timeout=120)[1] for one in started]
    return [one.returncode for one in started], said
