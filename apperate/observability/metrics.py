"""The figures of this process: what is counted, and the functions that count. Docs: docs/operating.md.

    request(plane=, method=, status=, seconds=, code=)     one that was answered
    records(count, way=)                                   records that were stored
    job(kind=, status=, seconds=, invalid=)                one that ended

Nothing is counted unless `manage.py up` was told to publish it. No label holds anything that a caller
chooses: no token, no dataset, no path.
"""

import logging
import os
from functools import cache
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Histogram, values
from prometheus_client.values import MultiProcessValue

from apperate.kernel.refusals import REFUSALS
from apperate.observability import places

METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
logger = logging.getLogger("apperate.metrics")


def _share(folder: str) -> bool:
    """Keep the figures where all processes of the installation do; whether it can be done."""
    held: tuple[int, int] = (os.getpid(), places.take(Path(folder)))

    def place() -> str:
        """Asked before each figure, so that the child of a fork does not write over its parent's."""
        nonlocal held
        if held[0] != os.getpid():
            held = (os.getpid(), places.take(Path(folder)))
        return str(held[1])

    os.environ.update(PROMETHEUS_MULTIPROC_DIR=folder)  # Where the library looks for it.
    values.ValueClass = MultiProcessValue(process_identifier=place)
    return True


def _begin() -> bool:
    folder = os.environ.get(places.FOLDER_VARIABLE, "")
    try:
        return bool(folder) and _share(folder)
    except OSError as error:
        logger.warning("no figures are kept by this process: %s", error)
        return False


# Before the first figure is made, which chooses where it is kept.
is_on = _begin()
REGISTRY = CollectorRegistry()
REQUESTS = Counter(
    "apperate_requests", "Requests answered, by plane (api, pages, static, health), method and status.",
    ("plane", "method", "status"), registry=REGISTRY,
)  # fmt: skip
REFUSED = Counter("apperate_refusals", "Refusals of the API by code.", ("code",), registry=REGISTRY)
SECONDS = Histogram(
    "apperate_request_seconds", "Seconds until an answer was ready: API read, API write, page.",
    ("kind",), registry=REGISTRY, buckets=BUCKETS,
)  # fmt: skip
RECORDS = Counter(
    "apperate_records_stored", "Records stored, by request or job.", ("way",), registry=REGISTRY
)
JOBS = Counter(
    "apperate_jobs_ended", "Jobs ended, by kind and status.", ("kind", "status"), registry=REGISTRY
)
JOB_SECONDS = Histogram(
    "apperate_job_seconds", "Seconds that a job ran.", ("kind",), registry=REGISTRY,
    buckets=(0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1_800.0, 7_200.0),
)  # fmt: skip
INVALID = Counter("apperate_lines_invalid", "Lines of files that did not fit the schema.", registry=REGISTRY)


@cache
def _requests(plane: str, method: str, status: int) -> Counter:
    return REQUESTS.labels(plane, method, f"{status}xx")


@cache
def _seconds(kind: str) -> Histogram:
    return SECONDS.labels(kind)


def request(*, plane: str, method: str | None, status: int, seconds: float, code: str = "") -> None:
    """Count an answer. `code`: that of the refusal, if it is one."""
    if not is_on:
        return
    method = method if method in METHODS else "other"
    _requests(plane, method, status // 100).inc()
    if plane == "api":
        _seconds("read" if method in SAFE else "write").observe(seconds)
    elif plane == "pages":
        _seconds("page").observe(seconds)
    if code in REFUSALS:
        REFUSED.labels(code).inc()


def records(count: int, *, way: str) -> None:
    if is_on and count > 0:
        RECORDS.labels(way).inc(count)


def job(*, kind: str, status: str, seconds: float, invalid: int) -> None:
    if is_on:
        JOBS.labels(kind.lower(), status.lower()).inc()
        JOB_SECONDS.labels(kind.lower()).observe(seconds)
        INVALID.inc(invalid)
