"""A worker's connections to the database: they delay and lose, before a statement is executed or after it.

Stands where the product opens psycopg's pools (apperate/database/pool.py) and the session that follows
changes (follower.py); all above it is the product's.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg_pool import PoolTimeout

from tests.simulation.server import Rows, Server

CALM_SECONDS = (0.0005, 0.02)  # one way
SLOW_SECONDS = (0.2, 8.0)
REFUSED_SECONDS = 0.01
QUERY_CANCELED = 0.03  # of what goes wrong


@dataclass
class Weather:
    """How a worker's link is: the share of statements to which something happens."""

    trouble: float = 0.0
    is_cut: bool = False  # nothing comes through, and nobody says so


@dataclass(frozen=True)
class Sent:
    """A statement that a worker has sent, and what became of it."""

    worker: int
    statement: Any
    parameters: dict[str, Any]
    at: float
    session: int | None = None


class Network:
    """Between all workers and the one server. `later(seconds, what)` puts something on the agenda."""

    def __init__(self, server: Server, chance: random.Random, later: Callable[..., None]) -> None:
        self.server, self.chance, self.later = server, chance, later
        self.is_up = True  # whether the server answers at all
        self.session = 0  # of the server: a restart ends every connection
        self.judge: Any = None  # hears what is sent, executed and delivered
        self.sessions: dict[int, Session] = {}  # of workers that follow changes
        self._numbers = 0

    def one_way(self, weather: Weather) -> float:
        bounds = SLOW_SECONDS if self.chance.random() < weather.trouble else CALM_SECONDS
        return self.chance.uniform(*bounds)

    def ask(self, link: "Link", sent: Sent) -> "asyncio.Future[Rows]":
        """Send a statement. The future gets the rows or an error, or nothing at all."""
        answer: asyncio.Future[Rows] = link.loop.create_future()
        weather, session = link.weather, self.session
        self.judge.sent(sent)
        fate = self.chance.random() if self.chance.random() < weather.trouble else 1.0
        if weather.is_cut:
            return answer
        if not self.is_up or fate < 0.2:  # It never arrives, and the worker hears of that.
            self.later(REFUSED_SECONDS, self._fail, link, answer, psycopg.OperationalError("connection lost"))
        elif fate < 0.2 + QUERY_CANCELED:
            self.later(0.25, self._fail, link, answer, psycopg.errors.QueryCanceled("statement timeout"))
        elif fate >= 0.4:
            self.later(self.one_way(weather), self._arrive, link, answer, sent, session, fate)
        return answer

    def _arrive(
        self, link: "Link", answer: "asyncio.Future[Rows]", sent: Sent, session: int, fate: float
    ) -> None:
        if session != self.session or not self.is_up:
            self._fail(link, answer, psycopg.OperationalError("the server closed the connection"))
            return
        if sent.session is None:
            rows = self.server.execute(sent.statement, sent.parameters)
        elif sent.session in self.sessions:
            rows = self.server.follow(sent.session, sent.statement, sent.parameters)
        else:
            return
        self.judge.executed(sent, rows)
        back = self.one_way(link.weather)
        if link.weather.is_cut or fate < 0.5:  # Executed, and nobody hears of it.
            return
        if fate < 0.8:
            self.later(back, self._fail, link, answer, psycopg.OperationalError("connection lost"))
        else:
            self.later(back, self._answer, link, answer, rows, session)

    def _answer(self, link: "Link", answer: "asyncio.Future[Rows]", rows: Rows, session: int) -> None:
        if session != self.session:
            self._fail(link, answer, psycopg.OperationalError("the server closed the connection"))
        elif not link.loop.is_dead:
            link.loop.call_soon(lambda: answer.done() or answer.set_result(rows))

    @staticmethod
    def _fail(link: "Link", answer: "asyncio.Future[Rows]", error: Exception) -> None:
        if not link.loop.is_dead:
            link.loop.call_soon(lambda: answer.done() or answer.set_exception(error))

    # --- sessions ---------------------------------------------------------------------------------

    def open(self, link: "Link") -> "Session":
        self._numbers += 1
        session = self.sessions[self._numbers] = Session(self, link, self._numbers)
        return session

    def close(self, number: int) -> None:
        """The worker's end is closed; the server hears of it, unless nothing comes through."""
        session = self.sessions.get(number)
        if session is not None and not session.link.weather.is_cut:
            self.later(self.one_way(session.link.weather), self._forget, number)

    def _forget(self, number: int) -> None:
        self.sessions.pop(number, None)
        self.server.locks.pop(number, None)

    def break_all(self) -> None:
        """The server ends every connection, and whoever watches one hears of it."""
        self.session += 1
        for session in self.sessions.values():
            session.is_broken = True
            self.later(CALM_SECONDS[1], session.arrive)
        self.sessions.clear()
        self.server.locks.clear()

    def announce(self) -> None:
        for session in self.sessions.values():
            if not session.link.weather.is_cut:
                self.later(self.one_way(session.link.weather), session.arrive)


@dataclass
class Link:
    """One worker's end of the network."""

    worker: int
    loop: Any
    weather: Weather


class Pools:
    """Takes the place of the product's Pools in a worker's copy of the module."""

    def __init__(self, network: Network, link: Link, wait_seconds_max: float) -> None:
        self._network, self._link, self._wait = network, link, wait_seconds_max
        self._pools: dict[Any, Pool] = {}

    async def get(self, kind: Any) -> "Pool":
        if kind not in self._pools:
            self._pools[kind] = Pool(self._network, self._link, kind.connections_max, self._wait)
        return self._pools[kind]


class Pool:
    """Some connections; who finds none free waits, in order and not for long."""

    def __init__(self, network: Network, link: Link, connections_max: int, wait_seconds_max: float) -> None:
        self.network, self.link = network, link
        self._free, self._wait = connections_max, wait_seconds_max
        self._waiting: deque[asyncio.Future[None]] = deque()

    def connection(self) -> "Connection":
        return Connection(self)

    async def take(self) -> None:
        if self._free:
            self._free -= 1
            return
        turn: asyncio.Future[None] = self.link.loop.create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(self._wait):
                await turn
        except TimeoutError:
            self._withdraw(turn)
            raise PoolTimeout("no connection came free") from None
        except asyncio.CancelledError:
            self._withdraw(turn)
            raise

    def leave(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def _withdraw(self, turn: "asyncio.Future[None]") -> None:
        if turn.done() and not turn.cancelled():  # It got its turn in the same moment.
            self.leave()


class Connection:
    """One statement's use of a connection; what goes wrong ends it, and the pool opens another."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def __aenter__(self) -> "Connection":
        await self._pool.take()
        return self

    async def __aexit__(self, *_: Any) -> None:
        self._pool.leave()

    async def execute(self, statement: Any, parameters: dict[str, Any]) -> "Cursor":
        network = self._pool.network
        sent = Sent(self._pool.link.worker, statement, parameters, network.judge.now())
        rows = await network.ask(self._pool.link, sent)
        network.judge.delivered(sent, rows)
        return Cursor(rows)


class Cursor:
    """The rows of a result."""

    def __init__(self, rows: Rows) -> None:
        self.description = None if rows is None else True
        self._rows = list(rows or ())
        self.rowcount, self.rownumber = len(self._rows), 0

    async def fetchmany(self, size: int) -> list[tuple[Any, ...]]:
        taken = self._rows[self.rownumber : self.rownumber + size]
        self.rownumber += len(taken)
        return taken


class Session:
    """A worker's own connection, as apperate/database/follower.py opens one of psycopg's."""

    def __init__(self, network: Network, link: Link, number: int) -> None:
        self.network, self.link, self.number = network, link, number
        self.is_broken = self.is_closed = False
        self.pgconn = self  # Both are asked for few things.

    async def execute(self, statement: Any, parameters: Any = None) -> "FollowerCursor":
        if self.is_broken or self.is_closed:
            raise psycopg.OperationalError("the connection is closed")
        sent = Sent(self.link.worker, statement, parameters, self.network.judge.now(), self.number)
        rows = await self.network.ask(self.link, sent)
        self.network.judge.delivered(sent, rows)
        return FollowerCursor(rows)

    def arrive(self) -> None:
        if not self.is_closed:
            self.link.loop.arrive(self.number)

    def fileno(self) -> int:
        return self.number

    def add_notify_handler(self, handler: Any) -> None:
        """Announcements are heard by who waits for them."""

    def consume_input(self) -> None:
        self.link.loop.have_read(self.number)
        if self.is_broken:
            raise psycopg.OperationalError("the server closed the connection")

    def notifies(self) -> None:
        return None

    def finish(self) -> None:
        self.is_closed = True
        self.link.loop.have_read(self.number)
        self.network.close(self.number)


class FollowerCursor:
    """The rows of a session's statement."""

    def __init__(self, rows: Rows) -> None:
        self._rows = list(rows or ())

    async def fetchall(self) -> list[tuple[Any, ...]]:
        return self._rows

    async def fetchone(self) -> tuple[Any, ...] | None:
        return self._rows[0] if self._rows else None
