"""One worker of the server: granian in this process, on a socket that others listen on too.

serve(listener, on_ready)   returns when the worker was asked to end, and its requests have

    SIGHUP    another has taken its place: requests end, however long they take (LEAVE)
    SIGTERM   the server stops: requests have STOP seconds
    SIGQUIT   the server was killed: at once

A worker that ends takes no new connection. The listening socket stays open elsewhere, so what waits there is
taken by another worker, or refused when the last one closes it. It then answers what comes on kept
connections, with `Connection: close`, and closes those on which nothing comes.
"""

import asyncio
import contextlib
import os
import signal
import socket
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from granian._granian import SocketHolder
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.embed import Server

from apperate.http import leaving
from apperate.running.door import connections_max
from apperate.running.listening import BACKLOG
from apperate.running.supervisor import SIGNALS

# Enough for the longest target and headers that the data plane answers itself; granian refuses longer ones.
HEAD_BYTES_MAX = 131_072
HEAD_MILLISECONDS_MAX = 10_000
LOOK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class End:
    """How a worker ends: how long kept connections stay, how long requests may take, and the last words."""

    idle_seconds: float
    request_seconds: float
    closing_seconds: float


# In order of urgency; a more urgent one replaces another.
ENDS = {
    signal.SIGHUP: End(idle_seconds=5.0, request_seconds=900.0, closing_seconds=5.0),
    signal.SIGTERM: End(idle_seconds=1.0, request_seconds=12.0, closing_seconds=2.0),
    signal.SIGQUIT: End(idle_seconds=0.0, request_seconds=0.2, closing_seconds=0.6),
}
URGENCY = list(ENDS)


class Granian(Server):
    """granian's server for an event loop of ours, on a socket that is already bound."""

    def __init__(self, application: Any, listener: socket.socket) -> None:
        super().__init__(
            application,
            interface=Interfaces.ASGINL,
            http=HTTPModes.http1,
            http1_settings=HTTP1Settings(
                header_read_timeout=HEAD_MILLISECONDS_MAX, max_buffer_size=HEAD_BYTES_MAX
            ),
            websockets=False,
            backlog=BACKLOG,
            backpressure=connections_max(),
            log_level=LogLevels.error,
            log_access=False,  # A URL may hold a token.
        )
        self.listener = listener

    def _init_shared_socket(self) -> None:
        is_unix = self.listener.family == socket.AF_UNIX
        # granian's own type of it lags behind: it takes the backlog too.
        holder: Any = SocketHolder
        self._shd: Any = holder(self.listener.fileno(), is_unix, BACKLOG)


class Wish:
    """The most urgent request to end so far, and when it came."""

    def __init__(self) -> None:
        self.end: End | None = None
        self.number = 0
        self.at = 0.0
        self.came = asyncio.Event()

    def ask(self, number: signal.Signals) -> None:
        if self.end is None or URGENCY.index(number) > URGENCY.index(signal.Signals(self.number)):
            self.number, self.end, self.at = number, ENDS[number], time.monotonic()
            self.came.set()

    def passed(self, seconds: float) -> bool:
        return time.monotonic() - self.at >= seconds


def serve(listener: socket.socket, on_ready: Callable[[], None]) -> None:
    """Serve until a signal, and finish as it says. To be called with SIGNALS blocked."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.run_until_complete(_serve(listener, on_ready))


async def _serve(listener: socket.socket, on_ready: Callable[[], None]) -> None:
    from apperate import asgi

    loop, wish = asyncio.get_running_loop(), Wish()
    for number in SIGNALS:
        asked = signal.SIGTERM if number == signal.SIGINT else number
        loop.add_signal_handler(number, wish.ask, asked)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    # Made now: when descriptors are short it could not be made later.
    nobody = socket.create_server(("127.0.0.1", 0))
    nobody.setblocking(False)
    await asgi.startup()
    server = Granian(asgi.application, listener)
    serving = loop.create_task(server.serve())
    await asyncio.sleep(0)
    on_ready()
    wishing = loop.create_task(wish.came.wait())
    await asyncio.wait({serving, wishing}, return_when=asyncio.FIRST_COMPLETED)
    if not serving.done():
        address = listener.getsockname()
        stop_accepting(listener, nobody)
        leaving.begin()
        await _until(lambda: not has_connections(address), wish, "idle_seconds")
        server.stop()
        await _until(serving.done, wish, "request_seconds")
    if wish.end is None:
        raise RuntimeError("granian ended by itself") from serving.exception()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(wish.end.closing_seconds):
            await asgi.shutdown()


async def _until(holds: Callable[[], bool], wish: Wish, limit: str) -> None:
    """Wait until it holds, or the limit of the latest wish has passed."""
    while not holds() and not wish.passed(getattr(wish.end, limit)):
        await asyncio.sleep(LOOK_SECONDS)


def stop_accepting(listener: socket.socket, nobody: socket.socket) -> None:
    """Put a socket to which nobody connects in the place of the listening one, in this process alone.

    granian stops accepting only together with closing kept connections, and a connection that it has taken
    at that moment would be cut.
    """
    os.dup2(nobody.fileno(), listener.fileno(), inheritable=False)
    nobody.close()


def has_connections(address: Any) -> bool:
    """Whether this process has a connection that came in at the address; True where that cannot be seen."""
    try:
        descriptors = [int(path.name) for path in Path("/proc/self/fd").iterdir()]
    except OSError:
        return True
    return any(_came_in(descriptor, address) for descriptor in descriptors)


def _came_in(descriptor: int, address: Any) -> bool:
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return False
        with socket.socket(fileno=os.dup(descriptor)) as one:
            own = one.getsockname()
            is_same = (
                own[1] == address[1]
                if isinstance(own, tuple) and isinstance(address, tuple)
                else own == address
            )
            if is_same:
                one.getpeername()
            return is_same
    except OSError:  # It is gone, or listens.
        return False
