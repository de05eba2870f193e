"""A worker: copies of the product's modules, its event loop, its clocks, and the requests it is answering."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

import psycopg

from apperate.database import shares
from apperate.database.outage import UNAVAILABLE
from apperate.kernel.refusals import Refusal
from tests.simulation.copies import Bug, Copies
from tests.simulation.loop import Loop
from tests.simulation.network import REFUSED_SECONDS, Link, Network, Pools, Weather
from tests.simulation.server import READ
from tokens.rules.permissions import Action, Target


@dataclass(frozen=True)
class Dataset:
    """What the gate knows of a dataset."""

    id: int
    workspace: str
    credits_per_record: int

    @property
    def is_priced(self) -> bool:
        return self.credits_per_record > 0


@dataclass(frozen=True)
class Question:
    asks_values: bool
    records_at_most: int


@dataclass
class Asked:
    """A request, and how it went."""

    value: str
    action: str
    dataset: Dataset
    origin: str | None
    records: int = 0
    asks_values: bool = False
    is_outdated: bool = False  # the dataset had changed: the request goes back to the checks once
    is_wrong: bool = False  # the view refuses it with a 4xx after its query
    is_busy: bool = False  # there is no turn to make the answer, once its records were read
    begun_at: float = 0.0
    # How it went.
    status: int = 0
    code: str = ""
    cost: int = 0
    call: Any = None  # the Call, once admitted
    is_counted: bool = False  # by the meter: a token was known, and the time
    passed_rate: Callable[[], None] = lambda: None


@dataclass
class Books:
    """What a worker has done, seen from outside: by token and month, and by what is counted."""

    balance: dict[Any, int] = field(default_factory=dict)  # drawn and delivered - served - given back
    executed: dict[Any, int] = field(default_factory=dict)  # the same, with returns once they are executed
    answered: dict[Any, list[int]] = field(default_factory=dict)  # calls, records, credits, core credits
    unsure: dict[Any, list[int]] = field(default_factory=dict)  # of these
    flushed: dict[Any, list[int]] = field(default_factory=dict)
    sent: set[Any] = field(default_factory=set)  # batches of returned leases
    done: set[Any] = field(default_factory=set)  # batches of either kind that the database has executed
    recent: list[tuple[float, Any]] = field(default_factory=list)  # answers of the last seconds


class Driver:
    """What a worker's own session is opened with: psycopg, but for the connection."""

    def __init__(self, network: Network, link: Link) -> None:
        self.AsyncConnection = self
        self._network, self._link = network, link

    def __getattr__(self, name: str) -> Any:
        return getattr(psycopg, name)

    async def connect(self, **_: Any) -> Any:
        if not self._network.is_up or self._link.weather.is_cut:
            await asyncio.sleep(REFUSED_SECONDS)
            raise psycopg.OperationalError("connection refused")
        await asyncio.sleep(self._network.one_way(self._link.weather))
        return self._network.open(self._link)


class Worker:
    """One process. `now` is the true time; this worker's monotonic clock runs at its own rate."""

    def __init__(
        self, number: int, network: Network, now: Callable[[], float], *, rate: float, wall_ahead: float,
        bugs: tuple[Bug, ...], unexpected: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.number, self._now, self._born, self._rate = number, now, now(), rate
        self.unexpected = unexpected
        self.loop = Loop(self.monotonic, unexpected)
        self.weather = Weather()
        self.books = Books()
        self.paused_until = -1e9
        self.is_leaving, self.answering = False, 0
        self.troubled_at = now() - 14.0  # when something last went wrong for it; soon it counts as calm
        self.polled_at: float | None = None  # when it asked for what it was last told
        time = SimpleNamespace(monotonic=self.monotonic, time=lambda: 1.8e9 + wall_ahead + now())
        copies = Copies(time, bugs)
        pool = copies["apperate.database.pool"]
        link = self.link = Link(number, self.loop, self.weather)
        pool.pools = Pools(network, link, pool.WAIT_SECONDS_MAX)
        copies["apperate.database.follower"].psycopg = Driver(network, link)
        self.changes: Any = copies["apperate.database.changes"].changes
        self.snapshots = copies["tokens.gate.snapshots"]
        self.leases = copies["tokens.gate.leases"].leases
        self.meter = copies["tokens.metering.meter"].meter
        self.buckets = copies["tokens.gate.throttling"].buckets
        self._pool, self._payment = pool, copies["tokens.gate.payment"]
        self._calls, self._endpoint = copies["tokens.gate.calls"], copies["tokens.gate.endpoint"]
        self._access = copies["tokens.gate.access"]
        self._authentication = copies["tokens.gate.authentication"].TokenAuthentication
        self.loop.create_task(self._start())

    def end(self) -> None:
        """Its memory is lost; what it did is remembered."""
        self.loop.end()
        self.changes = self.snapshots = self.leases = self.meter = self.buckets = self._pool = None
        self._payment = self._calls = self._endpoint = self._access = self._authentication = None

    def monotonic(self) -> float:
        return 1_000.0 + (self._now() - self._born) * self._rate

    def true_time(self, monotonic: float) -> float:
        return self._born + (monotonic - 1_000.0) / self._rate

    async def _start(self) -> None:
        """As apperate/asgi.py starts one."""
        await self.changes.ensure_started()
        self.buckets.clear()
        await self.leases.ensure_started()
        await self.meter.ensure_started()

    async def stop(self) -> None:
        """As apperate/asgi.py stops one."""
        await self.leases.stop()
        await self.meter.stop()
        await self.changes.stop()

    async def wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def ask(
        self, asked: Asked, finished: Callable[..., None], passed_rate: Callable[..., None], token: int
    ) -> None:
        """Begin a request. `finished` is called with its answer, `passed_rate` when its rate allows it."""
        asked.begun_at = self._now()
        asked.passed_rate = partial(passed_rate, self, token, asked.begun_at)
        self.loop.create_task(self._exchange(asked, finished))

    async def _exchange(self, asked: Asked, finished: Callable[..., None]) -> None:
        headers = [(b"host", b"testserver"), (b"authorization", f"Bearer {asked.value}".encode())]
        if asked.origin:
            headers.append((b"origin", asked.origin.encode()))
        method = {"read": "GET", "write": "POST", "delete": "DELETE"}[asked.action]
        scope = {
            "type": "http", "http_version": "1.1", "method": method, "scheme": "http", "path": "/data",
            "raw_path": b"/data", "query_string": b"", "root_path": "", "headers": headers,
            "client": ("127.0.0.1", 50_000), "server": ("127.0.0.1", 8_000),
        }  # fmt: skip
        request = self._calls.ApiRequest(scope, None)
        action = Action(asked.action)
        answered = partial(
            self._endpoint.answered, action=action, admitted=partial(self._admitted, request, asked),
            view=partial(self._view, asked),
        )  # fmt: skip
        try:
            response = await self._authentication(answered)(request)
        except UNAVAILABLE:  # The handler around the gate answers 503.
            asked.status, asked.code = 503, "unavailable"
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if self.loop.is_dead:  # Killed, it ends here.
                return
            asked.status, asked.code = 500, "internal-error"
            self.unexpected(f"a request raised {error!r}")
        else:
            asked.status = response.status_code
            if asked.status >= 400:
                asked.code = json.loads(response.content)["code"]
            asked.cost = sum(int(response.headers.get(name, 0)) for name in
                             ("iexcloud-credits-used", "iexcloud-premium-credits-used"))  # fmt: skip
            asked.is_counted = request.token is not None
        finished(self, asked)

    async def _admitted(self, request: Any, asked: Asked, is_repeat: bool) -> Any:
        """What datasets/api/admission.py does, for a dataset that is known."""
        if no := self._endpoint.first_checks(request, Action(asked.action)):
            return no
        dataset = asked.dataset
        target = Target(dataset.workspace, f"D{dataset.id}", dataset.id)
        now = self.changes.now()

        async def rate() -> Any:
            is_counted = request.rate is not None
            no = await self._endpoint.check_rate(request)
            if no is None and not is_counted:
                asked.passed_rate()
            return no

        facts = self._endpoint.facts_of(request, Action(asked.action), target)
        verdict = await self._access.check_access(request.checked_token, facts, rate, now=now)
        if isinstance(verdict, Refusal):
            return verdict
        asked.call = self._calls.Call(
            request, request.checked_token, target, dataset, Action(asked.action), verdict, now
        )
        return asked.call

    async def _view(self, asked: Asked, call: Any) -> Any:
        """What datasets/api/reading.py does with the gate, around one query."""
        question = Question(asked.asks_values, asked.records + 3)
        if asked.action == "read" and (
            no := await self._payment.ask(call, [(asked.dataset, question)], records_max=asked.records + 3)
        ):
            return no
        if asked.action == "read":
            self._payment.begun(call, asked.dataset, question)
        await self._pool.fetch_all(READ, {}, of=self._pool.QUICK)
        if asked.is_outdated:
            asked.is_outdated = False
            return self._calls.OUTDATED
        if asked.is_wrong:
            return Refusal("invalid-values", "The request is wrong.", check="query")
        records = asked.records if asked.action == "read" else 0
        part = self._calls.Part(asked.dataset, records, asked.asks_values and asked.action == "read", records)
        if asked.action == "read":
            self._payment.have_read(call, part)
            if asked.is_busy:
                raise shares.Busy(Refusal("rate-limited", "Its share is used up.", check="rate"))
        return self._calls.Answer(b"[]", parts=(part,), is_free=asked.action != "read")
