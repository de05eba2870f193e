"""When the database is unreachable: which errors mean that, and how often it is logged.

UNAVAILABLE           what a lost, silent or overloaded database raises
outage.note(error)    logs the first one with its cause, then one line a minute with their number
outage.over()         logs once that the database answers again
"""

import logging
import time

import psycopg
from django.db import InterfaceError, OperationalError
from psycopg_pool import PoolTimeout

# psycopg's and Django's names for the same errors: which one is raised depends on the connection that was
# used. Each of them becomes 503 with Retry-After.
UNAVAILABLE = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    PoolTimeout,
    OperationalError,
    InterfaceError,
)
LOGGED_AGAIN_SECONDS = 60.0
CAUSE_CHARS_MAX = 300
logger = logging.getLogger("apperate.database")


class Outage:
    """What this process has seen since the database went."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._logged_at = 0.0
        self._count = 0

    @property
    def is_on(self) -> bool:
        return self._since is not None

    def note(self, error: BaseException, *, at: float | None = None) -> None:
        at = time.monotonic() if at is None else at
        self._count += 1
        if self._since is None:
            self._since = self._logged_at = at
            logger.warning("the database does not answer %s", _cause(error))
        elif at - self._logged_at >= LOGGED_AGAIN_SECONDS:
            self._logged_at = at
            logger.warning(
                "the database still does not answer seconds=%d failed=%d %s",
                at - self._since, self._count, _cause(error),
            )  # fmt: skip

    def over(self, *, at: float | None = None) -> None:
        """Called whenever the database has answered; does nothing when it was never away."""
        if self._since is None:
            return
        at = time.monotonic() if at is None else at
        logger.warning("the database answers again seconds=%d failed=%d", at - self._since, self._count)
        self._since, self._count = None, 0


outage = Outage()


def _cause(error: BaseException) -> str:
    """Its class, and the first line of the driver's message, which names the address, never a password."""
    lines = str(error).splitlines()
    said = lines[0] if lines else "nothing was said"
    return f"error={type(error).__name__} cause={said[:CAUSE_CHARS_MAX]}"
