"""E-W1 and E-W2: processes of the installation are killed at random moments, or replaced."""

import subprocess
import sys
import time
from collections.abc import Callable

from tests.support.installation import ROOT, until
from tests.torture.clients import Load
from tests.torture.faults import kill
from tests.torture.stage import WELL_SECONDS_MAX, Stage
from tests.torture.trial import NotThere, Trial, experiment, statuses

FILES = Load(file_share=0.5, lines=(10_000, 10_000), writers=2, spenders=1)
RECORDS = Load(spenders=1)
BACK_SECONDS_MAX = 120


def kill_again_and_again(
    trial: Trial, seconds: float, pick: Callable[[], list[int]], pause: tuple[float, float]
) -> tuple[list[float], float]:
    """kill -9 one of them at random moments: when, and how long the slowest took to be replaced."""
    moments: list[float] = []
    slowest, end = 0.0, time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(trial.random.uniform(*pause))
        before = pick()
        if not before or not kill(trial.random.choice(before)):
            continue
        began = time.monotonic()
        moments.append(began)
        until(lambda: len(pick()) >= len(before) and pick() != before, seconds=BACK_SECONDS_MAX)  # noqa: B023
        slowest = max(slowest, time.monotonic() - began)
    trial.outcome.figures["kills"] = len(moments)
    return moments, slowest


@experiment("E-W1", "kill -9 of a web worker at random moments, while files of 10,000 lines are ingested")
def a_worker(trial: Trial) -> None:
    moments: list[float] = []
    with trial.embedded() as stage:
        load = RECORDS if trial.quick else FILES
        with trial.played(stage, load, leases_lost_max=lambda: len(moments)):
            moments, slowest = kill_again_and_again(
                trial, trial.long(90, 6), lambda: stage.servers()[1], (0.3, 3.0)
            )
    trial.mark("a killed worker has a successor", "<= 2 s", slowest, slowest <= 2)
    for moment in moments:
        trial.outcome.recovered(trial.first_ok("probe", moment))
    recovery = trial.outcome.recovery_seconds or 0.0
    trial.mark("the other one answers", "<= 2 s", recovery, recovery <= 2)


@experiment("E-W1-job-worker", "kill -9 of the process that ingests, at random moments")
def the_job_worker(trial: Trial) -> None:
    lines = (200, 2_000) if trial.quick else (2_000, 10_000)
    load = Load(file_share=0.8, lines=lines, writers=2)
    with trial.embedded() as stage, trial.played(stage, load):
        _, slowest = kill_again_and_again(trial, trial.long(90, 6), stage.job_workers, (1.0, 8.0))
    trial.outcome.recovered(slowest)


@experiment("E-W1-all", "kill -9 of all web workers at the same moment, and of the server's main process")
def all_workers(trial: Trial) -> None:
    rounds = trial.times(6, 1)
    refused: list[float] = []
    with trial.embedded() as stage:
        with trial.played(stage, RECORDS, leases_lost_max=lambda: 4 * rounds):
            for number in range(rounds):
                main, workers = stage.servers()
                killed_at = time.monotonic()
                for pid in [main] if number % 2 else workers:
                    kill(pid)
                until(lambda: not set(stage.servers()[1]) & set(workers), seconds=BACK_SECONDS_MAX)  # noqa: B023
                until(stage.is_well, seconds=WELL_SECONDS_MAX)
                refused.append(killed_at)
                time.sleep(trial.long(8, 1))
        for killed_at in refused:
            trial.outcome.recovered(trial.first_ok("probe", killed_at + 0.1))
    slowest = trial.outcome.recovery_seconds or 0.0
    trial.mark("answers again after all workers were killed", "<= 2 s", slowest, slowest <= 2)


@experiment("E-W1-up", "kill -9 of `manage.py up` with everything below it, and a new start")
def up(trial: Trial) -> None:
    rounds = trial.times(4, 1)
    gone: list[float] = []
    with trial.embedded() as stage, trial.played(stage, RECORDS, leases_lost_max=lambda: 4 * rounds):
        for _ in range(rounds):
            time.sleep(trial.random.uniform(1, 4))
            assert stage.process is not None
            began = time.monotonic()
            kill(stage.process.pid)
            stage.process.wait()
            until(lambda: not stage.left(), seconds=60)
            gone.append(time.monotonic() - began)
            again = time.monotonic()
            stage.start()
            until(stage.is_well, seconds=WELL_SECONDS_MAX)
            trial.outcome.recovered(time.monotonic() - again)
    trial.mark("the last process below a killed `up` is gone", "<= 5 s", max(gone), max(gone) <= 5)


@experiment("E-W2", "rolling restart under load: `manage.py reload`, new workers before old ones end")
def rolling_restart(trial: Trial) -> None:
    if not (ROOT / "apperate" / "management" / "commands" / "reload.py").exists():
        raise NotThere("this version has no `manage.py reload`")
    load = Load(spenders=1, pages=1, keyless_share=0.5)
    with trial.embedded() as stage, trial.played(stage, load):
        for _ in range(trial.times(5, 1)):
            before = set(stage.servers()[1])
            began = time.monotonic()
            reload(stage)
            until(
                lambda: not before & set(stage.servers()[1]) and len(stage.servers()[1]) == stage.workers,  # noqa: B023
                seconds=BACK_SECONDS_MAX,
                said=stage.said,
            )
            trial.outcome.recovered(time.monotonic() - began)
            time.sleep(trial.long(3, 1))
    found = [one for one in trial.requests if one.end == "unknown" or one.told.get("status", 0) >= 500]
    trial.outcome.figures["answers"] = statuses(trial.requests)
    trial.mark("requests that failed", "0", len(found), not found)


def reload(stage: Stage) -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", "reload"],
        cwd=ROOT, env=stage.environment(), capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@experiment(
    "E-W2-stop", "SIGTERM under load: what is in flight is finished, and after a new start all goes on"
)
def stop_and_start(trial: Trial) -> None:
    rounds = trial.times(3, 1)
    with trial.embedded() as stage:
        stops: list[tuple[float, float]] = []
        with trial.played(stage, RECORDS):
            for _ in range(rounds):
                assert stage.process is not None
                began = time.monotonic()
                stage.process.terminate()
                assert stage.process.wait(60) == 0
                stops.append((began, time.monotonic()))
                stage.start()
                until(stage.is_well, seconds=WELL_SECONDS_MAX)
                trial.outcome.recovered(time.monotonic() - stops[-1][1])
                time.sleep(1)
    cut = [
        one for one in trial.requests for began, _ in stops
        if one.invoked_at < began < one.ended_at and one.end == "unknown"
    ]  # fmt: skip
    trial.outcome.figures["seconds to stop"] = [round(end - began, 1) for began, end in stops]
    trial.mark("requests in flight that were cut", "0", len(cut), not cut)
