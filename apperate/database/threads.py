"""Runs ORM code off the event loop, for requests of the data plane and tasks of the queue.

A request takes a place from its token's share of the threads (shares.py); a task needs none.
"""

from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

from asgiref.sync import sync_to_async
from django.db import connections

from apperate.database import shares

P = ParamSpec("P")
T = TypeVar("T")


def in_thread(function: Callable[P, T]) -> Callable[P, Awaitable[T]]:
    """Run a synchronous ORM function off the event loop; its connection is returned afterwards.

    Raises shares.Busy when no thread comes free for this token.
    """

    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        finally:
            connections.close_all()

    run = sync_to_async(call, thread_sensitive=False)

    async def in_turn(*args: P.args, **kwargs: P.kwargs) -> T:
        who = shares.asker.get()
        if who is shares.NOBODY:
            return await run(*args, **kwargs)
        async with shares.THREADS.place(who):
            return await run(*args, **kwargs)

    return in_turn
