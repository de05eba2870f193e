"""E-F2, E-N2: what the workers cannot take is refused, and does not wait for who hoards connections."""

import resource
import socket
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest

from apperate.running import listening
from apperate.running.door import CONNECTIONS_MAX, LOOKS_MAX, OPEN_MAX, Door, connections_max, queue_length
from tests.support.installation import ROOT, free_port

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how long a queue is")


def look(door: Door, times: int, *, workers_run: bool = True) -> None:
    for _ in range(times):
        door.look(workers_run=workers_run)


def test_what_has_waited_too_long_gets_its_503_though_it_was_still_sending() -> None:
    with closing(listening.hold("127.0.0.1", free_port(), 1)) as held:
        held.listen()
        (listener,) = held.sockets
        door = Door(held.sockets)
        clients = [socket.create_connection(listener.getsockname(), timeout=30) for _ in range(OPEN_MAX + 3)]
        for client in clients:
            client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + b" " * 50_000)

        look(door, LOOKS_MAX)
        assert queue_length(listener) == len(clients), "somebody was refused who has only just come"
        look(door, 1)
        assert queue_length(listener) == 3, "more are open at a time than the descriptors allow"
        answers = []
        for client in clients:
            while not (said := _read(client)):
                time.sleep(0.01)
                look(door, 1)
            answers.append(said)
            client.close()
        door.close()

    assert all(
        answer.startswith(b"HTTP/1.1 503 ") and b"\r\nRetry-After: 2\r\n" in answer for answer in answers
    )
    assert all(answer.endswith(b"\r\n\r\nThe server has too many connections.\r\n") for answer in answers)


def _read(client: socket.socket) -> bytes:
    client.settimeout(0.01)
    with suppress(TimeoutError):
        return client.recv(1000)
    return b""


def test_nobody_is_refused_while_a_worker_starts_or_the_queue_moves() -> None:
    with closing(listening.hold("127.0.0.1", free_port(), 1)) as held:
        held.listen()
        (listener,) = held.sockets
        door = Door(held.sockets)
        with closing(socket.create_connection(listener.getsockname(), timeout=30)):
            look(door, 3 * LOOKS_MAX, workers_run=False)
            look(door, LOOKS_MAX)
            listener.accept()[0].close()
            look(door, 1)
        with closing(socket.create_connection(listener.getsockname(), timeout=30)):
            look(door, LOOKS_MAX)

            assert queue_length(listener) == 1


def test_a_worker_takes_no_more_connections_than_its_descriptors_allow() -> None:
    """With `ulimit -n 64`, accepting would fail again and again, without a pause."""
    code = "from apperate.running.door import connections_max; print(connections_max())"

    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(ROOT),
        preexec_fn=few,
        capture_output=True,
        text=True,
        check=True,
    )

    assert int(done.stdout) == 21
    assert connections_max() <= CONNECTIONS_MAX
