"""What Prometheus reads: the figures of all processes together, and what the database and the disks say.

text() -> bytes      in Prometheus's text format 0.0.4; what cannot be asked is left out

The database is asked at most once in DATABASE_SECONDS, and for its size once in SIZE_SECONDS, however often
and by however many this is read.
"""

import platform
import threading
import time
from collections.abc import Iterator

from django.conf import settings
from django.db import connection
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector

from apperate.database import disk
from apperate.database.outage import UNAVAILABLE
from apperate.kernel.version import VERSION
from apperate.observability import places

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
DATABASE_SECONDS = 5.0
SIZE_SECONDS = 300.0
HEARTBEAT_SECONDS_MAX = 30
# A row per queue: how many tasks wait that could run now, how many run, and how long the oldest has waited.
QUEUES = """
SELECT j.queue_name, count(*) FILTER (WHERE j.status = 'todo'), count(*) FILTER (WHERE j.status = 'doing'),
       coalesce(extract(epoch FROM now() - min(greatest(e.at, coalesce(j.scheduled_at, e.at)))
                FILTER (WHERE j.status = 'todo')), 0)::float
  FROM procrastinate_jobs j
  LEFT JOIN procrastinate_events e ON e.job_id = j.id AND e.type = 'deferred'
 WHERE j.status IN ('todo', 'doing') AND (j.scheduled_at IS NULL OR j.scheduled_at <= now())
 GROUP BY j.queue_name ORDER BY j.queue_name
"""
# One row.
JOB_WORKERS = """
SELECT count(*) FROM procrastinate_workers WHERE last_heartbeat > now() - make_interval(secs => %s)
"""
FAILED = "SELECT count(*) FROM procrastinate_jobs WHERE status = 'failed'"


def text() -> bytes:
    registry = CollectorRegistry(auto_describe=False)
    if settings.METRICS_DIR.is_dir():
        places.clear_gone(settings.METRICS_DIR)
        MultiProcessCollector(registry, path=str(settings.METRICS_DIR))
    registry.register(installation)
    return generate_latest(registry)


class Installation:
    """What is true of the whole installation and not of one process."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._said: list[Metric] = []
        self._asked_at = self._size_at = -float("inf")
        self._size = 0

    def describe(self) -> Iterator[Metric]:
        """Nothing: the library would else collect, and ask the database, when this is registered."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        built = GaugeMetricFamily(
            "apperate_build_info", "The version that runs; always 1.", labels=("version", "python")
        )
        built.add_metric((VERSION, platform.python_version()), 1)
        yield built
        yield from self._disks()
        with self._turn:
            if time.monotonic() - self._asked_at >= DATABASE_SECONDS:
                self._said = self._ask()
                self._asked_at = time.monotonic()
            yield from self._said

    def _disks(self) -> Iterator[Metric]:
        free = GaugeMetricFamily("apperate_disk_free_bytes", "Free on the disk that has least.")
        kept = GaugeMetricFamily("apperate_disk_reserve_bytes", "Of it, what writes may not use.")
        least = min(disk.disks(), key=lambda one: one.free_bytes - one.reserve_bytes)
        free.add_metric((), least.free_bytes)
        kept.add_metric((), least.reserve_bytes)
        yield from (free, kept)

    def _ask(self) -> list[Metric]:
        up = GaugeMetricFamily("apperate_database_up", "Whether the database answered just now.")
        try:
            found = list(self._database())
        except UNAVAILABLE:
            up.add_metric((), 0)
            return [up]
        finally:
            connection.close()  # It may be a thread's that is not seen again.
        up.add_metric((), 1)
        return [up, *found]

    def _database(self) -> Iterator[Metric]:
        waiting = GaugeMetricFamily("apperate_queue_waiting", "Tasks that wait.", labels=("queue",))
        running = GaugeMetricFamily("apperate_queue_running", "Tasks that run.", labels=("queue",))
        oldest = GaugeMetricFamily(
            "apperate_queue_oldest_seconds", "How long the oldest waits.", labels=("queue",)
        )
        with connection.cursor() as cursor:
            cursor.execute(QUEUES)
            for name, todo, doing, seconds in cursor.fetchall():
                waiting.add_metric((name,), todo)
                running.add_metric((name,), doing)
                oldest.add_metric((name,), seconds)
            yield from (waiting, running, oldest)
            for name, words, statement, values in (
                ("apperate_job_workers", "Background workers that are alive.", JOB_WORKERS,
                 [HEARTBEAT_SECONDS_MAX]),
                ("apperate_queue_failed", "Tasks that failed and are kept for a day.", FAILED, []),
            ):  # fmt: skip
                cursor.execute(statement, values)
                yield GaugeMetricFamily(name, words, value=cursor.fetchone()[0])
            if time.monotonic() - self._size_at >= SIZE_SECONDS:
                cursor.execute("SELECT pg_database_size(current_database())")
                self._size, self._size_at = cursor.fetchone()[0], time.monotonic()
            yield GaugeMetricFamily("apperate_database_bytes", "Size of the database.", value=self._size)


installation = Installation()
