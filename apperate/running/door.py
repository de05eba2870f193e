"""Refuses connections that the workers cannot take: each holds as many as its descriptors allow.

    connections_max() -> int      of one worker, from its limit of descriptors
    Door(listeners).look()        called each tick; answers 503 to what has waited too long

Beyond its number granian leaves connections in the queue of the socket, where clients would wait for as long
as others hold theirs. Only Linux tells how long a queue is; elsewhere, and on a Unix socket, they wait.
"""

import contextlib
import resource
import socket
import struct
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

CONNECTIONS_MAX = 1024
# What a worker needs for itself: connections of the database, files of requests.
OWN_DESCRIPTORS = 80
# A queue that was never empty for so many looks is not merely busy.
LOOKS_MAX = 20
# How many refused connections are open at a time, and for how long: until the client has sent nothing for a
# moment, or for so long in all.
OPEN_MAX = 32
QUIET_SECONDS, OPEN_SECONDS = 0.2, 2.0
ANSWER = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nConnection: close\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: 38\r\n\r\n"
    b"The server has too many connections.\r\n"
)
# In struct tcp_info the queue of a listening socket is what of others is unacknowledged.
QUEUE = struct.Struct("24x I")


def connections_max() -> int:
    """How many connections a worker takes; the limit of descriptors is raised as far as it may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS_MAX + OWN_DESCRIPTORS
    if soft < wanted and soft != resource.RLIM_INFINITY:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return CONNECTIONS_MAX
    return min(CONNECTIONS_MAX, max(soft - OWN_DESCRIPTORS, soft // 3))


@dataclass(slots=True)
class Refused:
    """A connection that got its answer, and when it did and last sent something."""

    socket: socket.socket
    since: float
    heard_at: float


class Door:
    def __init__(self, listeners: Sequence[socket.socket]) -> None:
        self._full = dict.fromkeys(listeners, 0)  # for how many looks there has been a queue
        self._refused: list[Refused] = []

    def look(self, *, workers_run: bool) -> None:
        """While a worker is started again its connections may wait."""
        self._let_go()
        for listener, looks in self._full.items():
            waiting = queue_length(listener) if workers_run else 0
            self._full[listener] = looks + 1 if waiting else 0
            if looks >= LOOKS_MAX:
                for _ in range(min(waiting, OPEN_MAX - len(self._refused))):
                    self._refuse(listener)

    def close(self) -> None:
        for one in self._refused:
            one.socket.close()

    def _refuse(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):  # The worker was first, or the client is gone.
            one, _ = listener.accept()
            one.setblocking(False)
            self._refused.append(Refused(one, time.monotonic(), time.monotonic()))
            one.send(ANSWER)
            one.shutdown(socket.SHUT_WR)

    def _let_go(self) -> None:
        """Read what a refused client still sends: closing before would take the answer from it."""
        kept = []
        for one in self._refused:
            now = time.monotonic()
            try:
                is_open = bool(one.socket.recv(65_536))
                one.heard_at = now
            except BlockingIOError:
                is_open = now - one.heard_at < QUIET_SECONDS
            except OSError:
                is_open = False
            if is_open and now - one.since < OPEN_SECONDS:
                kept.append(one)
            else:
                one.socket.close()
        self._refused = kept


def queue_length(listener: socket.socket) -> int:
    """How many connections wait to be accepted; 0 where nobody tells."""
    if sys.platform != "linux" or listener.family == socket.AF_UNIX:
        return 0
    length: int = QUEUE.unpack(listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, QUEUE.size))[0]
    return length
