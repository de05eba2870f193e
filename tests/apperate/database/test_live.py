"""A pool hands out no connection that the server has closed, however many it closed at once."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest

from apperate.database.live import LiveAsyncPool, LivePool, is_alive
from apperate.database.pool import connection_arguments

pytestmark = pytest.mark.django_db(transaction=True)
CONNECTIONS = 6
NAME = "test_live"


def arguments() -> dict[str, Any]:
    return connection_arguments() | {"application_name": NAME}


def end_all() -> int:
    """What a restart of the server does to its sessions; how many there were."""
    with psycopg.connect(**connection_arguments()) as other:
        found = other.execute(
            "SELECT count(pg_terminate_backend(pid, 2000)) FROM pg_stat_activity WHERE application_name = %s",
            [NAME],
        ).fetchone()
    assert found is not None
    return int(found[0])


@pytest.fixture
def pool() -> Iterator[LivePool]:
    # A second is what psycopg's own pool would wait after the second dead connection.
    made = LivePool(kwargs=arguments(), min_size=CONNECTIONS, max_size=CONNECTIONS, timeout=0.9, open=False)
    with made:
        made.wait(30)
        yield made


def test_after_all_connections_were_ended_each_caller_gets_one_that_works(pool: LivePool) -> None:
    for _ in range(3):
        assert end_all() == CONNECTIONS
        with ExitStack() as held:
            for _ in range(CONNECTIONS):
                found = held.enter_context(pool.connection())
                assert found.execute("SELECT 1").fetchone() == (1,)
        pool.wait(30)


def test_so_it_is_for_an_event_loop() -> None:
    async def asked(pool: LiveAsyncPool) -> Any:
        async with pool.connection() as found:
            return await (await found.execute("SELECT 1")).fetchone()

    async def work() -> None:
        made = LiveAsyncPool(kwargs=arguments(), min_size=CONNECTIONS, max_size=CONNECTIONS, open=False)
        async with made:
            await made.wait(30)
            for _ in range(3):
                assert await asyncio.to_thread(end_all) == CONNECTIONS
                answers = await asyncio.gather(*(asked(made) for _ in range(2 * CONNECTIONS)))
                assert answers == [(1,)] * (2 * CONNECTIONS)
                await made.wait(30)

    with asyncio.Runner() as runner:
        runner.run(work())


def test_what_waits_to_be_read_does_not_make_a_connection_dead() -> None:
    with psycopg.connect(**arguments()) as found:
        found.execute("LISTEN news")
        with psycopg.connect(**connection_arguments()) as other:
            other.execute("NOTIFY news")
        deadline = time.monotonic() + 10
        while not (told := list(found.notifies(timeout=0.1, stop_after=1))):
            assert is_alive(found)
            assert time.monotonic() < deadline
        assert [one.channel for one in told] == ["news"]
        assert is_alive(found)
        end_all()
        assert not is_alive(found)
    assert not is_alive(found)
