"""E-D5: what a network does between the application and its database."""

import time
from collections.abc import Callable

from tests.support.installation import until
from tests.torture import faults
from tests.torture.clients import Load
from tests.torture.experiments.databases import away_marks
from tests.torture.external.proxy import Proxy
from tests.torture.stage import WELL_SECONDS_MAX
from tests.torture.trial import Trial, experiment, slowest, statuses

LOAD = Load(spenders=1, pages=1, file_share=0.1)


def for_a_while(trial: Trial, fault: Callable[[Proxy], None], seconds: float) -> None:
    with trial.elsewhere() as at, trial.played(at.stage, LOAD, leases_lost_max=lambda: 8):
        began = time.monotonic()
        fault(at.proxy)
        faults.wait(seconds)
        at.proxy.pass_on()
        ended = time.monotonic()
        until(at.stage.is_well, seconds=WELL_SECONDS_MAX)
        time.sleep(trial.long(10, 4))
    away_marks(trial, began, ended)


@experiment("E-D5-cut", "the network to the database is cut: connections closed, new ones refused")
def cut(trial: Trial) -> None:
    for_a_while(trial, Proxy.cut, trial.long(30, 5))


@experiment("E-D5-black-hole", "the network to the database swallows everything, and closes nothing")
def black_hole(trial: Trial) -> None:
    for_a_while(trial, Proxy.black_hole, trial.long(30, 8))


@experiment("E-D5-delay", "500 ms of delay in each direction to the database")
def delay(trial: Trial) -> None:
    with trial.elsewhere() as at, trial.played(at.stage, LOAD, leases_lost_max=lambda: 8):
        began = time.monotonic()
        at.proxy.delay(0.5)
        faults.wait(trial.long(30, 8))
        at.proxy.pass_on()
        ended = time.monotonic()
        time.sleep(trial.long(5, 2))
    during = trial.between(began + 2, ended - 2, "probe", "read", "write", "spend", "edit", "page")
    trial.outcome.figures["answers meanwhile"] = statuses(during)
    trial.outcome.recovered(trial.first_ok("probe", ended))
    trial.mark("the slowest answer", "<= 10 s", slowest(during), slowest(during) <= 10)
    wrong = [one for one in during if one.told.get("status", 0) == 500 or not one.told.get("status")]
    trial.mark("500, or no answer", "0", statuses(wrong) or 0, not wrong)


@experiment("E-D5-half-open", "the database sees connections end, the application does not")
def half_open(trial: Trial) -> None:
    rounds = trial.times(5, 2)
    with trial.elsewhere() as at:
        moments = []
        with trial.played(at.stage, LOAD, leases_lost_max=lambda: 4 * rounds):
            for _ in range(rounds):
                moments.append(time.monotonic())
                at.proxy.half_open()
                faults.wait(trial.long(12, 8))
    for moment in moments:
        trial.outcome.recovered(trial.first_ok("probe", moment))
    trial.outcome.figures["answers"] = statuses(trial.between(0, float("inf"), "probe", "page"))
    for moment in moments:
        seconds = trial.first_ok("write", moment)
        trial.mark("first write after the connections went", "<= 10 s", seconds, seconds <= 10)
    wrong = [one for one in trial.requests if one.told.get("status") == 500]
    trial.mark("500", "0", statuses(wrong) or 0, not wrong)
    recovery = trial.outcome.recovery_seconds or 0.0
    trial.mark("first 200 after the connections went", "<= 10 s", recovery, recovery <= 10)


@experiment("E-D5-reset", "all connections to the database are reset at once, again and again")
def reset(trial: Trial) -> None:
    rounds = trial.times(20, 3)
    with trial.elsewhere() as at, trial.played(at.stage, LOAD, leases_lost_max=lambda: 4 * rounds):
        for _ in range(rounds):
            time.sleep(trial.random.uniform(0.3, 2))
            at.proxy.reset()
    failed = [one for one in trial.requests if one.act in ("probe", "read", "page") and one.end != "ok"]
    trial.outcome.recovered(0.0)
    trial.mark("reads and pages that failed", "0", statuses(failed) or 0, not failed)


@experiment(
    "E-D5-commit", "connections are reset in the middle of a COMMIT, before or after the database has it"
)
def commit(trial: Trial) -> None:
    with trial.elsewhere() as at, trial.played(at.stage, LOAD, leases_lost_max=lambda: at.proxy.resets):
        at.proxy.reset_in_commit(0.1)
        faults.wait(trial.long(60, 8))
        at.proxy.pass_on()
        ended = time.monotonic()
    trial.outcome.recovered(trial.first_ok("probe", ended))
    trial.outcome.figures |= {
        "connections reset in a COMMIT": at.proxy.resets,
        "of those before the database had it": at.proxy.resets_before,
    }
    trial.mark("commits that were hit", ">= 5", at.proxy.resets, at.proxy.resets >= 5)
    writes = [one for one in trial.requests if one.act in ("write", "edit", "switch")]
    trial.outcome.figures["answers to writes"] = statuses(writes)
    wrong = [one for one in writes if one.told.get("status") in {400, 500}]
    trial.mark("writes of ours answered with 400 or 500", "0", statuses(wrong) or 0, not wrong)
