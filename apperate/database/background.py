"""Background work of a worker: a function repeated beside its requests, in its event loop.

work = Background("usage", flush, every_seconds=1.0, fault="writing usage failed; trying again", logger=…)
if not work.is_running(): work.start()
await work.stop()
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from apperate.database.outage import UNAVAILABLE, outage


class Background:
    """One repeated function. It survives any exception; of consecutive ones the first is logged, or each.

    outage.py logs an unreachable database, once for all background work. `pause` may end early, when there is
    something to do.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], Awaitable[None]],
        *,
        every_seconds: float,
        fault: str,
        logger: logging.Logger,
        logs_each: bool = False,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.name, self.fault, self.logger, self.logs_each = name, fault, logger, logs_each
        self.every_seconds = every_seconds
        self._work, self._pause = work, pause
        self._task: asyncio.Task[None] | None = None

    @property
    def is_started(self) -> bool:
        """Whether it was started and not stopped, in any event loop."""
        return self._task is not None

    def is_running(self) -> bool:
        """Whether it runs in this event loop."""
        task = self._task
        return task is not None and not task.done() and task.get_loop() is asyncio.get_running_loop()

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=self.name)

    async def stop(self) -> None:
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self._task = None

    async def _run(self) -> None:
        failing = False
        while True:
            await self._pause(self.every_seconds)
            try:
                await self._work()
                failing = False
            except UNAVAILABLE as error:
                outage.note(error)
            except Exception:
                if self.logs_each or not failing:
                    self.logger.exception(self.fault)
                failing = True
