"""E-D1 to E-D4 and E-X1: the database is killed, loses its sessions, is away, hangs, or is busy."""

import time
from collections.abc import Callable

from tests.support.installation import until
from tests.support.load import hostile
from tests.torture import faults
from tests.torture.clients import Load
from tests.torture.stage import WELL_SECONDS_MAX, Stage
from tests.torture.trial import Trial, experiment, p99, slowest, statuses

LOAD = Load(spenders=1, pages=1)
SMALL = Load(spenders=1, pages=1, file_share=0.0)
ANSWERS = ("probe", "page", "read", "spend", "edit", "switch", "trespass", "write")


def until_back(stage: Stage, which: Callable[[], int], before: int) -> None:
    """Wait until another process is there in the place of that one, and the installation is ready."""
    until(lambda: which() not in (0, before), seconds=90)
    until(stage.is_well, seconds=WELL_SECONDS_MAX)


@experiment("E-D1", "kill -9 of the postmaster and all its processes under load; the watcher starts it again")
def killed(trial: Trial) -> None:
    moments: list[float] = []
    rounds = trial.times(6, 2)
    with trial.embedded() as stage:
        processes = stage.servers()
        # Each worker may lose the lease that was drawn and whose answer was lost.
        with trial.played(stage, LOAD, leases_lost_max=lambda: 4 * rounds):
            for _ in range(rounds):
                time.sleep(trial.random.uniform(0.5, 2))
                before = stage.postmaster()
                faults.kill_postmaster(stage)
                moments.append(time.monotonic())
                until_back(stage, stage.postmaster, before)
                time.sleep(trial.long(4, 0.5))
        unchanged = stage.servers() == processes
    for moment in moments:
        trial.outcome.recovered(trial.first_ok("probe", moment + 0.05))
    recovery = trial.outcome.recovery_seconds or 0.0
    trial.mark("first 200 after the database was killed", "<= 5 s", recovery, recovery <= 5)
    trial.mark("workers that were restarted for it", "none", "none" if unchanged else "some", unchanged)


@experiment("E-D1-watcher", "kill -9 of the embedded server's watcher, and of watcher and server together")
def watcher(trial: Trial) -> None:
    moments: list[float] = []
    rounds = trial.times(4, 1)
    with trial.embedded() as stage, trial.played(stage, LOAD, leases_lost_max=lambda: 4 * rounds):
        for number in range(rounds):
            before = stage.watcher()
            faults.kill(before)
            if number % 2:
                faults.kill_postmaster(stage)
            moments.append(time.monotonic())
            until(lambda: stage.watcher() not in (0, before), seconds=60)  # noqa: B023
            until(stage.is_well, seconds=WELL_SECONDS_MAX)
            time.sleep(trial.long(4, 1))
    for moment in moments:
        trial.outcome.recovered(trial.first_ok("probe", moment + 0.05))
    recovery = trial.outcome.recovery_seconds or 0.0
    trial.mark("first 200 after the watcher was killed", "<= 5 s", recovery, recovery <= 5)


@experiment("E-D2", "all sessions of the database ended at once, again and again")
def sessions_ended(trial: Trial) -> None:
    ended = 0
    rounds = trial.times(20, 3)
    with (
        trial.embedded() as stage,
        trial.played(stage, SMALL, leases_lost_max=lambda: 4 * rounds),
        stage.connect() as connection,
    ):
        for _ in range(rounds):
            time.sleep(trial.random.uniform(0.3, 2))
            ended += faults.terminate_sessions(connection)
    trial.outcome.figures["sessions ended"] = ended
    reads = [one for one in trial.requests if one.act in ("probe", "read", "page")]
    failed = [one for one in reads if one.end != "ok"]
    trial.outcome.figures["answers to writes"] = statuses(
        [one for one in trial.requests if one.act in ("write", "edit", "switch")]
    )
    trial.mark("reads and pages that failed", "0", statuses(failed) or 0, not failed)


def away_marks(trial: Trial, began: float, ended: float) -> None:
    """What holds while the database is away: quick refusals that say when, and pages that need none."""
    # What was under way when it went has its own limit, that of a statement.
    during = trial.between(began + 1, ended - 1, *ANSWERS)
    longest = slowest(during)
    trial.outcome.figures["answers meanwhile"] = statuses(during)
    trial.mark("the slowest answer while it is away", "<= 1 s", longest, longest <= 1)
    silent = [one for one in during if one.told.get("status", 0) == 503 and "retry" not in one.told]
    trial.mark("503 without Retry-After", "0", statuses(silent) or 0, not silent)
    lost = [one for one in during if one.end == "unknown" and not one.told.get("status")]
    trial.mark("requests without an answer", "0", statuses(lost) or 0, not lost)
    static = [one for one in during if one.asked.get("path") in ("/livez", "/v1/status") and one.end != "ok"]
    trial.mark("/livez and /v1/status that failed", "0", statuses(static) or 0, not static)
    trial.outcome.recovered(trial.first_ok("probe", ended))
    recovery = trial.outcome.recovery_seconds or 0.0
    trial.mark("first 200 after it is back", "<= 2 s", recovery, recovery <= 2)
    after = trial.between(ended + 3, float("inf"), "probe")
    trial.mark("slow answers 3 s after it is back (p99)", "<= 1 s", p99(after), p99(after) <= 1)


@experiment("E-D3", "the database is stopped for 60 s")
def away(trial: Trial) -> None:
    with trial.elsewhere() as at:
        stage, cluster = at.stage, at.cluster
        processes = stage.servers(), stage.job_workers()
        with trial.played(stage, SMALL, leases_lost_max=lambda: 8):
            began = time.monotonic()
            cluster.stop()
            faults.wait(trial.long(60, 5))
            cluster.start()
            ended = time.monotonic()
            until(stage.is_well, seconds=WELL_SECONDS_MAX)
            time.sleep(trial.long(10, 4))
        unchanged = (stage.servers(), stage.job_workers()) == processes
        lines = stage.said().splitlines()
    away_marks(trial, began, ended)
    trial.outcome.figures["lines of log"] = len(lines)
    trial.mark("processes that were restarted for it", "none", "none" if unchanged else "some", unchanged)


@experiment("E-D4", "the database hangs: SIGSTOP of all its processes for 30 s")
def hangs(trial: Trial) -> None:
    with trial.elsewhere() as at, trial.played(at.stage, SMALL, leases_lost_max=lambda: 8):
        stage, cluster = at.stage, at.cluster
        assert cluster.process is not None
        with faults.stopped(faults.with_children(cluster.process.pid)):
            began = time.monotonic()
            faults.wait(trial.long(30, 8))
        ended = time.monotonic()
        until(stage.is_well, seconds=WELL_SECONDS_MAX)
        time.sleep(trial.long(10, 4))
        with cluster.connect() as connection:
            row = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = 'apperate'"
            ).fetchone()
            assert row is not None
            trial.outcome.figures["connections afterwards"] = row[0]
    away_marks(trial, began, ended)


@experiment("E-X1", "slow questions of 64 clients take all connections that there are for such")
def busy(trial: Trial) -> None:
    with trial.stage(BusyStage(trial.folder / "data")) as stage:
        made = stage.made
        questions = [hostile.slow(token) for token in made["hostile"]]
        target = f"/v1/data/QUIET/SMALL/k0000?token={made['quiet']}"
        seconds = trial.long(30, 6)
        with hostile.attacked(stage.port, questions, seconds + 2) as attack:
            seen = hostile.probe(stage.port, target, seconds)
            began = time.monotonic()
            ready = stage.status("/readyz"), time.monotonic() - began
    trial.outcome.refused += sum(count for name, count in attack.answers.items() if name != "200")
    trial.outcome.figures["answers to slow questions"] = dict(attack.answers)
    others = {name: count for name, count in seen.answers.items() if name != "200"}
    trial.mark("ordinary reads that were refused", "0", others or 0, not others)
    trial.mark("p99 of ordinary reads", "<= 1000 ms", round(seen.p99), seen.p99 <= 1_000)
    trial.mark(
        "/readyz meanwhile",
        "200 within 1 s",
        f"{ready[0]} in {ready[1]:.2f} s",
        ready[0] == 200 and ready[1] <= 1,
    )
    cut = {name: count for name, count in attack.answers.items() if name.startswith(("5", "cut"))}
    trial.mark("slow questions without a proper answer", "429, 400 or 503 only", cut or "none",
               not any(name.startswith(("500", "cut")) for name in cut))  # fmt: skip


class BusyStage(hostile.Fair, Stage):
    """A large dataset beside what every stage has."""
