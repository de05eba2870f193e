"""Clients that never finish what they began, many at once, after the three ways of slowhttptest."""

import contextlib
import select
import socket
import threading
from collections.abc import Callable, Iterator

from tests.support.installation import Demo

CONNECTIONS = 200
# A slow client sends its next byte after this many seconds.
PAUSE_SECONDS = 0.5


def headers(demo: Demo) -> bytes:
    """A head whose end never comes."""
    return f"GET /v1/data/DEMO/STOCKS HTTP/1.1\r\nHost: 127.0.0.1:{demo.port}\r\nX-Slow: ".encode()


def body(demo: Demo) -> bytes:
    """A write that announces more than it sends."""
    return (
        f"POST /v1/record/DEMO/STOCKS?token={demo.facts['secret_token']} HTTP/1.1\r\n"
        f"Host: 127.0.0.1:{demo.port}\r\nContent-Length: 1000000\r\n\r\n["
    ).encode()


def page_body(demo: Demo) -> bytes:
    """A form of the dashboard that announces more than it sends."""
    return (
        f"POST /account/login/ HTTP/1.1\r\nHost: 127.0.0.1:{demo.port}\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 100000\r\n\r\na="
    ).encode()


def answer(demo: Demo) -> bytes:
    """A long answer that is not read."""
    return (
        f"GET /v1/data/DEMO/STOCKS?last=5000&token={demo.facts['publishable_token']} HTTP/1.1\r\n"
        f"Host: 127.0.0.1:{demo.port}\r\n\r\n"
    ).encode()


KINDS: dict[str, Callable[[Demo], bytes]] = {
    "send a head slowly": headers,
    "send records slowly": body,
    "send a form slowly": page_body,
    "do not read an answer": answer,
}


class Slow:
    """Connections of one kind; a thread sends each another byte now and then.

    Readers are at hand when the first byte of each answer has come: what is measured then is that the rest is
    not taken, and not the work of 200 answers.
    """

    def __init__(self, demo: Demo, kind: str) -> None:
        self.sends = KINDS[kind] is not answer
        self.ended = threading.Event()
        self.wires = []
        for _ in range(CONNECTIONS):
            wire = socket.socket()
            # A small window: the answer stays with the server.
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            wire.settimeout(5)
            wire.connect(("127.0.0.1", demo.port))
            wire.sendall(KINDS[kind](demo))
            self.wires.append(wire)
        if not self.sends:
            for wire in self.wires:
                assert select.select([wire], [], [], 30)[0], "an answer did not begin"
        self.thread = threading.Thread(target=self.trickle)
        self.thread.start()

    def trickle(self) -> None:
        while self.sends and not self.ended.wait(PAUSE_SECONDS):
            for wire in self.wires:
                with contextlib.suppress(OSError):
                    wire.send(b"a")

    def alive(self) -> list[socket.socket]:
        """Those that the server has not given up; one with unread bytes has not been."""
        return [wire for wire in self.wires if self.is_open(wire)]

    def is_open(self, wire: socket.socket) -> bool:
        wire.setblocking(False)
        try:
            return bool(wire.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return True
        except OSError:
            return False
        finally:
            wire.settimeout(5)

    def end(self) -> None:
        self.ended.set()
        self.thread.join()
        for wire in self.wires:
            wire.close()


@contextlib.contextmanager
def held(demo: Demo, kind: str) -> Iterator[Slow]:
    slow = Slow(demo, kind)
    try:
        yield slow
    finally:
        slow.end()


def probe(demo: Demo) -> int | None:
    """The status of an ordinary read on a connection of its own; None after 5 s without an answer."""
    return demo.status(f"/v1/data/DEMO/STOCKS/AAPL?token={demo.facts['publishable_token']}")
