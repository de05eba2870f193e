"""E-F1: a disk is full: that of the database, of its write-ahead log, of uploads, of temporary files.

Each has a small disk of its own, which only root can mount: without root these are "not there".
"""

import contextlib
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.support.installation import until
from tests.support.small_disk import may_mount, small_disk
from tests.torture import faults
from tests.torture.clients import Load
from tests.torture.stage import WELL_SECONDS_MAX, Stage
from tests.torture.trial import NotThere, Trial, experiment, slowest, statuses

LOAD = Load(spenders=1, file_share=0.5, lines=(500, 3_000))
FULL = {200, 429, 503, 507, 409}


@contextlib.contextmanager
def disk(size_mb: int) -> Iterator[Path]:
    if not may_mount():
        raise NotThere("a file system is to be mounted for this, by root or by sudo without a password")
    with small_disk(size_mb) as folder:
        folder.chmod(0o755)
        yield folder


def while_full(trial: Trial, stage: Stage, folder: Path, *, refuses: Callable[[], bool]) -> None:
    """Fill the disk until writes are refused and longer, then free it."""
    processes = stage.process
    # A session whose statement failed may have drawn a lease.
    with trial.played(stage, LOAD, leases_lost_max=lambda: 20):
        with faults.filled(folder):
            began = time.monotonic()
            with contextlib.suppress(AssertionError):
                until(refuses, seconds=trial.long(60, 20))
            faults.wait(trial.long(20, 4))
            full_until = time.monotonic()
        freed = time.monotonic()
        until(stage.is_well, seconds=WELL_SECONDS_MAX)
        time.sleep(trial.long(15, 6))
    during = trial.between(began, full_until, "write")
    reads = [one for one in trial.between(began, full_until, "probe", "read") if one.end != "ok"]
    trial.outcome.figures["answers to writes meanwhile"] = statuses(during)
    wrong = [one for one in during if one.told.get("status") not in FULL and one.told.get("status")]
    trial.mark(
        "writes answered with anything else than 200, 409, 429, 503, 507",
        "0",
        statuses(wrong) or 0,
        not wrong,
    )
    trial.mark("reads that failed", "0", statuses(reads) or 0, not reads)
    refused = [one for one in during if one.told.get("status") in (503, 507)]
    trial.mark("writes that were refused for it", ">= 1", len(refused), bool(refused))
    trial.outcome.figures["slowest refusal"] = round(slowest(refused), 2)
    trial.outcome.recovered(trial.first_ok("write", freed))
    recovery = trial.outcome.recovery_seconds or 0.0
    trial.mark("first write after there is room", "<= 10 s", recovery, recovery <= 10)
    alive = stage.process is processes and processes is not None and processes.poll() is None
    trial.mark("`up` ran on", "yes", "yes" if alive else "no", alive)


@experiment("E-F1-database", "the disk of the whole data directory is full")
def database(trial: Trial) -> None:
    with disk(700) as folder, trial.stage(Stage(folder / "data")) as stage:
        while_full(trial, stage, folder, refuses=lambda: not stage.is_well())


@experiment("E-F1-log", "the disk of the write-ahead log is full")
def log(trial: Trial) -> None:
    with disk(200) as folder:
        stage = Stage(trial.folder / "data")
        with trial.stage(stage):
            stage.stop()
            place = stage.home / "db" / "pg" / "pg_wal"
            subprocess.run(["cp", "-a", place, folder / "pg_wal"], check=True)
            shutil.rmtree(place)
            place.symlink_to(folder / "pg_wal")
            stage.start()
            while_full(trial, stage, folder, refuses=lambda: not stage.is_well())


@experiment("E-F1-uploads", "the disk of uploaded files is full")
def uploads(trial: Trial) -> None:
    with disk(20) as folder:
        stage = Stage(trial.folder / "data")
        with trial.stage(stage):
            stage.stop()
            place = stage.home / "ingest"
            if place.exists():
                shutil.rmtree(place)
            place.symlink_to(folder)
            stage.start()
            while_full(trial, stage, folder, refuses=lambda: True)


@experiment("E-F1-temporary", "the disk of temporary files is full")
def temporary(trial: Trial) -> None:
    with disk(20) as folder, trial.stage(Stage(trial.folder / "data", TMPDIR=str(folder))) as stage:
        while_full(trial, stage, folder, refuses=lambda: True)
