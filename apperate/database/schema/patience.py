"""How a migration waits for tables beside running servers: not long at a time, and again and again.

    Patience(connection, say)      patience(work) runs the work; whoever stands in its way is waited out

While a statement waits for a table, nobody else gets at it either. So it gives up before a request would,
lets the requests in between through, and comes back.
"""

import time
from collections.abc import Callable
from typing import Any

from django.core.management.base import CommandError
from django.db import OperationalError
from psycopg import errors

# A request waits 0.8 to 1 s for a connection, so those behind a waiting migration must not use them all up.
WAIT_MILLISECONDS, WAIT_MILLISECONDS_MAX = 200, 800
PAUSE_SECONDS, PAUSE_SECONDS_MAX = 0.2, 5.0
GIVE_UP_SECONDS = 300.0
IN_THE_WAY = (errors.LockNotAvailable, errors.DeadlockDetected)


class Patience:
    def __init__(self, connection: Any, say: Callable[[str], object]) -> None:
        self.connection = connection
        self.say = say
        self.name = "migrate"  # what is being done, for messages
        self.deadline = time.monotonic() + GIVE_UP_SECONDS

    def __call__(self, work: Callable[[], object]) -> None:
        """Run it until no lock stops it. Raises CommandError after GIVE_UP_SECONDS in all."""
        wait, pause = float(WAIT_MILLISECONDS), PAUSE_SECONDS
        while True:
            self.limit("lock_timeout", int(wait))
            try:
                work()
                return
            except OperationalError as error:
                if not isinstance(error.__cause__, IN_THE_WAY):
                    raise
                if time.monotonic() + pause > self.deadline:
                    raise CommandError(
                        f"{self.name} found no moment without others in {GIVE_UP_SECONDS:.0f} s."
                        f"{self.oldest()} Run `manage.py migrate` again later: what is done stays done."
                    ) from error
                self.say(f"{self.name} waits for others.{self.oldest()} It is tried again in {pause:.1f} s.")
            time.sleep(pause)
            wait, pause = min(1.5 * wait, WAIT_MILLISECONDS_MAX), min(2 * pause, PAUSE_SECONDS_MAX)

    def limit(self, name: str, milliseconds: int) -> None:
        """Set a time limit of this session."""
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT set_config(%s, %s, false)", [name, f"{milliseconds}ms"])

    def oldest(self) -> str:
        """Who has a transaction open for longest, if this role may see it; never what it asks."""
        with self.connection.cursor() as cursor:
            cursor.execute(
                """SELECT pid, coalesce(nullif(application_name, ''), 'no name'), usename,
                          extract(epoch FROM clock_timestamp() - xact_start)::bigint
                     FROM pg_stat_activity
                    WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL
                    ORDER BY xact_start LIMIT 1"""
            )
            row = cursor.fetchone()
        if row is None:
            return ""
        return " The oldest transaction: process {} ({}, role {}), open for {} s.".format(*row)
