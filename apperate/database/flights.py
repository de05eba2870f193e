"""Flights: the same question asked by many at once is asked once, and all get its answer."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Flights(Generic[T]):
    """Questions that are under way, each under its key; used from one event loop alone.

    Who joins gets what was read since the first one asked, so an answer is at most as old as it took.
    """

    def __init__(self) -> None:
        self._flights: dict[tuple[asyncio.AbstractEventLoop, Hashable], asyncio.Future[T]] = {}

    async def join(self, key: Hashable, ask: Callable[[], Awaitable[T]]) -> T:
        """The answer of ask(), or of the one under this key that is under way. Raises what that raises."""
        place = asyncio.get_running_loop(), key
        flight = self._flights.get(place)
        if flight is None:
            flight = self._flights[place] = asyncio.ensure_future(ask())

            def landed(task: "asyncio.Future[T]") -> None:
                del self._flights[place]
                if not task.cancelled():
                    task.exception()  # Whoever asked may be gone.

            flight.add_done_callback(landed)
        # Who goes away leaves the question to the others.
        return await asyncio.shield(flight)
