"""The judge: what was promised, in code of its own, asked after each step. Raises Violation.

Written from the product's promises (docs/api.md, docs/decisions/0003, 0004, 0005, 0009), not from its code:
it shares no function with the gate. A worker may know the past for a while: what passes must be allowed by
some state of the rows, at some reading of the database's clock, between then and now.
"""

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

from tests.simulation.network import Sent
from tests.simulation.rates import RateJudge, Violation, counting
from tests.simulation.server import ACTIONS, Rows, Server, TokenRow
from tests.simulation.worker import Asked, Worker
from tokens.gate import leases
from tokens.metering import meter

CALM_SECONDS = 0.75  # half a second between polls, and their ways
STALE_SECONDS = 5.6  # five without an answer, or a look-up of at most 5.5
TROUBLE_SECONDS = 15.0  # for so long what went wrong may have effects
CLOCK_AHEAD = timedelta(milliseconds=5)
FLUSH_SECONDS = 1.6
KNOWN_SECONDS = 1.2  # for so long a figure that says "nothing left" is believed
PERMISSION_CODES = {
    "token-invalid", "token-disabled", "token-expired", "not-active-yet", "domain-not-allowed",
    "dataset-not-granted",
}  # fmt: skip
NOT_COUNTED = {"unavailable", "internal-error"}
NO_LIMIT = float("inf")
SINGLE_MAX = 400  # credits that some requests at a time may pay in advance


class Judge:
    """Hears of everything that workers and database do. `now` is the true time."""

    def __init__(self, server: Server, now: Any) -> None:
        self._server, self.now = server, now
        self._rows: dict[int, list[tuple[float, TokenRow, bool]]] = defaultdict(list)
        self._jumps: list[tuple[float, datetime]] = []  # from when on, and what the clock said then
        self._used: dict[tuple[int, date], list[tuple[float, int]]] = defaultdict(list)
        self._values: dict[str, int] = {}
        self.workers: dict[int, Worker] = {}  # all there ever were
        self.alive: list[Worker] = []
        self.charged: dict[tuple[int, date], int] = defaultdict(int)
        self.uncharged: dict[tuple[int, date], int] = defaultdict(int)  # as flushed
        self._uncharged_at: dict[int, float] = defaultdict(lambda: -1e9)
        self.lost: dict[tuple[int, date], int] = defaultdict(int)  # draws that nobody heard of
        self.seen: dict[str, int] = defaultdict(int)
        self.rates = RateJudge(self)
        self._taken_over: dict[int, tuple[float, float]] = {}  # the last change, and when all had it
        self.failure: str | None = None

    def fail(self, text: str) -> Violation:
        """The violation to raise. It is kept too: what is raised inside the product's code may end there."""
        self.failure = self.failure or text
        return Violation(text)

    # --- what happens -----------------------------------------------------------------------------

    def committed(self, row: TokenRow, has_premium: bool) -> None:
        self._rows[row.id].append((self.now(), row, has_premium))
        del self._rows[row.id][:-40]
        self._values.update({value.text: row.id for value in row.values})

    def before_last(self, token: int) -> TokenRow | None:
        """The row as it was before its last edit."""
        rows = self._rows[token]
        return rows[-2][1] if len(rows) > 1 else None

    def taken_over(self, tokens: list[int], changed_at: float) -> None:
        """Who made the change was told that every worker knows of it."""
        for token in tokens:
            self._taken_over[token] = changed_at, self.now()

    def clock_set(self, says: datetime) -> None:
        self._jumps.append((self.now(), says))

    def executed(self, sent: Sent, rows: Rows) -> None:
        worker, p = self.workers[sent.worker], sent.parameters
        if sent.statement == leases.DRAW:
            self._note_used((p["token"], p["month"]))
            if rows:  # Lost until the worker hears of it.
                self.lost[p["token"], p["month"]] += rows[0][1]
        elif sent.statement == leases.RETURN:
            if p["batch"] not in worker.books.done:
                worker.books.done.add(p["batch"])
                for key, amount in returned(p):
                    worker.books.executed[key] = worker.books.executed.get(key, 0) - amount
            for key, _ in returned(p):
                self._note_used(key)
        elif sent.statement == meter.FLUSH:
            self._flushed(worker, p)

    def delivered(self, sent: Sent, rows: Rows) -> None:
        worker, p = self.workers[sent.worker], sent.parameters
        if sent.session is not None:
            if "xmin" in (sent.parameters or ()):
                worker.polled_at = sent.at
        elif sent.statement == leases.DRAW and rows:
            key = p["token"], p["month"]
            self.lost[key] -= rows[0][1]
            add(worker.books.balance, key, rows[0][1])
            add(worker.books.executed, key, rows[0][1])

    def sent(self, sent: Sent) -> None:
        """What a return names cannot be spent from here on, whatever becomes of it."""
        books, p = self.workers[sent.worker].books, sent.parameters
        if sent.statement == leases.RETURN and p["batch"] not in books.sent:
            books.sent.add(p["batch"])
            for key, amount in returned(p):
                add(books.balance, key, -amount)
                if books.balance[key] < 0:
                    raise self.fail(f"worker {sent.worker} returns {-books.balance[key]} too many of {key}")

    def _flushed(self, worker: Worker, p: dict[str, Any]) -> None:
        if p["batch"] in worker.books.done:
            return
        worker.books.done.add(p["batch"])
        for token, operation, outcome, *figures in zip(
            p["tokens"], p["operations"], p["outcomes"], p["calls"], p["records"], p["credits"], strict=True
        ):
            key = token, str(operation), outcome
            if outcome != "ok":
                figures[1] = 0  # What was read and not sent is counted as read.
            self._sum(worker.books.flushed, key, figures)
            had, wrote = worker.books.answered.get(key, [0, 0, 0]), worker.books.flushed[key]
            if outcome not in NOT_COUNTED and any(w > h for w, h in zip(wrote, had, strict=True)):
                raise self.fail(f"worker {worker.number} wrote usage {key} {wrote}, and answered {had}")
        for token, month, amount in zip(p["spenders"], p["months"], p["uncharged"], strict=True):
            self.uncharged[token, month] += amount
            self._note_used((token, month))

    def died(self, worker: Worker, *, is_calm: bool) -> None:
        """A worker was killed: what it held and had not written is lost, and no more than that."""
        books = worker.books
        if not is_calm:
            return
        unwritten = sum(
            figures[0] - books.unsure.get(key, [0])[0] - books.flushed.get(key, [0])[0]
            for key, figures in books.answered.items() if key[2] not in NOT_COUNTED
        )  # fmt: skip
        recent = sum(1 for at, _ in books.recent if at > self.now() - FLUSH_SECONDS)
        if unwritten > recent:
            raise self.fail(f"worker {worker.number} lost {unwritten} counts; {recent} were new")
        for (token, month), held in books.balance.items():
            limit = max(limit_of(row, self._server.clock()) for _, row, _ in self._rows[token])
            if held > SINGLE_MAX + limit / 64:
                raise self.fail(f"worker {worker.number} held {held} credits of token {token} in {month}")

    def stopped(self, worker: Worker) -> None:
        """A worker ended in good order: with the database at hand it keeps nothing and loses nothing."""
        if self.is_calm(worker):
            self._has_settled(worker)

    def finished(self, worker: Worker, asked: Asked) -> None:
        """A request was answered."""
        self.seen[asked.code or "ok"] += 1
        token = self._values.get(asked.value)
        if token is None:
            if asked.status == 200:
                raise self.fail(f"a value of no token passed: {asked}")
            return
        if asked.is_counted:
            self._count(worker, token, asked)
        since = asked.begun_at - self.bound(worker)
        changed_at, taken_over_at = self._taken_over.get(token, (-1e9, 1e9))
        if self.is_calm(worker) and asked.begun_at > taken_over_at:
            since = max(since, changed_at)
        moments = list(self._moments(token, asked.value, since))
        is_calm = self.is_calm(worker)
        if asked.status == 200:
            self._passed(worker, token, asked, since, moments)
        elif asked.code in PERMISSION_CODES and is_calm:
            if all(permits(row, premium, at, asked) for row, premium, at in moments):
                raise self.fail(f"{asked.code}, though all versions allow it: {asked} {moments}")
        elif asked.code == "credits-exhausted" and is_calm:
            self._exhausted(token, asked, since, moments)
        elif asked.code == "rate-limited" and is_calm and not asked.is_busy:
            self.rates.refused(worker, token, asked.begun_at)
        elif asked.status >= 500 and is_calm and asked.code != "unavailable":
            raise self.fail(f"an answer {asked.status}: {asked}")
        if asked.cost and asked.status != 200:
            self._paid(worker, token, asked, moments)
            most = max(1, asked.records + 3) * asked.dataset.credits_per_record
            if not (asked.asks_values or asked.is_busy) or asked.cost > most:
                raise self.fail(f"a refusal that costs {asked.cost}: {asked}")

    # --- judging a request ------------------------------------------------------------------------

    def _passed(
        self,
        worker: Worker,
        token: int,
        asked: Asked,
        since: float,
        moments: list[tuple[TokenRow, bool, datetime]],
    ) -> None:
        if worker.polled_at is None or worker.polled_at < asked.begun_at - 5.01:
            raise self.fail(f"worker {worker.number} passed it {asked.begun_at - (worker.polled_at or 0)} s "
                            "after it asked for what it knows")  # fmt: skip
        if not any(permits(row, premium, at, asked) for row, premium, at in moments):
            raise self.fail(f"passed, though nothing since {since:.3f} allows it: {asked} {moments}")
        low, high = self._span(since)
        if not low - CLOCK_AHEAD <= asked.call.now <= high + CLOCK_AHEAD:
            raise self.fail(f"the worker's time {asked.call.now} is not in {low} .. {high}")
        price = asked.dataset.credits_per_record
        expected = max(asked.records, 1 if asked.asks_values else 0) * price if asked.action == "read" else 0
        if asked.cost != expected:
            raise self.fail(f"it cost {asked.cost} and not {expected}: {asked}")
        self._paid(worker, token, asked, moments)

    def _paid(
        self, worker: Worker, token: int, asked: Asked, moments: list[tuple[TokenRow, bool, datetime]]
    ) -> None:
        if not asked.cost or asked.action != "read" or asked.dataset.workspace != "CORE":
            return
        limits = {limit_of(row, at) for row, _, at in moments}
        month = asked.call.now.astimezone(UTC).date().replace(day=1)
        key = token, month
        if asked.call.allowed.limit is None:
            if NO_LIMIT not in limits:
                raise self.fail(f"nothing was paid, though the limit is one of {limits}: {asked}")
            self._uncharged_at[token] = self.now()
            return
        self.charged[key] += asked.cost
        add(worker.books.balance, key, -asked.cost)
        add(worker.books.executed, key, -asked.cost)
        if worker.books.balance[key] < 0:
            raise self.fail(f"worker {worker.number} spent {-worker.books.balance[key]} of {key} that it "
                            "has not drawn")  # fmt: skip
        spent = self.charged[key]
        if self.now() - self._uncharged_at[token] > TROUBLE_SECONDS:
            spent += self.uncharged[key]
        if spent > max(limits):
            raise self.fail(f"token {token} spent {spent} in {month}; the limit is one of {limits}: {asked}")

    def _exhausted(
        self, token: int, asked: Asked, since: float, moments: list[tuple[TokenRow, bool, datetime]]
    ) -> None:
        months = {at.astimezone(UTC).date().replace(day=1) for at in self._span(since)}
        if len(months) > 1:
            return
        used = 0
        for at, used_then in reversed(self._used[token, months.pop()]):
            used = max(used, used_then)
            if at < since - KNOWN_SECONDS:
                break
        most = max(1, asked.records + 3) * asked.dataset.credits_per_record
        limit = min(limit_of(row, at) for row, _, at in moments)
        if used + most <= limit:
            raise self.fail(f"refused for its limit of {limit} with {used} used: {asked}")

    def _moments(self, token: int, value: str, since: float) -> Iterator[tuple[TokenRow, bool, datetime]]:
        """Each state of the rows and reading of the clock since then that may make a difference."""
        rows = self.rows_since(token, since)
        turns = {turn for _, row, _ in rows for turn in turns_of(row, value)}
        for low, high in self._readings(since):
            for at in (low, *(turn for turn in turns if low < turn <= high)):
                for _, row, premium in rows:
                    yield row, premium, at

    def rows_since(self, token: int, since: float) -> list[tuple[float, TokenRow, bool]]:
        found = []
        for entry in reversed(self._rows[token]):
            found.append(entry)
            if entry[0] <= since:
                break
        return found

    def _readings(self, since: float) -> Iterator[tuple[datetime, datetime]]:
        """What a clock by the database's may show since then: a span for each time that it was set."""
        for begun, says in reversed(self._jumps):
            start = max(begun, since)
            yield says + timedelta(seconds=start - begun), says + timedelta(seconds=self.now() - begun)
            if begun <= since:
                return

    def clock_turns(self, row: TokenRow, since: float) -> list[datetime]:
        """The readings of the clock since then at which another version may count."""
        return [
            at for low, high in self._readings(since)
            for at in (low, *(turn for turn in turns_of(row, "") if low < turn <= high))
        ]  # fmt: skip

    def _span(self, since: float) -> tuple[datetime, datetime]:
        readings = list(self._readings(since))
        return min(low for low, _ in readings), max(high for _, high in readings)

    def bound(self, worker: Worker) -> float:
        """How old what a worker knows may be."""
        if self.is_calm(worker):
            return CALM_SECONDS
        return STALE_SECONDS if self.now() - worker.paused_until > TROUBLE_SECONDS else TROUBLE_SECONDS

    def is_calm(self, worker: Worker) -> bool:
        return self.now() - worker.troubled_at > TROUBLE_SECONDS

    def all_calm(self) -> bool:
        return all(map(self.is_calm, self.alive))

    # --- counting ---------------------------------------------------------------------------------

    def _count(self, worker: Worker, token: int, asked: Asked) -> None:
        records = asked.records if asked.status == 200 and asked.action == "read" else 0
        key = token, asked.action, asked.code or "ok"
        self._sum(worker.books.answered, key, [1, records, asked.cost])
        if asked.status != 200 and not self.is_calm(worker):  # Without a time to count it under it is not.
            self._sum(worker.books.unsure, key, [1, records, asked.cost])
        recent = worker.books.recent
        recent.append((self.now(), key))
        if len(recent) > 2_000:
            del recent[:1_000]

    @staticmethod
    def _sum(sums: dict[Any, list[int]], key: Any, figures: Any) -> None:
        had = sums.get(key, [0] * len(figures))
        sums[key] = [a + b for a, b in zip(had, figures, strict=True)]

    def _note_used(self, key: tuple[int, date]) -> None:
        history = self._used[key]
        row = self._server.windows.get(key)
        history.append((self.now(), row[0] if row else 0))
        if len(history) > 4_000:
            del history[:2_000]

    # --- after a quiet while ----------------------------------------------------------------------

    def converged(self) -> None:
        """Everything has come back, was written, and is known."""
        for worker in self.alive:
            self._has_settled(worker)
            self._knows_the_rows(worker)
        gone: dict[Any, int] = defaultdict(int)
        for worker in self.workers.values():
            if worker not in self.alive:
                for key, amount in worker.books.executed.items():
                    if amount < 0:
                        raise self.fail(f"worker {worker.number} returned {-amount} too many of {key}")
                    gone[key] += amount
        for key, (used, _) in self._server.windows.items():
            parts = self.charged[key], self.uncharged[key], self.lost[key], gone[key]
            if used != sum(parts):
                raise self.fail(
                    f"{key} has {used} used; charged, metered, lost and held by the dead: {parts}"
                )

    def _has_settled(self, worker: Worker) -> None:
        books = worker.books
        if kept := {key: amount for key, amount in books.executed.items() if amount}:
            raise self.fail(f"worker {worker.number} keeps {kept} (drawn and not served: {books.balance})")
        for key, figures in books.answered.items():
            wrote, unsure = books.flushed.get(key, [0, 0, 0]), books.unsure.get(key, [0, 0, 0])
            missing = [had - has for had, has in zip(figures, wrote, strict=True)]
            if key[2] not in NOT_COUNTED and any(m > u for m, u in zip(missing, unsure, strict=True)):
                raise self.fail(f"worker {worker.number} wrote usage {key} {wrote}, and answered {figures}")

    def _knows_the_rows(self, worker: Worker) -> None:
        now = self._server.clock()
        try:
            says = worker.changes.now()
        except Exception as error:
            raise self.fail(f"worker {worker.number} does not know the time: {error!r}") from error
        if not timedelta(0) <= now - says + CLOCK_AHEAD <= timedelta(seconds=0.2):
            raise self.fail(f"worker {worker.number} has {says} for the time {now}")
        cache = worker.snapshots.cache
        for digest, token_id in self._server.by_digest.items():
            held = cache.get(digest)
            if held is None:
                continue
            row = self._server.tokens[token_id]
            premium = self._server.workspaces[row.workspace_id].has_premium
            value = next(v for v in row.values if v.digest == digest)
            want = (row.disabled_at, row.deleted_at, row.expires_at, value.retires_at, premium)
            have = (held.disabled_at, held.deleted_at, held.expires_at, held.value_retires_at,
                    held.workspace.has_premium)  # fmt: skip
            limits = {v.settings["core_credit_limit"] for v in counting(row, now)}
            known = {v.core_credit_limit for v in held.versions(now=says)}
            if want != have or limits != known:
                raise self.fail(
                    f"worker {worker.number} remembers {have} {known}; the rows say {want} {limits}"
                )


# --- the promises, in plain words -------------------------------------------------------------------


def turns_of(row: TokenRow, value: str) -> list[datetime]:
    """When something about a token changes by itself."""
    turns = [r.effective_at for r in row.live()] + [v.retires_at for v in row.values if v.text == value]
    return [turn for turn in (*turns, row.expires_at) if turn is not None]


def permits(row: TokenRow, has_premium: bool, at: datetime, asked: Asked) -> bool:
    held = [value for value in row.values if value.text == asked.value]
    if not held or (held[0].retires_at is not None and held[0].retires_at <= at):
        return False
    if row.deleted_at or row.disabled_at or (row.expires_at is not None and row.expires_at <= at):
        return False
    versions = [version.settings for version in counting(row, at)]
    return bool(versions) and all(version_permits(version, has_premium, asked) for version in versions)


def version_permits(settings: dict[str, Any], has_premium: bool, asked: Asked) -> bool:
    sites = [f"https://{rule}" for rule in settings["allowed_domains"]]
    if sites and not settings["domains_report_only"] and asked.origin not in sites:
        return False
    if asked.dataset.workspace == "CORE":
        return asked.action == "read" and settings["core_data_access"]
    if asked.dataset.workspace == "PREMIUM":
        return asked.action == "read" and settings["premium_data_access"] and has_premium
    granted = dict(
        zip(ACTIONS, next((g[1:] for g in settings["grants"] if g[0] == asked.dataset.id), ()), strict=False)
    )
    return bool(granted.get(asked.action) or settings[f"all_datasets_{asked.action}"])


def limit_of(row: TokenRow, at: datetime) -> float:
    limits = [version.settings["core_credit_limit"] for version in counting(row, at)]
    return min((limit for limit in limits if limit is not None), default=NO_LIMIT)


def returned(p: dict[str, Any]) -> list[tuple[tuple[int, date], int]]:
    return [((t, m), c) for t, m, c in zip(p["tokens"], p["months"], p["credits"], strict=True)]


def add(sums: dict[Any, int], key: Any, amount: int) -> None:
    sums[key] = sums.get(key, 0) + amount
