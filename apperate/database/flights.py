"""Flights: of identical concurrent queries only one runs, and all callers get its answer."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Flights(Generic[T]):
    """Queries in progress, each under its key; used only from one event loop.

    A caller that joins gets the result of a query already running, so an answer is at most as old as it took.
    """

    def __init__(self) -> None:
        self._flights: dict[tuple[asyncio.AbstractEventLoop, Hashable], asyncio.Future[T]] = {}

    async def join(self, key: Hashable, ask: Callable[[], Awaitable[T]]) -> T:
        """The answer of ask(), or of the query in progress under this key. Raises what that raises."""
        place = asyncio.get_running_loop(), key
        flight = self._flights.get(place)
        if flight is None:
            flight = self._flights[place] = asyncio.ensure_future(ask())

            def landed(task: "asyncio.Future[T]") -> None:
                del self._flights[place]
                if not task.cancelled():
                    task.exception()  # The caller may be gone.

            flight.add_done_callback(landed)
        # A caller that goes away must not cancel the query for the others.
        return await asyncio.shield(flight)
