"""Runs granian with the limits of this project: `python -m apperate.running.server ADDRESS PORT WORKERS`.

The workers serve `apperate.asgi:application`. There is no access log: a URL may hold a token.
"""

import signal
import sys
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any

from granian._internal import load_target
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server import MPServer

from apperate.running.supervisor import die_with_parent

APPLICATION = "apperate.asgi:application"
# Enough for the longest target and headers that the data plane answers itself; granian refuses longer ones.
HEAD_BYTES_MAX = 131_072
HEAD_MILLISECONDS_MAX = 10_000
BACKLOG = 2048
STOP_SECONDS_MAX = 15
RESPAWN_SECONDS = 0.5
# This many deaths of one worker within 5.5 s are a fault that a restart does not cure.
DEATHS_MAX = 4
_main_server: MPServer | None = None


class RespawnTimes(dict[int, float]):
    """When each worker was last started, as reported to granian.

    granian exits when a worker dies within 5.5 s of its last start. A worker that is killed twice must not
    take the others with it, so granian gets the time of the start DEATHS_MAX starts ago.
    """

    def __init__(self) -> None:
        super().__init__()
        self._starts: dict[int, deque[float]] = defaultdict(lambda: deque(maxlen=DEATHS_MAX))

    def __setitem__(self, worker: int, started_at: float) -> None:
        self._starts[worker].append(started_at)

    def get(self, worker: int, default: Any = 0) -> Any:
        starts = self._starts[worker]
        return starts[0] if len(starts) == DEATHS_MAX else default

    def clear(self) -> None:
        """Keep the times: granian clears them at every respawn."""


def load_application(target: str) -> Callable[..., Any]:
    """Load the application in a worker, which from then on ends with granian's main process.

    A worker is a fork, and until it serves it handles signals like the main process, by only recording them:
    a stop signal during loading would be lost.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    if _main_server is not None and _main_server.interrupt_signal:
        sys.exit(0)
    die_with_parent()
    return load_target(target)


def serve(address: str, port: int, workers: int) -> None:
    """Serve until SIGTERM or SIGINT; requests in progress are finished."""
    server = MPServer(
        APPLICATION,
        address=address,
        port=port,
        workers=workers,
        interface=Interfaces.ASGI,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(
            header_read_timeout=HEAD_MILLISECONDS_MAX, max_buffer_size=HEAD_BYTES_MAX
        ),
        websockets=False,
        backlog=BACKLOG,
        log_level=LogLevels.warning,
        log_access=False,
        respawn_failed_workers=True,
        respawn_interval=RESPAWN_SECONDS,
        workers_kill_timeout=STOP_SECONDS_MAX,
    )
    global _main_server
    _main_server = server
    server.respawned_wrks = RespawnTimes()
    server.serve(target_loader=load_application)


if __name__ == "__main__":
    # Workers import the loader by name, so it must not belong to __main__.
    from apperate.running import server as importable

    importable.serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
