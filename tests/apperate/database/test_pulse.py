"""E-D4: a database that hangs is noticed by its silence; requests are answered, long queries are not cut."""

import asyncio
import http.client
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg_pool import PoolTimeout

from apperate.database import pool
from apperate.database.live import LivePool
from apperate.database.pool import connection_arguments
from apperate.database.pulse import Away, pulse
from tests.support.installation import Demo, started, until

# What takes a second on a machine of its own.
BUSY_SECONDS = 20
Answer = tuple[int, http.client.HTTPMessage, str, float]
needs_database = pytest.mark.django_db(transaction=True)


class OnEmbedded(Demo):
    """The demo on the embedded server, which can be stopped, in each run of the tests."""

    def environment(self, **changes: str) -> dict[str, str]:
        found = super().environment(**changes)
        found.pop("DATABASE_URL", None)
        return found

    def on_given_server(self, statement: str) -> None:
        """Nothing is done there."""

    def ask(self, method: str, path: str, body: object = None) -> Answer:
        """Status, headers, text and seconds of an answer to the secret token."""
        headers = {
            "Authorization": f"Bearer {self.facts['secret_token']}",
            "Content-Type": "application/json",
        }
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=90)
        began = time.monotonic()
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, answer.headers, text, time.monotonic() - began

    def database_processes(self) -> list[int]:
        main = int((self.home / "db" / "pg" / "postmaster.pid").read_text().split()[0])
        found = [main]
        for process in Path("/proc").glob("[0-9]*/status"):
            try:
                if f"PPid:\t{main}\n" in process.read_text():
                    found.append(int(process.parent.name))
            except OSError:
                continue
        return found


@pytest.fixture
def installation() -> Iterator[OnEmbedded]:
    with started(OnEmbedded) as installation:
        yield installation


@pytest.mark.server
@pytest.mark.slow("starts `manage.py up`, and stops its database for some seconds: 15 s")
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="only Linux has /proc")
def test_a_database_that_hangs_costs_nobody_more_than_a_moment(installation: OnEmbedded) -> None:
    """Every answer is a 503 that says when to come back, and the first good one comes soon after."""
    token = installation.ask("GET", "/v1/tokens")[2]
    asked = [
        ("PATCH", f"/v1/tokens/{json.loads(token)[0]['id']}", {"nickname": "hangs"}),
        ("POST", "/v1/record/DEMO/CARS", [{"Name": "A"}]),
        ("GET", "/v1/data/DEMO/STOCKS/AAPL?last=1", None),
        ("GET", "/readyz", None),
    ]
    answers: list[Answer] = []
    processes = installation.database_processes()
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        # Those under way when it stops; `GET` again and again until each worker has noticed.
        threads = [
            threading.Thread(target=lambda one=one: answers.append(installation.ask(*one))) for one in asked
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        until(lambda: [installation.ask(*asked[3])[0] for _ in range(10)] == [503] * 10)
        answers += [installation.ask(*one) for one in asked]
        page = installation.ask("GET", "/account/password/reset/")
        assert installation.ask("GET", "/livez")[0] == 200
    finally:
        for process in processes:
            os.kill(process, signal.SIGCONT)
    began = time.monotonic()

    until(lambda: installation.ask(*asked[2])[0] == 200, seconds=2 * BUSY_SECONDS)
    until(lambda: installation.ask(*asked[0])[0] == 200, seconds=2 * BUSY_SECONDS)

    assert time.monotonic() - began < 2 * BUSY_SECONDS
    assert {status for status, *_ in answers} == {503}, answers
    assert all(headers["Retry-After"] for _, headers, *_ in answers)
    assert max(seconds for *_, seconds in answers) < BUSY_SECONDS
    assert [json.loads(text)["code"] for _, _, text, _ in answers if text[0] == "{"] == ["unavailable"] * 6
    assert page[0] in {200, 503}
    assert "Traceback" not in installation.said()
    assert installation.said().count("the database answers again") >= 1


@needs_database
def test_a_statement_that_takes_long_is_not_cut_while_the_database_answers() -> None:
    async def waits() -> list[tuple[Any, ...]]:
        pulse.start(connection_arguments)
        try:
            rows = await pool.fetch_all("SELECT 1 FROM pg_sleep(1.5)", (), of=pool.SLOW)
            assert not pulse.is_away
            return rows
        finally:
            await pulse.stop()
            await pool.pools.close()

    assert asyncio.run(waits()) == [(1,)]


@needs_database
def test_a_statement_in_a_thread_is_given_up_when_the_database_is_away() -> None:
    with LivePool(kwargs=connection_arguments(), min_size=1, max_size=1, open=True) as made:
        made.wait(30)
        goes = threading.Timer(0.3, lambda: setattr(pulse, "is_away", True))
        goes.start()
        try:
            with pytest.raises(Away, match="answered nothing"), made.connection() as connection:
                connection.execute("SELECT pg_sleep(4)")
            with pytest.raises(PoolTimeout):
                made.getconn()
        finally:
            goes.join()
            pulse.is_away = False

        with made.connection(timeout=30) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


@needs_database
def test_nothing_is_sent_while_the_database_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that was refused at once was surely not done: its 503 may say so."""
    monkeypatch.setattr(pulse, "is_away", True)

    with pytest.raises(PoolTimeout):
        asyncio.run(pool.fetch_all("SELECT 1", ()))


def test_silence_makes_it_away_and_any_answer_brings_it_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """No server listens there; a statement of somebody else is as good as a beat."""

    async def watch() -> None:
        def nowhere() -> dict[str, Any]:
            raise psycopg.OperationalError("no server")

        pulse.start(nowhere)
        assert pulse.cut is not None
        cut = pulse.cut
        await asyncio.wait_for(cut, BUSY_SECONDS)
        assert pulse.is_away

        pulse.heard()
        deadline = time.monotonic() + BUSY_SECONDS
        while pulse.is_away:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        assert pulse.cut is not cut
        await pulse.stop()

    asyncio.run(watch())
