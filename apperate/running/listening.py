"""Where the server listens, and that nobody else does: neither on its port nor with its data.

hold(host, port) -> Held              raises ImproperlyConfigured when the port is taken
the_only_one(data_dir, url) -> None   a context; raises ImproperlyConfigured that names who runs already
"""

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

RUNNING_FILE = ".running"


@dataclass(frozen=True, slots=True)
class Held:
    """A numeric address, and the socket that keeps it from others as long as it is open."""

    address: str
    socket: socket.socket


def hold(host: str, port: int) -> Held:
    """Bind the address for the server, which shares it between its workers and would share it with anybody.

    The socket is bound alone, so that of two who start at the same moment only one has it, and lets the
    server's sockets beside it after that. It never listens.
    """
    try:
        family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        raise ImproperlyConfigured(f"HOST={host!r} is not an address or name of this machine.") from None
    holder = socket.socket(family, socket.SOCK_STREAM)
    # What an earlier server has just left may still be closing.
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        holder.bind(where)
    except OSError as error:
        holder.close()
        reasons = {
            errno.EADDRINUSE: f"PORT={port} is in use on {host}: stop the other program, or set PORT.",
            errno.EACCES: f"PORT={port} may be opened by root only: set PORT to 1024 or higher.",
        }
        default = f"HOST={host} cannot be listened on: {error.strerror}."
        raise ImproperlyConfigured(reasons.get(error.errno or 0, default)) from None
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return Held(str(where[0]), holder)


@contextmanager
def the_only_one(data_dir: Path, url: str) -> Iterator[None]:
    """Run alone on a data directory. The lock goes with the process, however it ends."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with open(data_dir / RUNNING_FILE, "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            who = file.read().strip() or "another process"
            raise ImproperlyConfigured(
                f"Apperate runs on {data_dir} already ({who}): stop it, or set APPERATE_DATA_DIR."
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()}, {url}\n")
        file.flush()
        yield
