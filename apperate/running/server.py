"""The server: `python -m apperate.running.server DESCRIPTORS`, a listening socket for each worker.

The application is loaded once; the workers are copies of this process, so that one that was killed is back in
a moment. The sockets outlive them in `manage.py up`: connections wait there while no worker takes them.
"""

import contextlib
import gc
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from functools import partial
from importlib import import_module

from apperate.running import supervisor, worker
from apperate.running.door import Door
from apperate.running.supervisor import Copy, Pause

START_SECONDS_MAX = 60
# What the server waits for its workers to end, after a signal: what they take themselves, and a little.
MARGIN_SECONDS = 1.0
# Connections wait for the very worker that was given them, so it is started again soon.
RESTART_SECONDS, RESTART_SECONDS_MAX = 0.1, 2.0


class Asked:
    """The most urgent signal so far; see worker.py."""

    def __init__(self) -> None:
        self.number = 0
        for number in supervisor.SIGNALS:
            signal.signal(number, self.note)

    def note(self, number: int, _frame: object) -> None:
        asked = signal.SIGTERM if number == signal.SIGINT else signal.Signals(number)
        if not self.number or worker.URGENCY.index(asked) > worker.URGENCY.index(signal.Signals(self.number)):
            self.number = asked


def load() -> None:
    """Load what a worker needs before it answers its first request, without a thread or a connection."""
    import_module("apperate.asgi")
    from django.conf import settings

    for name in (settings.ROOT_URLCONF, settings.DATA_PLANE_URLCONF):
        import_module(name)
    # Copies share the memory of what none of them changes, and a collection would touch all of it.
    gc.collect()
    gc.freeze()


def serve(listeners: Sequence[socket.socket], *, report: int | None = None) -> int:
    """Keep a worker on each socket until a signal; the exit code. Reports once that all of them serve."""
    load()
    asked = Asked()
    heard, told = os.pipe()
    for descriptor in (heard, told):
        os.set_blocking(descriptor, False)

    def work(listener: socket.socket) -> None:
        for other in listeners:
            if other is not listener:
                other.close()
        worker.serve(listener, partial(_tell, told))

    children = [
        Copy(
            name=f"Worker {number}", work=partial(work, listener), orphan_signal=signal.SIGQUIT,
            pause=Pause(RESTART_SECONDS, RESTART_SECONDS_MAX),
        )
        for number, listener in enumerate(listeners, 1)
    ]  # fmt: skip
    for child in children:
        child.start()
    ready = 0
    door = Door(listeners)

    def are_ready() -> bool:
        nonlocal ready
        ready += _heard(heard)
        return ready >= len(children) or bool(asked.number)

    try:
        supervisor.wait_until_ready(children, are_ready, seconds_max=START_SECONDS_MAX)
        if report is not None:
            _tell(report)
            os.close(report)
        while not asked.number:
            supervisor.mend(children, say=_say)
            door.look(workers_run=all(child.is_running() for child in children))
            time.sleep(supervisor.TICK_SECONDS)
    except supervisor.ChildFailed as failed:
        _say(str(failed))
        asked.number = asked.number or signal.SIGQUIT
        return 1
    finally:
        door.close()
        for listener in listeners:
            listener.close()
        _end(children, asked)
    return 0


def _end(children: list[Copy], asked: Asked) -> None:
    """Pass each signal on, and kill who does not end in its time."""
    passed_on, deadline = 0, float("inf")
    while any(child.is_running() for child in children):
        if asked.number != passed_on:
            passed_on = asked.number
            end = worker.ENDS[signal.Signals(passed_on)]
            limit = end.idle_seconds + end.request_seconds + end.closing_seconds + MARGIN_SECONDS
            deadline = time.monotonic() + limit
            for child in children:
                child.send(passed_on)
        if time.monotonic() > deadline:
            for child in children:
                child.kill()
        time.sleep(supervisor.TICK_SECONDS / 5)


def _tell(descriptor: int) -> None:
    with contextlib.suppress(OSError):  # Nobody listens any more.
        os.write(descriptor, b"\n")


def _heard(descriptor: int) -> int:
    try:
        return len(os.read(descriptor, 4096))
    except BlockingIOError:
        return 0


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    given = os.environ.pop(supervisor.READY_VARIABLE, "")
    numbers = list(map(int, sys.argv[1].split(",")))
    opened = {number: socket.socket(fileno=number) for number in set(numbers)}
    code = serve([opened[number] for number in numbers], report=int(given) if given else None)
    # Nothing is left to do, and some libraries complain about an interpreter that ends orderly.
    os._exit(code)
