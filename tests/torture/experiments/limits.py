"""E-F2: a worker has no descriptors, or no memory, left."""

import contextlib
import os
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.installation import until
from tests.torture import faults
from tests.torture.clients import Load
from tests.torture.stage import WELL_SECONDS_MAX
from tests.torture.trial import Trial, experiment, slowest, statuses

DESCRIPTORS = 64
HELD = 200
LOAD = Load(spenders=1, pages=1)


@contextlib.contextmanager
def limited(pids: list[int], kind: int, limit: dict[int, int]) -> Iterator[None]:
    """These processes may take no more than that of a resource; those that live on get their limits back."""
    before = {}
    for pid in pids:
        before[pid] = resource.prlimit(pid, kind)
        resource.prlimit(pid, kind, (limit[pid], before[pid][1]))
    try:
        yield
    finally:
        for pid, limits in before.items():
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(pid, kind, limits)


@experiment("E-F2-descriptors", f"each worker has {DESCRIPTORS} descriptors, and 200 connections are held")
def descriptors(trial: Trial) -> None:
    with trial.embedded() as stage:
        workers = stage.servers()[1]
        with trial.played(stage, LOAD, leases_lost_max=lambda: 8):
            with limited(workers, resource.RLIMIT_NOFILE, dict.fromkeys(workers, DESCRIPTORS)):
                held = hold(stage.port, HELD)
                began = time.monotonic()
                faults.wait(trial.long(20, 5))
                ended = time.monotonic()
                for wire in held:
                    wire.close()
            freed = time.monotonic()
            until(stage.is_well, seconds=WELL_SECONDS_MAX)
            time.sleep(trial.long(5, 2))
    after(trial, began, ended, freed)


def hold(port: int, count: int) -> list[socket.socket]:
    """Connections that ask for nothing."""
    held = []
    for _ in range(count):
        with contextlib.suppress(OSError):
            held.append(socket.create_connection(("127.0.0.1", port), timeout=2))
    return held


def after(trial: Trial, began: float, ended: float, freed: float) -> None:
    during = trial.between(began, ended, "probe", "page", "read", "spend")
    trial.outcome.figures["answers meanwhile"] = statuses(during)
    trial.mark("the slowest answer meanwhile", "<= 2 s", slowest(during), slowest(during) <= 2)
    silent = [one for one in during if not one.told.get("status") and one.told.get("code") == "TimeoutError"]
    trial.mark("requests that hung", "0", len(silent), not silent)
    trial.outcome.recovered(trial.first_ok("probe", freed))
    recovery = trial.outcome.recovery_seconds or 0.0
    trial.mark("first 200 afterwards", "<= 5 s", recovery, recovery <= 5)
    late = [
        one for one in trial.between(freed + 5, float("inf"), "probe", "page")
        if one.end != "ok" and one.told.get("status") != 429
    ]  # fmt: skip
    trial.mark("failures 5 s afterwards", "0", statuses(late) or 0, not late)


@experiment("E-F2-memory", "a worker can have no more memory than it has, and then ends or recovers")
def memory(trial: Trial) -> None:
    with trial.embedded() as stage:
        workers = stage.servers()[1]
        with trial.played(stage, LOAD, leases_lost_max=lambda: 8):
            sizes = {pid: address_space(pid) + 1_000_000 for pid in workers}
            with limited(workers, resource.RLIMIT_AS, sizes):
                began = time.monotonic()
                faults.wait(trial.long(30, 6))
                ended = time.monotonic()
            freed = time.monotonic()
            until(stage.is_well, seconds=WELL_SECONDS_MAX)
            time.sleep(trial.long(10, 7))
        trial.outcome.figures["workers replaced"] = len(set(workers) - set(stage.servers()[1]))
    after(trial, began, ended, freed)


def address_space(pid: int) -> int:
    """The size of a process's address space, in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
