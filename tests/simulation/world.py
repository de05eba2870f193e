"""A simulated run: workers, database, network and what befalls them, all decided by one seed.

    Run(seed, steps).go()        raises Violation; .trace has what happened last

A step is one callback of a worker's event loop: what runs between two awaits. Storms, in which things go
wrong, alternate with calm, in which promises are kept to the letter; then all falls quiet, and everything
must come back.
"""

import gc
import logging
import random
import sys
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from typing import Any

from django.test import override_settings

from apperate.database import propagation
from apperate.database.clock import next_month
from apperate.database.outage import UNAVAILABLE
from tests.simulation import editor
from tests.simulation.copies import Bug
from tests.simulation.judge import Judge, Violation
from tests.simulation.network import Network
from tests.simulation.server import Server, TokenRow, WorkspaceRow
from tests.simulation.worker import Asked, Dataset, Worker

START = datetime(2026, 11, 30, 23, 59, 20, tzinfo=UTC)
WORKERS, TOKENS = 3, 4
DATASETS = (
    Dataset(1, "CORE", 1), Dataset(2, "CORE", 7), Dataset(3, "PREMIUM", 3), Dataset(4, "ACME", 0),
    Dataset(5, "ACME", 0),
)  # fmt: skip
OWN = (4, 5)
STORM_SECONDS, CALM_SECONDS, QUIET_SECONDS = 45.0, 45.0, 14.0
TRACED = 400
PROGRESS_STEPS = 100_000


class Run:
    """One seed's history."""

    def __init__(
        self, seed: int, steps: int, *, bugs: tuple[Bug, ...] = (), traced: int = TRACED,
        progress: Callable[["Run"], None] = lambda run: None,
    ) -> None:  # fmt: skip
        self.seed, self.steps_max, self.steps = seed, steps, 0
        self.now = 0.0
        self._bugs, self._progress = bugs, progress
        self.chance = random.Random(seed)
        self._agenda: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = 0
        self.trace: deque[tuple[float, str]] = deque(maxlen=traced)
        self.digest = 0
        self._clock_base = START
        self.server = Server(self.clock)
        self.network = Network(self.server, self.chance, self.later)
        self.judge = Judge(self.server, lambda: self.now)
        self.network.judge = self.judge
        self.judge.clock_set(START)
        self.delay = timedelta(seconds=self.chance.choice((4, 10, 20)))
        self._is_storm = self._is_quiet = False
        self._locks: dict[int, float] = {}
        self._clock_set_at = -1e9
        self._born = 0
        self._surge: tuple[float, int, float] = (0.0, 0, 0.0)  # until, token, requests a second
        self._restarting = 0

    def later(self, seconds: float, what: Callable[..., None], *arguments: Any) -> None:
        self._number += 1
        heappush(self._agenda, (self.now + seconds, self._number, what, arguments))

    def clock(self) -> datetime:
        """What the database's clock shows."""
        return self._clock_base + timedelta(seconds=self.now)

    def note(self, text: str) -> None:
        self.trace.append((self.now, text))
        self.digest = (self.digest * 1_000_003 + hash_of(f"{self.now:.6f} {text}")) & (2**64 - 1)

    # --- the run ----------------------------------------------------------------------------------

    def go(self) -> None:
        """Run to the last step. Raises Violation."""
        with override_settings(WORKERS=WORKERS), quietly(self._logged):
            self._populate()
            for _ in range(WORKERS):
                self._boot()
            self._begin_storm()
            self.later(0.1, self._arrive)
            self.later(0.5, self._edit)
            try:
                while self.steps < self.steps_max and not self.judge.failure:
                    before = self.steps // PROGRESS_STEPS
                    self._step()
                    if self.steps // PROGRESS_STEPS > before:
                        self._progress(self)
            finally:
                for worker in self.judge.alive:
                    worker.end()
            if self.judge.failure:
                raise Violation(self.judge.failure)

    def _step(self) -> None:
        for worker in self.judge.alive:
            if worker.paused_until <= self.now:
                self.steps += worker.loop.run_ready()
        coming = self._agenda[0][0]
        for worker in self.judge.alive:
            if (timer := worker.loop.next_timer()) is not None:
                coming = min(coming, max(worker.true_time(timer), worker.paused_until))
        self.now = max(self.now, coming)
        while self._agenda and self._agenda[0][0] <= self.now:
            _, _, what, arguments = heappop(self._agenda)
            what(*arguments)

    def _populate(self) -> None:
        self.server.workspaces[1] = WorkspaceRow(1, "ACME", has_premium=True)
        for number in range(1, TOKENS + 1):
            settings = {**editor.PLAIN, "core_credit_limit": self.chance.choice((None, 300, 5_000, 20_000)),
                        "all_datasets_read": True}  # fmt: skip
            settings["requests_per_second"], settings["burst"] = self.chance.choice(editor.RATES)
            row = TokenRow(number, f"tok_{number:08d}", 1, (editor.new_value(self.chance),), ())
            row = editor.save(settings, timedelta(0))(row, self.clock()) or row
            self._commit(self.server.begin(), row)

    def _logged(self, text: str) -> None:
        self.judge.fail(f"the log has: {text}")

    # --- workers ----------------------------------------------------------------------------------

    def _boot(self) -> None:
        self._born += 1
        worker = Worker(
            self._born, self.network, lambda: self.now, rate=1 + self.chance.uniform(-2e-4, 2e-4),
            wall_ahead=self.chance.choice((0.0, 3_600.0, -3_600.0)), bugs=self._bugs, unexpected=self._logged,
        )  # fmt: skip
        self.judge.workers[worker.number] = worker
        self.judge.alive.append(worker)
        self.note(f"worker {worker.number} starts")

    def _trouble(self, *workers: Worker) -> None:
        for worker in workers or self.judge.alive:
            worker.troubled_at = self.now

    def _crash(self, worker: Worker) -> None:
        if worker in self.judge.alive:
            self.note(f"worker {worker.number} is killed")
            self._end(worker)

    def _end(self, worker: Worker) -> None:
        self.judge.died(worker, is_calm=self.judge.is_calm(worker))
        self.judge.rates.forgive(WORKERS)
        self.judge.alive.remove(worker)
        worker.end()
        for number in [n for n, session in self.network.sessions.items() if session.link is worker.link]:
            self.network.close(number)
        self.later(self.chance.uniform(0.2, 2.0), self._boot)

    def _stop(self, worker: Worker) -> None:
        """A restart in good order: no requests any more, and time to return and write everything."""
        if worker not in self.judge.alive or worker.is_leaving:
            return
        self.note(f"worker {worker.number} stops")
        worker.is_leaving = True

        async def stop() -> None:
            while worker.answering:
                await worker.wait(0.05)
            await worker.stop()
            self.later(0.0, self._stopped, worker)

        worker.loop.create_task(stop())

    def _stopped(self, worker: Worker) -> None:
        if worker not in self.judge.alive:
            return
        self.judge.stopped(worker)
        self._end(worker)

    # --- requests ---------------------------------------------------------------------------------

    def _arrive(self) -> None:
        until, surging, rate = self._surge
        is_surge = self.now < until
        if not is_surge and self.chance.random() < 0.005:
            self._rush(self.chance.randint(1, TOKENS))
        self.later(self.chance.expovariate(rate if is_surge else 16.0), self._arrive)
        ready = [worker for worker in self.judge.alive if not worker.is_leaving]
        if self._is_quiet or not ready:
            return
        token = surging if is_surge and self.chance.random() < 0.9 else self.chance.randint(1, TOKENS)
        values = self.server.tokens[token].values
        value = values[-1] if self.chance.random() < 0.8 else self.chance.choice(values[-3:])
        action = self.chance.choices(("read", "write", "delete"), (12, 1, 1))[0]
        asked = Asked(
            value.text, action, self.chance.choices(DATASETS, (8, 3, 1, 2, 1))[0],
            self.chance.choice((*editor.SITES, None)), records=self.chance.choice((0, 1, 1, 3, 10)),
            asks_values=self.chance.random() < 0.2, is_outdated=self.chance.random() < 0.03,
            is_wrong=self.chance.random() < 0.05, is_busy=self.chance.random() < 0.02,
        )  # fmt: skip
        if self.chance.random() < 0.02:
            asked.value = editor.new_value(self.chance).text
        worker = self.chance.choice(ready)
        self.judge.rates.asked(token)
        worker.answering += 1
        worker.ask(asked, self._finished, self.judge.rates.passed, token)

    def _rush(self, token: int) -> None:
        """For a moment one token is asked for often."""
        rate = self.chance.choice((60.0, 150.0, 400.0))
        self._surge = (self.now + self.chance.uniform(0.3, 1.2), token, rate)

    def _finished(self, worker: Worker, asked: Asked) -> None:
        worker.answering -= 1
        self.note(f"worker {worker.number} {asked.status} {asked.code} {asked.value[3:7]} {asked.action} "
                  f"{asked.dataset.id} ×{asked.records} cost {asked.cost} "
                  f"begun {asked.begun_at:.3f}")  # fmt: skip
        self.judge.finished(worker, asked)

    # --- edits ------------------------------------------------------------------------------------

    def _edit(self) -> None:
        self.later(self.chance.expovariate(0.8), self._edit)
        if self._is_quiet or not self.network.is_up:
            return
        now = self.clock()
        if self.chance.random() < 0.05:
            workspace = self.server.workspaces[1]
            self._commit_later(self.server.begin(), WorkspaceRow(1, "ACME", not workspace.has_premium), 0.05)
            return
        token = self.chance.randint(1, TOKENS)
        if self._locks.get(token, 0.0) > self.now:
            return
        row = self.server.tokens[token]
        used = max((u[0] for (t, _), u in self.server.windows.items() if t == token), default=0)
        month = now.date().replace(day=1)
        used = self.server.windows.get((token, month), [used])[0]
        what, edit = editor.any_edit(self.chance, row, now, self.delay, OWN, used)
        becomes = edit(row, now)
        if becomes is None:
            return
        seconds = self.chance.uniform(0.5, 12.0) if self._is_storm and self.chance.random() < 0.2 else 0.02
        self._locks[token] = self.now + seconds + 0.001
        self.note(f"edit of token {token}: {what}, committed in {seconds:.2f} s, "
                  f"limit {[r.settings['core_credit_limit'] for r in becomes.live()]}")  # fmt: skip
        self._commit_later(self.server.begin(), becomes, seconds)
        if self.chance.random() < 0.3:
            self._rush(token)

    def _commit_later(self, xid: int, row: TokenRow | WorkspaceRow, seconds: float) -> None:
        session = self.network.session
        self.later(seconds, self._commit_if, session, xid, row)

    def _commit_if(self, session: int, xid: int, row: TokenRow | WorkspaceRow) -> None:
        if session == self.network.session:
            self._commit(xid, row)
            self.network.announce()
            self._await_takeover(row, self.now, self.server.tick(), session)

    def _await_takeover(self, row: TokenRow | WorkspaceRow, since: float, tick: int, session: int) -> None:
        """As apperate/database/propagation.py waits: until every session has looked after the change."""
        if session != self.network.session or self.now > since + 1.0 or self._clock_set_at > since - 10.0:
            return
        if all(0 < (seen - tick) % propagation.TICKS < propagation.TICKS // 2
               for seen in self.server.locks.values()):  # fmt: skip
            changed = list(self.server.tokens) if isinstance(row, WorkspaceRow) else [row.id]
            self.judge.taken_over(changed, since)
        else:
            self.later(0.02, self._await_takeover, row, since, tick, session)

    def _commit(self, xid: int, row: TokenRow | WorkspaceRow) -> None:
        self.server.commit(xid, row)
        premium = self.server.workspaces[1].has_premium
        changed = (
            list(self.server.tokens.values())
            if isinstance(row, WorkspaceRow)
            else [self.server.tokens[row.id]]
        )
        for token in changed:
            self.judge.committed(token, premium)

    # --- weather ----------------------------------------------------------------------------------

    def _begin_storm(self) -> None:
        self._is_storm, self._is_quiet = True, False
        self.note("a storm begins")
        self.later(self.chance.expovariate(0.3), self._fault)
        self.later(STORM_SECONDS, self._begin_calm)

    def _begin_calm(self) -> None:
        self._is_storm = False
        self.note("calm")
        for _ in range(self.chance.randint(0, 2)):
            self.later(self.chance.uniform(16.0, CALM_SECONDS), self._crash_some)
        self.later(CALM_SECONDS, self._begin_quiet)

    def _begin_quiet(self) -> None:
        self._is_quiet = True
        self.note("quiet")
        self.later(QUIET_SECONDS, self._end_quiet)

    def _end_quiet(self) -> None:
        self.judge.converged()
        self._begin_storm()

    def _crash_some(self) -> None:
        if self.judge.alive:
            self._crash(self.chance.choice(self.judge.alive))

    def _fault(self) -> None:
        if not self._is_storm:
            return
        self.later(self.chance.expovariate(0.3), self._fault)
        faults = (
            self._crash_fault, self._stop_fault, self._pause, self._cut, self._bad_link, self._away,
            self._restart,
            self._failover, self._set_clock, self._long_transaction,
        )  # fmt: skip
        self.chance.choices(faults, (3, 2, 3, 2, 4, 1, 1, 2, 2, 2))[0]()

    def _some(self) -> Worker | None:
        return self.chance.choice(self.judge.alive) if self.judge.alive else None

    def _crash_fault(self) -> None:
        if worker := self._some():
            self._crash(worker)

    def _stop_fault(self) -> None:
        if worker := self._some():
            self._stop(worker)

    def _pause(self) -> None:
        if worker := self._some():
            seconds = self.chance.choice((0.3, 2.0, 8.0))
            self.note(f"worker {worker.number} is paused for {seconds} s")
            worker.paused_until = self.now + seconds
            worker.troubled_at = worker.paused_until

    def _cut(self) -> None:
        if (worker := self._some()) and not worker.weather.is_cut:
            worker.weather.is_cut = True
            self.note(f"worker {worker.number} is cut off")
            self.later(self.chance.uniform(0.5, 9.0), self._mend, worker)
            self._trouble(worker)

    def _bad_link(self) -> None:
        if worker := self._some():
            worker.weather.trouble = self.chance.choice((0.05, 0.2, 0.5))
            self.note(f"worker {worker.number} has a bad link")
            self.later(self.chance.uniform(1.0, 12.0), self._mend, worker)
            self._trouble(worker)

    def _mend(self, worker: Worker) -> None:
        worker.weather.is_cut, worker.weather.trouble = False, 0.0
        worker.troubled_at = max(worker.troubled_at, self.now)
        self.note(f"worker {worker.number} has a good link")

    def _away(self, *, back: Callable[[], None] | None = None) -> None:
        if not self.network.is_up:
            return
        self.note("the database is away")
        self.network.is_up = False
        self.network.break_all()
        self._trouble()
        self.later(self.chance.choice((0.1, 1.0, 7.0)), self._back, back or self.server.restarted)

    def _back(self, back: Callable[[], None]) -> None:
        back()
        self.network.is_up = True
        self._locks.clear()
        self._trouble()
        self.note("the database is back")

    def _restart(self) -> None:
        self._away()

    def _failover(self) -> None:
        """A standby takes over, or a backup: its transaction ids begin lower, and the last edits are lost."""
        self._away(back=self._take_over)

    def _take_over(self) -> None:
        behind = self.chance.choice((1, 20, 900))
        for token in self.server.tokens:
            before = self.judge.before_last(token)
            if before is not None and self.chance.random() < 0.5:
                self.note(f"the last edit of token {token} is lost")
                self.server.tokens[token] = before
        self.server.another_cluster(behind)
        self.server.index()
        for row in self.server.tokens.values():
            self.judge.committed(row, self.server.workspaces[1].has_premium)

    def _set_clock(self) -> None:
        self._rush(self.chance.randint(1, TOKENS))
        self.later(self.chance.uniform(0.0, 1.0), self._clock_jumps)

    def _clock_jumps(self) -> None:
        now = self.clock()
        seconds = self.chance.choice((-3_600.0, -3_600.0, -30.0, -2.0, 2.0, 30.0, 3_600.0, 0.0, 0.0))
        says = now + timedelta(seconds=seconds) if seconds else next_month(now) - timedelta(seconds=20)
        self.note(f"the database's clock is set from {now} to {says}")
        self._clock_base += says - now
        self._clock_set_at = self.now
        self.judge.clock_set(says)
        self.judge.rates.clock_set()
        self._trouble()

    def _long_transaction(self) -> None:
        xid = self.server.begin()
        self.later(self.chance.uniform(1.0, 10.0), self.server.roll_back, xid)


def hash_of(text: str) -> int:
    return zlib.crc32(text.encode())


@contextmanager
def quietly(unexpected: Callable[[str], None]) -> Iterator[None]:
    """The product's log lines are not shown, and one that reports a fault of ours is a failure."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            error = record.exc_info[1] if record.exc_info else None
            if error is not None and not isinstance(error, EXPECTED):
                unexpected(f"{record.getMessage()}: {error!r}")

    logger, handler, thresholds = logging.getLogger("apperate"), Handler(), gc.get_threshold()
    before = logger.propagate, logger.level, sys.unraisablehook
    logger.propagate, logger.level = False, logging.ERROR
    logger.addHandler(handler)
    sys.unraisablehook = lambda _: None  # Tasks of killed workers end where they are.
    gc.set_threshold(50_000)  # As in apperate/asgi.py.
    try:
        yield
    finally:
        gc.collect()
        gc.set_threshold(*thresholds)
        logger.propagate, logger.level, sys.unraisablehook = before
        logger.removeHandler(handler)


EXPECTED = (TimeoutError, *UNAVAILABLE)
__all__ = ["Run", "Violation"]
