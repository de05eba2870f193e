"""The proxy does to a connection what it says, and nothing when it behaves."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.support.installation import until
from tests.torture.external.proxy import Proxy, is_commit, proxied


class Echo:
    """A server that sends back what it gets, and remembers it."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.got = b""
        self.ended = 0
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        with suppress(OSError):
            while True:
                wire, _ = self.socket.accept()
                threading.Thread(target=self.echo, args=(wire,), daemon=True).start()

    def echo(self, wire: socket.socket) -> None:
        with wire, suppress(OSError):
            while data := wire.recv(1_000):
                self.got += data
                wire.sendall(data)
        self.ended += 1


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.socket.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    with proxied(echo.port) as proxy:
        yield proxy


def connect(proxy: Proxy, seconds: float = 5) -> socket.socket:
    wire = socket.create_connection(("127.0.0.1", proxy.port), timeout=seconds)
    wire.sendall(b"hello")
    assert wire.recv(100) == b"hello"
    return wire


def test_what_is_cut_ends_and_nothing_new_is_let_in_until_it_behaves(proxy: Proxy) -> None:
    with connect(proxy) as wire:
        proxy.cut()

        assert wire.recv(100) == b""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as new, suppress(ConnectionError):
        new.sendall(b"hello")
        assert new.recv(100) == b""
    proxy.pass_on()
    connect(proxy).close()


def test_a_reset_connection_is_reset_and_the_next_is_passed_on(proxy: Proxy) -> None:
    with connect(proxy) as wire:
        proxy.reset()

        with pytest.raises(ConnectionResetError):
            wire.recv(100)
    connect(proxy).close()


def test_a_black_hole_swallows_and_closes_nothing(proxy: Proxy, echo: Echo) -> None:
    with connect(proxy) as wire:
        proxy.black_hole()
        wire.sendall(b"lost")
        wire.settimeout(0.3)

        with pytest.raises(TimeoutError):
            wire.recv(100)
        assert echo.got == b"hello"
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=0.3) as new:
            new.sendall(b"hello")
            with pytest.raises(TimeoutError):
                new.recv(100)


def test_a_half_open_connection_has_ended_for_the_server_alone(proxy: Proxy, echo: Echo) -> None:
    with connect(proxy) as wire:
        proxy.half_open()

        until(lambda: echo.ended == 1)
        wire.settimeout(0.2)
        with pytest.raises(TimeoutError):
            wire.recv(100)
    connect(proxy).close()


def test_a_delay_is_added_to_each_direction(proxy: Proxy) -> None:
    with connect(proxy) as wire:
        proxy.delay(0.2)
        began = time.monotonic()
        wire.sendall(b"again")

        assert wire.recv(100) == b"again"
        assert time.monotonic() - began >= 0.4


def test_a_commit_is_reset_before_or_after_the_server_got_it(proxy: Proxy, echo: Echo) -> None:
    commit = b"Q\0\0\0\x0bCOMMIT\0"
    proxy.reset_in_commit(1.0)
    for _ in range(12):
        with connect(proxy) as wire:
            wire.sendall(commit)
            with pytest.raises(ConnectionResetError):
                wire.recv(100)

    assert proxy.resets == 12
    assert 0 < proxy.resets_before < 12
    until(lambda: echo.got.count(commit) == 12 - proxy.resets_before)


@pytest.mark.parametrize(
    ("data", "commits"),
    [
        (b"Q\0\0\0\x0bCOMMIT\0", True),
        (b"P\0\0\0\x0f\0COMMIT\0\0\0", True),
        (b"Q\0\0\0\x0aBEGIN\0", False),
        (b"D\0\0\0\x0bCOMMIT\0", False),
    ],
)
def test_a_commit_is_known_by_its_message(data: bytes, commits: bool) -> None:
    assert is_commit(data) is commits
