"""A change is answered once every worker has taken it over; one that has not is counted."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime

import psycopg
import pytest
from django.db import connection, transaction

from apperate.database import propagation
from apperate.database.changes import Changes
from apperate.database.propagation import TICKS, is_behind, take_unconfirmed, unconfirmed_words
from tests.support.factories import TokenFactory
from tokens.models import Token
from tokens.services import lifecycle

pytestmark = pytest.mark.django_db(transaction=True)


class Worker:
    """What a server process does about changes, on an event loop of its own. It polls when it is woken."""

    def __init__(self) -> None:
        self.changes, self.evicted, self.cleared = Changes(), set[int](), 0
        self.changes._work.every_seconds = 3600
        self.changes.listen("tokens_token", self.evict, self.clear)
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.run(self.changes.ensure_started())

    def evict(self, ids: Iterable[int]) -> None:
        self.evicted.update(ids)

    def clear(self) -> None:
        self.cleared += 1

    def run(self, coroutine: object) -> object:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout=60)  # type: ignore[arg-type]

    def close(self) -> None:
        self.run(self.changes.stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(timeout=5)
        self.loop.close()


@pytest.fixture
def start() -> Iterator[Callable[[], Worker]]:
    with ExitStack() as stack:

        def start() -> Worker:
            worker = Worker()
            stack.callback(worker.close)
            return worker

        yield start


def disable(token: Token) -> None:
    lifecycle.disable(token=token, by=None, now=datetime.now(UTC))


def sessions() -> list[int]:
    """The backends that hold a worker's lock."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pid FROM pg_locks WHERE classid = %s AND objsubid = 2", [propagation.LOCKS])
        return [pid for (pid,) in cursor.fetchall()]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_change_returns_when_every_worker_has_it(start: Callable[[], Worker]) -> None:
    """They are woken: none of them would poll by itself."""
    workers, token = [start(), start(), start()], TokenFactory()
    for worker in workers:
        worker.evicted.clear()

    disable(token)

    assert all(token.pk in worker.evicted for worker in workers)
    assert take_unconfirmed() == 0


def test_without_a_worker_nobody_is_waited_for() -> None:
    disable(TokenFactory())

    assert take_unconfirmed() == 0


def test_nobody_is_told_of_a_change_that_was_rolled_back(start: Callable[[], Worker]) -> None:
    worker, token = start(), TokenFactory()
    worker.evicted.clear()

    with pytest.raises(LookupError), transaction.atomic():
        disable(token)
        raise LookupError

    assert not worker.evicted


def test_a_worker_that_stands_still_is_counted_and_said_once(start: Callable[[], Worker]) -> None:
    awake, asleep, token = start(), start(), TokenFactory()
    released = threading.Event()
    asleep.loop.call_soon_threadsafe(released.wait)
    try:
        disable(token)

        assert token.pk in awake.evicted
        assert (take_unconfirmed(), take_unconfirmed()) == (1, 0)
    finally:
        released.set()
    until(lambda: token.pk in asleep.evicted)


def test_a_lost_session_drops_what_is_cached_and_keeps_nothing_until_there_is_another(
    start: Callable[[], Worker],
) -> None:
    worker = start()
    kept, cleared = worker.changes.generation, worker.cleared
    assert kept == worker.changes.generation
    worker.changes._work.every_seconds = 0.05  # how soon it tries again
    worker.changes._follower._session = never  # type: ignore[method-assign]

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(unnest(%s::int[]))", [sessions()])
    until(lambda: not worker.changes._follower.is_following)

    assert worker.cleared > cleared
    assert worker.changes.generation != worker.changes.generation

    del worker.changes._follower._session  # type: ignore[method-assign]
    until(lambda: worker.changes._follower.is_following)
    assert worker.changes.generation == worker.changes.generation != kept
    disable(token := TokenFactory())
    assert token.pk in worker.evicted


async def never() -> object:
    raise psycopg.OperationalError("the test lets nobody in")


def test_a_session_that_was_ended_is_opened_again_at_once(start: Callable[[], Worker]) -> None:
    """Without waiting for the next poll, which here is an hour away."""
    start()
    before = sessions()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(unnest(%s::int[]))", [before])

    until(lambda: len(sessions()) == 1 and sessions() != before)


def test_a_worker_that_ends_lets_its_lock_go(start: Callable[[], Worker]) -> None:
    worker = Worker()
    assert len(sessions()) == 1

    worker.close()

    until(lambda: not sessions())


@pytest.mark.parametrize(
    ("seen", "tick", "behind"),
    [
        (5, 4, False),
        (4, 4, True),  # The poll may have come just before.
        (3, 4, True),
        (0, TICKS - 1, False),  # The numbers start again.
        (TICKS - 1, 0, True),
    ],
)
def test_what_was_seen_before_a_change_does_not_confirm_it(seen: int, tick: int, behind: bool) -> None:
    assert is_behind(seen, tick) is behind


def test_the_sentence_counts() -> None:
    assert unconfirmed_words(1).startswith("1 server process has not confirmed this yet.")
    assert unconfirmed_words(3).startswith("3 server processes have not confirmed this yet.")
