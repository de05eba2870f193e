"""E-T1: the clock jumps, that of the application alone or that of the whole machine, by libfaketime."""

import asyncio
import contextlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.torture import faults
from tests.torture.clients import Load
from tests.torture.experiments.credit import ask
from tests.torture.external.cluster import external
from tests.torture.stage import BATCHES, Stage
from tests.torture.trial import NotThere, Trial, experiment, statuses

DELAY_SECONDS = 20
LOAD = Load(spenders=1, pages=1, switchers=0, file_share=0.1)
HOUR = 3_600
# libfaketime 0.9.10 breaks what time.sleep() of Python 3.11 calls, unless the monotonic clock jumps as well.
SLEEP = "import select, time\ntime.sleep = lambda seconds: select.select([], [], [], seconds) and None\n"


class Clock:
    """What the processes with this environment take for the time; monotonic clocks go on as they are."""

    def __init__(self, folder: Path) -> None:
        found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
        if not found:
            raise NotThere("libfaketime is not installed; `make torture` does it on Debian")
        self.file = folder / "clock"
        self.jump(0)
        (folder / "site").mkdir()
        (folder / "site" / "sitecustomize.py").write_text(SLEEP)
        folder.chmod(0o755)
        self.environment = {
            "LD_PRELOAD": str(found[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "PYTHONPATH": str(folder / "site"),
        }

    def jump(self, seconds: float) -> None:
        """Be so far ahead of the true time."""
        beside = self.file.with_suffix(".new")
        beside.write_text(f"{seconds:+.3f}")
        beside.chmod(0o644)
        beside.rename(self.file)


@contextlib.contextmanager
def with_clock(trial: Trial, *, of_database: bool) -> Iterator[tuple[Stage, Clock]]:
    trial.folder.mkdir(parents=True, exist_ok=True)
    clock = Clock(trial.folder)
    with external(**(clock.environment if of_database else {})) as cluster:
        changes = {"APPERATE_ACTIVATION_SECONDS": str(DELAY_SECONDS), **clock.environment}
        with trial.stage(Stage(trial.folder / "data", cluster.url, **changes)) as stage:
            yield stage, clock


def reads(stage: Stage, token: str) -> int:
    return asyncio.run(ask(stage, "GET", f"data/{BATCHES}/none", token))[0]


def widen(stage: Stage, token: str, *, allows: bool) -> None:
    document = {"settings": {"datasets": {"BATCHES": ["read"] if allows else []}}}
    answer = asyncio.run(ask(stage, "PATCH", f"tokens/{stage.ids[token][0]}", "secret", document))
    assert answer[0] == 200, answer


@experiment(
    "E-T1-application", "the application's clock jumps by an hour ahead and back, the database's does not"
)
def application(trial: Trial) -> None:
    with with_clock(trial, of_database=False) as (stage, clock), trial.played(stage, LOAD):
        for jump in (HOUR, -HOUR):
            widen(stage, "edited0", allows=True)
            saved = time.monotonic()
            clock.jump(jump)
            early = set()
            while time.monotonic() < saved + DELAY_SECONDS - 2:
                early.add(reads(stage, "edited0"))
                time.sleep(0.5)
            trial.mark(
                f"a widening, {jump:+} s, before its delay is over", "403", sorted(early), early == {403}
            )
            while time.monotonic() < saved + DELAY_SECONDS + 3:
                time.sleep(0.1)
            late = reads(stage, "edited0")
            trial.mark(f"the same when the delay is over, {jump:+} s", "200", late, late == 200)
            widen(stage, "edited0", allows=False)
            now = reads(stage, "edited0")
            trial.mark(f"a narrowing, {jump:+} s", "403 at once", now, now == 403)
        clock.jump(0)
        faults.wait(2)
    failed(trial)


def failed(trial: Trial) -> None:
    wrong = [one for one in trial.requests if one.end == "unknown"]
    trial.mark("requests that failed", "0", statuses(wrong) or 0, not wrong)


@experiment(
    "E-T1-month", "the whole machine's clock crosses the end of a month, and jumps back and ahead again"
)
def month(trial: Trial) -> None:
    with with_clock(trial, of_database=True) as (stage, clock):
        now = datetime.now(UTC)
        first = (now.replace(day=1, hour=0, minute=0, second=0, microsecond=0) + timedelta(days=32)).replace(
            day=1
        )
        ahead = (first - now).total_seconds()
        # Of a retry the time tells whether it wrote again, which it cannot while the database's clock jumps.
        load = Load(
            writers=1, readers=0, switchers=0, spenders=4, file_share=0.0, keyless_share=0.0, replay_share=0.0
        )
        # The limit of each month; two are touched.
        stage.limits = {name: 2 * limit for name, limit in stage.limits.items()}
        with trial.played(stage, load):
            for jump in (ahead - 6, ahead - HOUR, ahead + HOUR, ahead - 6):
                clock.jump(jump - (datetime.now(UTC) - now).total_seconds())
                faults.wait(trial.long(12, 9))
        with stage.connect() as connection:
            rows = connection.execute(
                "SELECT token_id, month::text, used FROM tokens_creditwindow"
            ).fetchall()
    trial.outcome.figures["charged by month"] = {f"{token} {month}": used for token, month, used in rows}
    most = max(used for _, _, used in rows)
    trial.mark("charged in one month", f"<= {stage.limit}", most, most <= stage.limit)
    months = {month for _, month, _ in rows}
    trial.mark("months that were charged", "2", len(months), len(months) == 2)
    failed(trial)
