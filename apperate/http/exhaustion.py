"""A worker that can start no thread any more can serve nothing more: it ends, and another takes its place.

    note(error) -> bool      whether an error says so; the third one within a minute ends the process

One that is short of memory for a moment recovers by itself; one that stays so answered half of all requests
with 500 until somebody looked.
"""

import logging
import os
import signal
import time
from collections import deque

ERRORS_MAX = 3
WINDOW_SECONDS = 60.0
logger = logging.getLogger("apperate.worker")
_seen: deque[float] = deque(maxlen=ERRORS_MAX)


def note(error: BaseException, *, at: float | None = None) -> bool:
    if not (isinstance(error, RuntimeError) and "can't start new thread" in str(error)):
        return False
    at = time.monotonic() if at is None else at
    _seen.append(at)
    if len(_seen) == ERRORS_MAX and at - _seen[0] < WINDOW_SECONDS:
        logger.error("this worker can start no thread and ends; another one takes its place")
        os.kill(os.getpid(), signal.SIGTERM)
    return True
