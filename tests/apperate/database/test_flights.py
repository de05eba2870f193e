"""One question for many callers: shared while it is under way, asked anew afterwards, faults included."""

import asyncio

import pytest

from apperate.database.flights import Flights


def test_callers_at_once_share_one_question_and_later_ones_ask_anew() -> None:
    asked: list[int] = []

    async def ask() -> int:
        asked.append(len(asked))
        await asyncio.sleep(0)
        return asked[-1]

    async def work() -> list[int]:
        flights: Flights[int] = Flights()
        together = await asyncio.gather(*(flights.join("a", ask) for _ in range(5)))
        return [*together, await flights.join("a", ask), await flights.join("b", ask)]

    assert asyncio.run(work()) == [0, 0, 0, 0, 0, 1, 2]


def test_a_fault_reaches_every_caller_and_is_not_kept() -> None:
    faults = [ValueError("once")]

    async def ask() -> str:
        await asyncio.sleep(0)
        if faults:
            raise faults.pop()
        return "well"

    async def work() -> list[object]:
        flights: Flights[str] = Flights()
        together = await asyncio.gather(*(flights.join(1, ask) for _ in range(3)), return_exceptions=True)
        return [*map(str, together), await flights.join(1, ask)]

    assert asyncio.run(work()) == ["once", "once", "once", "well"]


def test_a_caller_that_goes_away_leaves_the_question_to_the_others() -> None:
    async def work() -> str:
        flights: Flights[str] = Flights()
        answer = asyncio.Event()

        async def ask() -> str:
            await answer.wait()
            return "well"

        first, second = (asyncio.create_task(flights.join(1, ask)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        answer.set()
        with pytest.raises(asyncio.CancelledError):
            await first
        return await second

    assert asyncio.run(work()) == "well"
