"""What a worker says of its present state, once a second: leases, pools, shares, how old what it knows is."""

import logging
import os
import time
from pathlib import Path
from typing import Literal

from django.db import connections
from prometheus_client import Gauge

from apperate.database import shares
from apperate.database.background import Background
from apperate.database.changes import changes
from apperate.database.outage import outage
from apperate.database.pool import pools
from apperate.observability import metrics
from tokens.gate import snapshots
from tokens.gate.leases import leases

SAMPLE_SECONDS = 1.0
logger = logging.getLogger("apperate.metrics")


def gauge(name: str, text: str, mode: Literal["livesum", "livemax", "livemin"], *labels: str) -> Gauge:
    """A figure of the workers together: the sum, the highest or the lowest."""
    return Gauge(f"apperate_{name}", text, labels, registry=metrics.REGISTRY, multiprocess_mode=mode)


WORKERS = gauge("workers", "Server processes that run.", "livesum")
MEMORY = gauge("workers_resident_bytes", "Memory of the server processes.", "livesum")
OPEN_FILES = gauge("worker_open_files", "Open files of the server process that has most.", "livemax")
LATE = gauge("worker_late_seconds", "How late the busiest event loop took its last sample.", "livemax")
POLLED_AT = gauge(
    "changes_polled_timestamp_seconds", "When the worker that is furthest behind heard of changes.", "livemin"
)
POLLED_AT.set(time.time())  # Until the first sample, which waits for the database.
SNAPSHOTS = gauge("snapshots", "Values of tokens kept in memory, over all workers.", "livesum")
AWAY = gauge("database_away", "1 while a worker gets no answer from the database.", "livemax")
LEASES = gauge("leases", "Leases that hold credits, over all workers.", "livesum")
LEASED = gauge("leased_credits", "Credits drawn and not yet spent.", "livesum")
POOL_SIZE = gauge("pool_connections", "Connections of the workers' pools.", "livesum", "pool")
POOL_USED = gauge("pool_connections_used", "Of these, in use.", "livesum", "pool")
POOL_WAITING = gauge("pool_requests_waiting", "Requests that wait for a connection.", "livesum", "pool")
PLACES_TAKEN = gauge("places_taken", "Fair shares in use.", "livesum", "kind")
PLACES_WAITING = gauge("places_waiting", "Requests that wait for their share.", "livesum", "kind")


class Sampling:
    """One per worker, in its event loop."""

    def __init__(self) -> None:
        self._last: float | None = None
        self._work = Background(
            "metrics", self.sample, every_seconds=SAMPLE_SECONDS, logger=logger, fault="no figures were taken"
        )

    async def ensure_started(self) -> None:
        if metrics.is_on and not self._work.is_running():
            self._last = None
            await self.sample()
            self._work.start()

    async def stop(self) -> None:
        await self._work.stop()

    async def sample(self) -> None:
        at = time.monotonic()
        if self._last is not None:
            LATE.set(max(0.0, at - self._last - SAMPLE_SECONDS))
        self._last = at
        WORKERS.set(1)
        MEMORY.set(resident_bytes())
        OPEN_FILES.set(len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0)
        POLLED_AT.set(time.time() - changes.silent_seconds(at=at))
        SNAPSHOTS.set(len(snapshots.cache))
        AWAY.set(int(outage.is_on))
        held, credits = leases.totals()
        LEASES.set(held)
        LEASED.set(credits)
        for name, share in shares.KINDS.items():
            PLACES_TAKEN.labels(name).set(share.taken)
            PLACES_WAITING.labels(name).set(share.waiting)
        for name, stats in pool_stats().items():
            size = stats.get("pool_size", 0)
            POOL_SIZE.labels(name).set(size)
            POOL_USED.labels(name).set(size - stats.get("pool_available", 0))
            POOL_WAITING.labels(name).set(stats.get("requests_waiting", 0))


def pool_stats() -> dict[str, dict[str, int]]:
    """psycopg's figures of each pool of this worker, that of the pages included, by name."""
    found = pools.stats()
    # What `.pool` would answer with, but without making one.
    made = connections["default"]._connection_pools  # type: ignore[attr-defined]  # Not in the stubs.
    if "default" in made:
        found["pages"] = made["default"].get_stats()
    return found


def resident_bytes() -> int:
    """The memory of this process; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


sampling = Sampling()
