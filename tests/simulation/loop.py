"""An event loop without input and output, in simulated time: a worker's tasks, run one callback at a time."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from heapq import heappop, heappush
from typing import Any

RESOLUTION_SECONDS = 1e-6


class Loop(asyncio.AbstractEventLoop):
    """Runs what is ready when told to. `clock` is the monotonic time of the process that it stands for."""

    def __init__(self, clock: Callable[[], float], unexpected: Callable[[str], None]) -> None:
        self.time = clock  # type: ignore[method-assign]
        self.ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._number = 0
        self._unexpected = unexpected
        self.is_dead = False
        self._readers: dict[int, Callable[[], None]] = {}
        self._readable: set[int] = set()

    def run_ready(self) -> int:
        """Run every callback that is due, and those that these make ready; returns how many ran."""
        self._ring()
        if not self.ready:
            return 0
        before = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        steps = 0
        try:
            while self.ready:
                handle = self.ready.popleft()
                if not handle.cancelled():
                    handle._run()
                    steps += 1
        finally:
            asyncio._set_running_loop(before)
        return steps

    def next_timer(self) -> float | None:
        """When the next timer is due, in this loop's time."""
        while self._timers and self._timers[0][2].cancelled():
            heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def end(self) -> None:
        """Run nothing any more: the process was killed."""
        self.is_dead = True
        for task in asyncio.all_tasks(self):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        self.ready.clear()
        self._timers.clear()

    def arrive(self, place: int) -> None:
        """Something can be read there, now or once somebody looks."""
        self._readable.add(place)
        if place in self._readers:
            self.call_soon(self._readers[place])

    def have_read(self, place: int) -> None:
        self._readable.discard(place)

    def _ring(self) -> None:
        if not self._timers:
            return
        due = self.time() + RESOLUTION_SECONDS
        while self._timers and self._timers[0][0] <= due:
            self.ready.append(heappop(self._timers)[2])

    # --- what asyncio asks of a loop --------------------------------------------------------------

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        if not self.is_dead:
            self.ready.append(handle)
        return handle

    def call_at(
        self, when: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        if not self.is_dead:
            self._number += 1
            heappush(self._timers, (when, self._number, timer))
        return timer

    def call_later(
        self, delay: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def create_future(self) -> "asyncio.Future[Any]":
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Coroutine[Any, Any, Any], *, name: str | None = None, context: Context | None = None
    ) -> "asyncio.Task[Any]":  # type: ignore[override]
        return asyncio.Task(coro, loop=self, name=name, context=context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self.is_dead:
            self._unexpected(f"{context.get('message')}: {context.get('exception')!r}")

    def add_reader(self, fd: Any, callback: Any, *args: Any) -> None:
        self._readers[fd] = callback
        if fd in self._readable:
            self.call_soon(callback)

    def remove_reader(self, fd: Any) -> bool:
        return self._readers.pop(fd, None) is not None

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return not self.is_dead

    def is_closed(self) -> bool:
        return self.is_dead

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is skipped when its time comes."""
