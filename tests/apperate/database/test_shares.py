"""Fair shares of database time and threads: who enters, who waits, who is refused, and with which words."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from unittest.mock import patch

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apperate.database import pool, shares
from apperate.database.shares import Asker, Busy, Shares
from apperate.http import data_plane
from datasets.query.filters import parse_where
from datasets.records.schema import Schema, parse_schema
from tests.support.data_plane_client import DataPlaneClient
from tests.support.factories import DatasetFactory, TokenFactory

A, B = Asker(1, 10), Asker(9, 20)
SIBLINGS = [Asker(number, 10) for number in range(1, 6)]


def places(count: int = 4, of_token: int = 2, of_workspace: int = 3, seconds_max: float = 0.05) -> Shares:
    return Shares(
        "questions", places=count, of_token=of_token, of_workspace=of_workspace, seconds_max=seconds_max
    )


class Holder:
    """Takes places and gives them back when told to."""

    def __init__(self, found: Shares) -> None:
        self.shares = found
        self.entered: list[Asker] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.ends: list[asyncio.Event] = []

    async def take(self, *askers: Asker) -> None:
        for asker in askers:
            end = asyncio.Event()
            self.ends.append(end)
            self.tasks.append(asyncio.create_task(self._hold(asker, end)))
        await asyncio.sleep(0)

    async def _hold(self, asker: Asker, end: asyncio.Event) -> None:
        async with self.shares.place(asker):
            self.entered.append(asker)
            await end.wait()

    async def settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    async def all_end(self) -> list[Any]:
        for end in self.ends:
            end.set()
        return await asyncio.gather(*self.tasks, return_exceptions=True)


def run(work: Callable[[], Awaitable[None]]) -> None:
    async def go() -> None:
        await work()

    asyncio.run(go())


def test_a_token_takes_its_share_and_leaves_the_rest_to_others() -> None:
    async def work() -> None:
        holder = Holder(places(seconds_max=30))
        await holder.take(A, A, A, B)

        assert holder.entered == [A, A, B]
        await holder.all_end()
        assert holder.entered == [A, A, B, A]

    run(work)


def test_the_tokens_of_a_workspace_share_what_is_its() -> None:
    async def work() -> None:
        holder = Holder(places(seconds_max=30))
        await holder.take(*SIBLINGS, B)

        assert holder.entered == [*SIBLINGS[:3], B]
        await holder.all_end()

    run(work)


def test_a_free_place_goes_to_who_used_the_least() -> None:
    async def work() -> None:
        found = places(1, of_token=1, of_workspace=1, seconds_max=30)
        holder = Holder(found)
        found.enter(A)
        found.leave(A, seconds=3.0)
        await holder.take(Asker(3, 30), A, B)
        holder.ends[0].set()
        await holder.settle()

        assert holder.entered == [Asker(3, 30), B]  # A came before, and has had three seconds.
        await holder.all_end()
        assert holder.entered[-1] == A

    run(work)


def test_who_waits_too_long_is_told_why() -> None:
    async def work() -> None:
        holder = Holder(places(2, of_token=1, of_workspace=2))
        await holder.take(A, A, SIBLINGS[1], B)
        await asyncio.wait(holder.tasks[1:2] + holder.tasks[3:])
        own, full = (task.exception() for task in (holder.tasks[1], holder.tasks[3]))
        await holder.all_end()

        assert isinstance(own, Busy) and isinstance(full, Busy)
        assert (own.refusal.code, own.refusal.check) == ("rate-limited", "rate")
        assert own.refusal.detail.startswith("The token may have 1 questions at a time")
        assert "fewer requests" in (own.refusal.needed or "")
        assert full.refusal.code == "unavailable"  # It did nothing wrong.

    run(work)


def test_a_workspace_over_its_share_is_told_so() -> None:
    async def work() -> None:
        holder = Holder(places())
        await holder.take(*SIBLINGS[:4])
        await asyncio.wait(holder.tasks[3:])
        error = holder.tasks[3].exception()
        await holder.all_end()

        assert isinstance(error, Busy)
        assert error.refusal.detail.startswith("The workspace's tokens together may have 3 questions")

    run(work)


def test_no_more_than_a_number_wait() -> None:
    async def work() -> None:
        found = places(1, of_token=1, seconds_max=30)
        holder = Holder(found)
        await holder.take(*[A] * (shares.WAITING_MAX + 2))
        await holder.settle()

        refused = [task for task in holder.tasks if task.done()]
        assert len(refused) == 1 and isinstance(refused[0].exception(), Busy)
        await holder.all_end()

    run(work)


def test_who_goes_away_while_it_waits_or_holds_leaves_nothing_behind() -> None:
    async def work() -> None:
        found = places(1, of_token=1, seconds_max=30)
        holder = Holder(found)
        await holder.take(A, B, Asker(3, 30))
        holder.tasks[1].cancel()
        await holder.settle()
        # B's turn comes in the very moment in which it goes away.
        await holder.take(B)
        holder.tasks[0].cancel()
        holder.tasks[2].cancel()
        await holder.settle()
        await holder.all_end()
        await asyncio.gather(*holder.tasks, return_exceptions=True)

        assert found.may_enter(A) and found._taken == 0 and not found._waiting and not found._tokens

    run(work)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2), st.integers(0, 4), st.booleans()), max_size=60)
)
def test_shares_hold_whatever_comes(script: list[tuple[int, int, int, bool]]) -> None:
    """Never more places than there are, or than a share has; in the end all have had a turn."""

    async def work() -> None:
        found = places(4, of_token=2, of_workspace=3, seconds_max=30)

        async def one(asker: Asker, ticks: int) -> None:
            async with found.place(asker):
                assert found._taken <= 4
                assert max(found._tokens.values()) <= 2 and max(found._workspaces.values()) <= 3
                for _ in range(ticks):
                    await asyncio.sleep(0)

        tasks = []
        for token, workspace, ticks, goes_away in script:
            tasks.append(asyncio.create_task(one(Asker(token + 10 * workspace, workspace), ticks)))
            if ticks % 2:
                await asyncio.sleep(0)
            if goes_away:
                tasks[-1].cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)

        assert all(end is None or isinstance(end, asyncio.CancelledError) for end in ended)
        assert found._taken == 0 and not found._waiting

    run(work)


# --- questions ------------------------------------------------------------------------------------

SLEEP = "SELECT pg_sleep(%(seconds)s)::text"


@pytest.mark.django_db(transaction=True)
def test_a_slow_question_is_asked_again_among_the_slow_ones_and_then_at_once(api: DataPlaneClient) -> None:
    asked: list[pool.Kind] = []
    fetch_all = pool.fetch_all

    async def fetch(*arguments: Any, of: pool.Kind = pool.CHECKS, **more: Any) -> Any:
        nonlocal asked
        asked += [of] if of in (pool.QUICK, pool.SLOW) else []
        return await fetch_all(*arguments, of=of, **more)

    async def question(seconds: float, about: tuple[Any, ...]) -> None:
        await shares.fetch(SLEEP, {"seconds": seconds}, about=about)

    with patch("apperate.database.pool.fetch_all", fetch):
        for seconds, about in ((0.4, (1, True)), (0.0, (1, True)), (0.0, (1, False)), (0.0, (2, True))):
            api.run(question(seconds, about))

    assert asked == [pool.QUICK, pool.SLOW, pool.SLOW, pool.QUICK, pool.QUICK]


@pytest.mark.django_db(transaction=True)
def test_a_question_ends_with_the_time_limit_of_the_slow_ones(
    api: DataPlaneClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "SLOW", pool.Kind("slow", 1, statement_seconds_max=0.3))

    async def question() -> None:
        await shares.fetch(SLEEP, {"seconds": 5.0}, about=(1, True))

    with pytest.raises(psycopg.errors.QueryCanceled):
        api.run(question())


@pytest.mark.django_db(transaction=True)
def test_a_token_over_its_share_is_answered_429_and_another_is_served(
    api: DataPlaneClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shares.QUICK, "seconds_max", 0.05)
    hostile = TokenFactory(settings={"all_datasets_read": True})
    other = TokenFactory(settings={"all_datasets_read": True})
    for token in (hostile, other):
        DatasetFactory(workspace=token.workspace, name="PRICES")
    greedy = Asker(hostile.pk, hostile.workspace_id)
    for _ in range(shares.QUICK.of_token):
        shares.QUICK.enter(greedy)

    refused = api.get(f"/v1/data/{hostile.workspace.name}/PRICES?token={hostile.test_value}")
    served = api.get(f"/v1/data/{other.workspace.name}/PRICES?token={other.test_value}")

    assert (refused.status, refused.code, refused.headers["retry-after"]) == (429, "rate-limited", "1")
    assert refused.json()["token"] == hostile.public_id and "at a time" in refused.json()["detail"]
    assert served.status == 200


@pytest.mark.django_db(transaction=True)
def test_work_in_threads_is_shared_too(api: DataPlaneClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares.THREADS, "seconds_max", 0.05)
    hostile = TokenFactory(settings={"all_datasets_write": True})
    DatasetFactory(workspace=hostile.workspace, name="PRICES")
    for _ in range(shares.THREADS.of_token):
        shares.THREADS.enter(Asker(hostile.pk, hostile.workspace_id))
    url = f"/v1/record/{hostile.workspace.name}/PRICES?token={hostile.test_value}"

    refused = api.post(url, [{"ticker": "A", "date": "2024-01-01"}])

    assert refused.code == "rate-limited" and "write or list" in refused.json()["detail"]


@pytest.mark.django_db(transaction=True)
def test_a_token_writes_one_long_body_at_a_time(
    api: DataPlaneClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shares.LONG_WRITES, "seconds_max", 0.05)
    token = TokenFactory(settings={"all_datasets_write": True})
    DatasetFactory(workspace=token.workspace, name="PRICES")
    url = f"/v1/record/{token.workspace.name}/PRICES?token={token.test_value}"
    records = [{"ticker": f"A{n}", "date": "2024-01-01"} for n in range(3_000)]

    written = api.post(url, records)
    shares.LONG_WRITES.enter(Asker(token.pk, token.workspace_id))
    refused, short = api.post(url, records), api.post(url, records[:1])

    assert (written.status, short.status) == (200, 200)
    assert refused.code == "rate-limited" and "1 long writes at a time" in refused.json()["detail"]


@pytest.mark.django_db(transaction=True)
def test_a_long_answer_keeps_its_place_until_it_is_sent(
    api: DataPlaneClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokens.gate.endpoint.UNSENT_BYTES_MAX", 100)
    token = TokenFactory(settings={"all_datasets_read": True, "all_datasets_write": True})
    DatasetFactory(workspace=token.workspace, name="PRICES")
    where = f"{token.workspace.name}/PRICES?token={token.test_value}"
    api.post(f"/v1/record/{where}", [{"ticker": "A", "date": f"2024-01-{n:02}"} for n in range(1, 21)])
    held: list[int] = []

    async def respond(*arguments: Any) -> None:
        held.append(shares.ANSWERS._taken)
        await unpatched(*arguments)

    unpatched = data_plane.respond
    monkeypatch.setattr(data_plane, "respond", respond)
    few, many = api.get(f"/v1/data/{where}&last=5"), api.get(f"/v1/data/{where}&last=20")

    assert (len(few.json()), len(many.json())) == (5, 20)
    assert (held, shares.ANSWERS._taken) == ([0, 1], 0)


def test_a_body_is_sent_in_parts_and_whole() -> None:
    for size in (0, 1, data_plane.PART_BYTES, data_plane.PART_BYTES + 1, 3 * data_plane.PART_BYTES):
        sent: list[dict[str, Any]] = []

        async def send(message: dict[str, Any], sent: list[dict[str, Any]] = sent) -> None:
            sent.append(message)

        content = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
        asyncio.run(data_plane.send_whole(send, content))

        assert b"".join(message["body"] for message in sent) == content
        assert max(len(message["body"]) for message in sent) <= data_plane.PART_BYTES
        assert [message.get("more_body", False) for message in sent] == [True] * (len(sent) - 1) + [False]


def test_a_client_that_takes_nothing_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_plane, "PART_SECONDS_MAX", 0.02)

    async def send(message: dict[str, Any]) -> None:
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        asyncio.run(data_plane.send_whole(send, b"x" * (data_plane.PART_BYTES + 1)))


def test_conditions_have_a_number_of_words_in_all() -> None:
    schema = parse_schema({"type": "object", "properties": {"a": {"type": "string"}}}, {})
    assert isinstance(schema, Schema)
    one = "a in (" + ",".join("x" * 50) + ")"

    assert not isinstance(parse_where(" or ".join([one] * 7), schema), str)
    assert "at most 800 words" in str(parse_where(" or ".join([one] * 8), schema))


def test_what_is_slow_for_some_tokens_of_a_workspace_is_slow_for_all_of_them() -> None:
    slow, about = shares.Slow(), (7, True)
    first, others = Asker(1, 1), [Asker(2, 1), Asker(3, 1)]

    slow.note(first, about, at=0.0)
    slow.note(others[0], about, at=1.0)
    assert slow.is_known(first, about, at=2.0)
    assert not slow.is_known(first, (7, False), at=2.0)
    assert not slow.is_known(others[1], about, at=2.0), "two are not the workspace"

    slow.note(others[1], about, at=2.0)
    assert slow.is_known(Asker(4, 1), about, at=3.0)
    assert not slow.is_known(Asker(4, 2), about, at=3.0), "another workspace"
    assert not slow.is_known(Asker(4, 1), about, at=shares.SLOW_KNOWN_SECONDS), "one of three is forgotten"
    assert not slow.is_known(first, about, at=shares.SLOW_KNOWN_SECONDS)


def test_of_many_slow_tokens_a_few_are_remembered() -> None:
    slow, about = shares.Slow(), (7, True)
    for token_id in range(1, 100):
        slow.note(Asker(token_id, 1), about, at=float(token_id))

    assert slow.is_known(Asker(99, 1), about, at=100.0)
    assert slow.is_known(Asker(1, 1), about, at=97.0 + shares.SLOW_KNOWN_SECONDS - 1)
    assert not slow.is_known(Asker(1, 1), about, at=97.0 + shares.SLOW_KNOWN_SECONDS + 1)
