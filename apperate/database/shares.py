"""Fair shares of a worker's scarce resources: database time, threads. Nobody can starve the others.

    async with THREADS.place(asker): …      a place, at once or when it is this caller's turn
    await fetch(sql, parameters, about=…)   a SELECT, tried among the quick ones first

One token may hold some of the places at a time, and one workspace a few more; beyond that, callers wait.
A free place goes to the workspace, and within it to the token, that has used the least time recently. Who
waits too long is refused: 429 when its own share is the reason, 503 when others hold all places.

A read first runs on a connection with a time limit of a quarter of a second. A slow one runs again among the
slow ones, which have a few connections and five seconds; the token's next queries of the same kind go there
at once. So a query counts as slow by its measured time, not by how it looks. Once it was slow for SLOW_TOKENS
tokens of a workspace, it counts as slow for all of them: many tokens cannot try it more often than a few.
"""

import asyncio
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

import psycopg

from apperate.database import pool
from apperate.kernel.refusals import Refusal, unavailable

T = TypeVar("T")
HALF_LIFE_SECONDS = 2.0
# Shorter uses delay nobody, and are not recorded.
NOTED_SECONDS = 0.02
REMEMBERED_MAX = 10_000
SLOW_KNOWN_SECONDS = 10.0
SLOW_TOKENS = 3
WAITING_MAX = 200  # of one token, for places of one kind


@dataclass(frozen=True, slots=True)
class Asker:
    """Whose request it is."""

    token_id: int
    workspace_id: int


NOBODY = Asker(0, 0)
# Set once a request's token is known; background work runs as NOBODY.
asker: ContextVar[Asker] = ContextVar("asker", default=NOBODY)


class Busy(Exception):
    """No place came free in time. `has_begun`: the work had already run once, among the quick ones."""

    def __init__(self, refusal: Refusal, *, has_begun: bool = False) -> None:
        super().__init__(refusal.detail)
        self.refusal, self.has_begun = refusal, has_begun


class Recent:
    """Seconds recently used, per id; what was used HALF_LIFE_SECONDS ago counts half."""

    def __init__(self) -> None:
        self._used: dict[int, tuple[float, float]] = {}  # id → (seconds, at)

    def add(self, who: int, seconds: float, at: float) -> None:
        if len(self._used) >= REMEMBERED_MAX:
            self._used.clear()
        self._used[who] = (self.of(who, at) + seconds, at)

    def of(self, who: int, at: float) -> float:
        seconds, then = self._used.get(who, (0.0, at))
        return seconds * 0.5 ** ((at - then) / HALF_LIFE_SECONDS)


@dataclass(slots=True, eq=False)
class Waiter:
    """A caller in the queue. `turn` is true when its turn came, false when it did not come in time."""

    asker: Asker
    turn: "asyncio.Future[bool]"


class Shares:
    """Places of one kind in this process, used only from its event loop."""

    def __init__(
        self, what: str, *, places: int, of_token: int, of_workspace: int, seconds_max: float
    ) -> None:
        self.what, self.places, self.seconds_max = what, places, seconds_max
        self.of_token, self.of_workspace = of_token, of_workspace
        self.clear()

    def clear(self) -> None:
        """Forget everything, as at the start of the process."""
        self._taken = 0
        self._tokens: dict[int, int] = {}
        self._workspaces: dict[int, int] = {}
        self._waiting: list[Waiter] = []
        self._recent_tokens, self._recent_workspaces = Recent(), Recent()

    @property
    def taken(self) -> int:
        return self._taken

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def place(self, asker: Asker, *, has_begun: bool = False) -> "Place":
        """For `async with`, which raises Busy; or for take() and leave()."""
        return Place(self, asker, has_begun)

    def may_enter(self, asker: Asker) -> bool:
        return (
            self._taken < self.places
            and self._tokens.get(asker.token_id, 0) < self.of_token
            and self._workspaces.get(asker.workspace_id, 0) < self.of_workspace
        )

    def enter(self, asker: Asker) -> None:
        self._taken += 1
        token, workspace = asker.token_id, asker.workspace_id
        self._tokens[token] = self._tokens.get(token, 0) + 1
        self._workspaces[workspace] = self._workspaces.get(workspace, 0) + 1

    def leave(self, asker: Asker, seconds: float) -> None:
        self._taken -= 1
        for counts, who in ((self._tokens, asker.token_id), (self._workspaces, asker.workspace_id)):
            if left := counts[who] - 1:
                counts[who] = left
            else:
                del counts[who]
        if seconds > NOTED_SECONDS:
            at = time.monotonic()
            self._recent_tokens.add(asker.token_id, seconds, at)
            self._recent_workspaces.add(asker.workspace_id, seconds, at)
        if self._waiting:
            self._let_in(time.monotonic())

    def _let_in(self, at: float) -> None:
        while self._waiting:
            could = [one for one in self._waiting if self.may_enter(one.asker) and not one.turn.done()]
            if not could:
                return
            chosen = min(could, key=lambda waiter: self._used(waiter.asker, at))  # Ties: who came first.
            self._waiting.remove(chosen)
            self.enter(chosen.asker)
            chosen.turn.set_result(True)

    def _used(self, asker: Asker, at: float) -> tuple[float, float]:
        """The workspace's and the token's recent use; what runs now counts once it has ended."""
        workspace, token = asker.workspace_id, asker.token_id
        return (
            self._recent_workspaces.of(workspace, at) + self._workspaces.get(workspace, 0),
            self._recent_tokens.of(token, at) + self._tokens.get(token, 0),
        )

    async def wait(self, asker: Asker, *, has_begun: bool) -> None:
        """Wait for a place, and enter."""
        if sum(waiter.asker.token_id == asker.token_id for waiter in self._waiting) >= WAITING_MAX:
            raise self._busy(asker, has_begun)
        loop = asyncio.get_running_loop()
        waiter = Waiter(asker, loop.create_future())
        self._waiting.append(waiter)
        timer = loop.call_later(self.seconds_max, self._give_up, waiter)
        try:
            came = await waiter.turn
        except BaseException:  # The waiting caller is gone, maybe just as its turn came.
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            elif waiter.turn.result():
                self.leave(asker, 0.0)
            raise
        finally:
            timer.cancel()
        if not came:
            raise self._busy(asker, has_begun)

    def _give_up(self, waiter: Waiter) -> None:
        if not waiter.turn.done():
            self._waiting.remove(waiter)
            waiter.turn.set_result(False)

    def _busy(self, asker: Asker, has_begun: bool) -> Busy:
        """A share is the reason when what its owner holds and waits for exceeds it."""
        waiting = [asker, *(waiter.asker for waiter in self._waiting)]
        mine = self._tokens.get(asker.token_id, 0) + sum(one.token_id == asker.token_id for one in waiting)
        ours = self._workspaces.get(asker.workspace_id, 0)
        ours += sum(one.workspace_id == asker.workspace_id for one in waiting)
        if mine > self.of_token:
            whose, count, share = "the token", mine, self.of_token
        elif ours > self.of_workspace:
            whose, count, share = "the workspace's tokens together", ours, self.of_workspace
        else:
            return Busy(unavailable(), has_begun=has_begun)
        refusal = Refusal(
            "rate-limited",
            f"{whose.capitalize()} may have {share} {self.what} at a time, and this request waited "
            f"{self.seconds_max:g} s for its turn.",
            check="rate",
            received=f"{count} {self.what} at a time",
            needed="fewer requests at a time, or quicker ones: a key, a shorter span, a smaller limit",
            retry_after_seconds=1,
        )
        return Busy(refusal, has_begun=has_begun)


class Place:
    """One place: held while `async with` lasts, or from take() to leave()."""

    __slots__ = ("asker", "has_begun", "shares", "since")

    def __init__(self, shares: Shares, asker: Asker, has_begun: bool) -> None:
        self.shares, self.asker, self.has_begun = shares, asker, has_begun
        self.since: float | None = None  # taken at

    async def take(self) -> None:
        # Nobody in the queue could enter now: a place that becomes free is given away at once.
        if self.shares.may_enter(self.asker):
            self.shares.enter(self.asker)
        else:
            await self.shares.wait(self.asker, has_begun=self.has_begun)
        self.since = time.monotonic()

    def leave(self) -> None:
        """Release the place; further calls do nothing."""
        if self.since is not None:
            seconds, self.since = time.monotonic() - self.since, None
            self.shares.leave(self.asker, seconds)

    async def __aenter__(self) -> None:
        await self.take()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()


QUICK = Shares("questions", places=pool.QUICK.connections_max, of_token=8, of_workspace=8, seconds_max=1.0)
SLOW = Shares(
    f"questions that take longer than {pool.QUICK.statement_seconds_max:g} s",
    places=pool.SLOW.connections_max, of_token=1, of_workspace=1, seconds_max=2.0,
)  # fmt: skip
# ORM work in a thread: writing, lists, the token API.
THREADS = Shares("requests that write or list", places=6, of_token=2, of_workspace=2, seconds_max=2.0)
# Many records in one request: each is checked, and then the database is busy with them for seconds.
LONG_WRITES = Shares("long writes", places=2, of_token=1, of_workspace=1, seconds_max=5.0)
# Answers that may be long: the place is held until little of the answer is left to send.
ANSWERS = Shares("answers of many records", places=6, of_token=4, of_workspace=5, seconds_max=5.0)
# Work on long bodies in a thread. It holds the interpreter lock, so only a little runs at a time; nobody is
# refused here, because each caller already holds a place of another kind.
BODIES = Shares("long bodies", places=2, of_token=1, of_workspace=1, seconds_max=60.0)
# Parsing long conditions, on the event loop: one at a time, between the turns of everybody else.
PARSING = Shares("long conditions", places=1, of_token=1, of_workspace=1, seconds_max=2.0)
EXPORTS = Shares("exports", places=3, of_token=2, of_workspace=2, seconds_max=1.0)
# Pages have no token, so they share one limit, which leaves room for the API.
PAGES = Shares("pages", places=6, of_token=6, of_workspace=6, seconds_max=10.0)
KINDS: dict[str, Shares] = {
    "quick": QUICK, "slow": SLOW, "threads": THREADS, "long_writes": LONG_WRITES, "answers": ANSWERS,
    "bodies": BODIES, "parsing": PARSING, "exports": EXPORTS, "pages": PAGES,
}  # fmt: skip


class Slow:
    """Which kinds of query were slow recently, and for which tokens of a workspace."""

    def __init__(self) -> None:
        self._until: dict[tuple[Any, ...], dict[int, float]] = {}  # workspace and kind → token → until

    def clear(self) -> None:
        self._until.clear()

    def note(self, asker: Asker, about: tuple[Any, ...], at: float) -> None:
        if len(self._until) >= REMEMBERED_MAX:
            self._until.clear()
        tokens = self._until.setdefault((asker.workspace_id, *about), {})
        if len(tokens) >= SLOW_TOKENS and asker.token_id not in tokens:
            del tokens[min(tokens, key=tokens.__getitem__)]
        tokens[asker.token_id] = at + SLOW_KNOWN_SECONDS

    def is_known(self, asker: Asker, about: tuple[Any, ...], at: float) -> bool:
        tokens = self._until.get((asker.workspace_id, *about))
        if tokens is None:
            return False
        if tokens.get(asker.token_id, 0.0) > at:
            return True
        return sum(until > at for until in tokens.values()) >= SLOW_TOKENS


slow = Slow()


def clear() -> None:
    """Forget everything, as at the start of the process."""
    slow.clear()
    for shares in KINDS.values():
        shares.clear()


async def fetch(sql: Any, parameters: Any, *, about: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """All rows of one SELECT. `about` is the kind of query: its dataset and its form.

    Raises Busy, and QueryCanceled after the slow ones' time limit.
    """
    who = asker.get()
    has_begun = False
    if not slow.is_known(who, about, time.monotonic()):
        try:
            async with QUICK.place(who):
                return await pool.fetch_all(sql, parameters, of=pool.QUICK)
        except psycopg.errors.QueryCanceled:
            has_begun = True
            slow.note(who, about, time.monotonic())
    try:
        async with SLOW.place(who, has_begun=has_begun):
            since = time.monotonic()
            rows = await pool.fetch_all(sql, parameters, of=pool.SLOW)
    except (Busy, psycopg.errors.QueryCanceled):
        slow.note(who, about, time.monotonic())
        raise
    if time.monotonic() - since > pool.QUICK.statement_seconds_max:
        slow.note(who, about, time.monotonic())
    return rows


async def look_up(sql: Any, parameters: Any, *, repeat: bool = True) -> list[tuple[Any, ...]]:
    """All rows of one small statement that supports a request's main query, among the quick ones."""
    async with QUICK.place(asker.get()):
        return await pool.fetch_all(sql, parameters, repeat=repeat, of=pool.QUICK)


async def in_body_thread(work: Callable[[], T]) -> T:
    """The result of work on a long body, run in a thread when it is this token's turn."""
    async with BODIES.place(asker.get()):
        return await asyncio.to_thread(work)
