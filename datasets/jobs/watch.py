"""Publishes a job's progress and receives its cancellation.

Nobody can see into the transaction that stores the job's records, so a thread with a connection of its own
writes the progress about once a second. The same statement returns whether the job should stop; if so, the
job's current statement is cancelled too.
"""

import logging
import threading
from typing import Any

import psycopg
from django.db import connection

from apperate.database.pool import connection_arguments
from datasets.files.file_text import Position
from datasets.models import IngestJob

TELL_SECONDS = 1.0
JOIN_SECONDS_MAX = 10.0
_PUBLISH = """
    UPDATE datasets_ingestjob
       SET rows_done = %(rows)s, bytes_done = %(bytes)s, status = %(status)s, last_good_status = %(status)s
     WHERE id = %(id)s AND run_number = %(run)s AND status IN ('VALIDATING', 'PROCESSING')
       AND cancel_requested_at IS NULL
    RETURNING id"""
logger = logging.getLogger("apperate.jobs")


class Stopped(Exception):
    """The job should stop: somebody cancelled it, or another worker has taken it over."""


class Watch:
    """The thread beside one run of a job; it publishes `phase` and `rows`."""

    def __init__(self, job: IngestJob) -> None:
        self.phase: str = IngestJob.Status.VALIDATING
        self.rows = 0
        self.position = Position()
        self.is_stopped = False
        self._facts = {"id": job.pk, "run": job.run_number}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"watch of {job.public_id}", daemon=True)
        self._connection: Any = None

    def __enter__(self) -> "Watch":
        connection.ensure_connection()
        self._connection = connection.connection
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Publish nothing more: the job itself writes its final state next."""
        self._done.set()
        if self._thread.is_alive():
            self._thread.join(JOIN_SECONDS_MAX)

    def check(self) -> None:
        """Raises Stopped when the job should stop."""
        if self.is_stopped:
            raise Stopped

    def _run(self) -> None:
        """Runs until the end; an unreachable database is retried, and the job itself notices the failure."""
        while not self._done.is_set():
            try:
                with psycopg.connect(**connection_arguments()) as connected:
                    connected.execute("SET lock_timeout = '2s'; SET statement_timeout = '5s'")
                    while not self._done.is_set():
                        if not self._publish(connected):
                            return
                        self._done.wait(TELL_SECONDS)
            except psycopg.Error as error:
                logger.warning("progress was not told error=%s", type(error).__name__)
                self._done.wait(TELL_SECONDS)

    def _publish(self, connected: "psycopg.Connection[Any]") -> bool:
        """Publish the progress; False when the job should stop, after cancelling its statement."""
        facts = {"rows": self.rows, "bytes": self.position.bytes, "status": str(self.phase)}
        if connected.execute(_PUBLISH, self._facts | facts).fetchone() is not None:
            return True
        self.is_stopped = True
        if not self._done.is_set():
            self._connection.cancel()
        return False
