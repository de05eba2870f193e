"""A TCP proxy between the application and PostgreSQL that misbehaves when told to.

    with proxied(cluster.port) as proxy: Stage(home, cluster.url_by(proxy.port)); proxy.cut()

It runs in a thread of its own. `reset_in_commit()` is the worst a network can do to a write: the connection
is reset while a COMMIT is under way, in half of all cases before it reaches the server, in the other after.
"""

import asyncio
import contextlib
import random
import socket
import struct
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

CHUNK_BYTES = 65_536
COMMITS = (b"COMMIT",)


@dataclass
class Way:
    """How it treats traffic now. `hangs`: nothing is passed on, and nothing is closed."""

    hangs: bool = False
    refuses: bool = False
    delay_seconds: float = 0.0
    commit_share: float = 0.0  # of the commits, how many are reset


@dataclass
class Proxy:
    target: int
    seed: int = 0
    way: Way = field(default_factory=Way)
    resets: int = 0  # connections reset in the middle of a COMMIT
    resets_before: int = 0  # of those, so many before the server got it
    port: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self.loop = asyncio.new_event_loop()
        self.tasks: set[asyncio.Task[None]] = set()
        self.writers: weakref.WeakSet[asyncio.StreamWriter] = weakref.WeakSet()
        # The application's sides of connections whose other side is gone.
        self.half: list[asyncio.StreamWriter] = []
        self.ready = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    # --- told from outside ------------------------------------------------------------------------

    def pass_on(self) -> None:
        """Behave. Connections that were made to hang are let go, as a network would never be able to."""
        self._do(self._behave)

    def cut(self) -> None:
        """Close every connection, and accept no new one."""
        self._do(lambda: self._change(Way(refuses=True), close=self._close))

    def reset(self) -> None:
        """Reset every connection once; new ones are passed on."""
        self._do(lambda: self._change(Way(), close=self._reset))

    def black_hole(self) -> None:
        """Pass nothing on, in either direction, and close nothing; new connections hang too."""
        self._do(lambda: self._change(Way(hangs=True)))

    def half_open(self) -> None:
        """The server sees every connection end, the application does not; new ones are passed on."""
        self._do(self._close_upstream)

    def delay(self, seconds: float) -> None:
        """Pass everything on so much later, in each direction."""
        self._do(lambda: self._change(Way(delay_seconds=seconds)))

    def reset_in_commit(self, share: float) -> None:
        self._do(lambda: self._change(Way(commit_share=share)))

    def _do(self, work: Callable[[], None]) -> None:
        done = threading.Event()
        self.loop.call_soon_threadsafe(lambda: (work(), done.set()))
        assert done.wait(10)

    # --- in its thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        server = self.loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", self.port))
        self.port = server.sockets[0].getsockname()[1]
        self.ready.set()
        self.loop.run_forever()
        server.close()
        self.loop.run_until_complete(self._end())
        self.loop.close()

    async def _end(self) -> None:
        for writer in self.writers:
            reset(writer)
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await asyncio.sleep(0.01)  # Transports close in the next round of the loop.

    def _change(self, way: Way, close: Callable[..., None] | None = None) -> None:
        self.way = way
        for pair in list(self.pairs):
            if close is not None:
                close(pair)

    def _behave(self) -> None:
        # What was swallowed is gone: a connection that missed a part can only be closed.
        self._change(Way(), close=self._reset if self.way.hangs else None)

    def _close(self, pair: tuple[asyncio.StreamWriter, asyncio.StreamWriter]) -> None:
        for side in pair:
            side.close()

    def _reset(self, pair: tuple[asyncio.StreamWriter, asyncio.StreamWriter]) -> None:
        for side in pair:
            reset(side)

    def _close_upstream(self) -> None:
        self.way = Way()
        for pair in list(self.pairs):
            self.pairs.discard(pair)
            self.half.append(pair[0])
            reset(pair[1])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.writers.add(writer)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        if self.way.refuses:
            reset(writer)
            return
        while self.way.hangs:
            await asyncio.sleep(0.05)
        try:
            upstream = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            reset(writer)
            return
        self.writers.add(upstream[1])
        pair = writer, upstream[1]
        self.pairs.add(pair)
        back = asyncio.create_task(self._answers(upstream[0], pair))
        try:
            await self._requests(reader, pair)
        except asyncio.CancelledError:
            pass  # At the end; asyncio would print it.
        finally:
            if pair in self.pairs:
                self.pairs.discard(pair)
                self._close(pair)
            back.cancel()
            await asyncio.gather(back, return_exceptions=True)

    async def _requests(
        self, reader: asyncio.StreamReader, pair: tuple[asyncio.StreamWriter, asyncio.StreamWriter]
    ) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while data := await reader.read(CHUNK_BYTES):
                await self._later()
                if is_commit(data) and self.random.random() < self.way.commit_share:
                    self.resets += 1
                    if self.random.random() < 0.5:
                        self.resets_before += 1
                    else:
                        # The server has it; its answer finds nobody.
                        pair[1].write(data)
                        await pair[1].drain()
                    reset(pair[0])
                    await asyncio.sleep(0.2)
                    return
                pair[1].write(data)
                await pair[1].drain()

    async def _answers(
        self, reader: asyncio.StreamReader, pair: tuple[asyncio.StreamWriter, asyncio.StreamWriter]
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                await self._later()
                pair[0].write(data)
                await pair[0].drain()
            if pair in self.pairs:
                pair[0].close()

    async def _later(self) -> None:
        if self.way.delay_seconds:
            await asyncio.sleep(self.way.delay_seconds)
        while self.way.hangs:
            await asyncio.sleep(0.05)


def is_commit(data: bytes) -> bool:
    """Whether the message that these bytes end with commits a transaction: a simple query, or one parsed."""
    return any(mark in data[:64] for mark in COMMITS) and data[:1] in (b"Q", b"P")


def reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST in place of FIN."""
    found = writer.get_extra_info("socket")
    if found is not None:
        with contextlib.suppress(OSError):
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextlib.contextmanager
def proxied(target: int, seed: int = 0) -> Iterator[Proxy]:
    proxy = Proxy(target, seed)
    proxy.thread.start()
    assert proxy.ready.wait(10)
    try:
        yield proxy
    finally:
        proxy.loop.call_soon_threadsafe(proxy.loop.stop)
        proxy.thread.join(10)
