"""Ingestion jobs: whole or not at all, run by the real worker, every invalid line told with its reason."""

import csv
import errno
import gzip
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest
from django.conf import LazySettings
from django.db import InterfaceError, OperationalError, connection, connections
from django.db.models import F
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob

from apperate.database.clock import database_now
from apperate.database.outage import UNAVAILABLE
from apperate.database.pool import connection_arguments
from apperate.kernel.refusals import Refusal
from datasets.api import job_documents
from datasets.jobs import making, queue
from datasets.jobs import run as job_run
from datasets.jobs.run import run
from datasets.models import Dataset, IngestJob
from datasets.services.writing import IngestOptions
from datasets.storage import job_files, writes
from tests.support.factories import DatasetFactory

pytestmark = pytest.mark.django_db(transaction=True)

HEADER = "ticker,date,close,volume\n"


@pytest.fixture(autouse=True)
def ingest_dir(settings: LazySettings, tmp_path: Path) -> Path:
    settings.INGEST_DIR = tmp_path
    return tmp_path


@pytest.fixture(autouse=True)
def empty_queue(transactional_db: None) -> None:
    """The queue's tables are not Django's own, so tests before may have left something in them."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_jobs")


@pytest.fixture
def prices(db: None) -> Dataset:
    return DatasetFactory(name="PRICES")


def create(dataset: Dataset, body: str | bytes, **options: Any) -> IngestJob:
    job = outcome(dataset, body, **options)
    assert isinstance(job, IngestJob), job
    return job


def outcome(dataset: Dataset, body: str | bytes, **options: Any) -> IngestJob | Refusal:
    file = io.BytesIO(body.encode() if isinstance(body, str) else body)
    return making.create(
        dataset_id=dataset.pk, file=file, options=IngestOptions(**options), now=database_now()
    )


def work() -> None:
    """Run the worker of the queue, as `manage.py up` does, until nothing waits."""

    def run() -> None:
        try:
            with app.replace_connector(app.connector.get_worker_connector()):
                app.run_worker(wait=False, install_signal_handlers=False, listen_notify=False)
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(timeout=60)
    assert not thread.is_alive()


def ended(job: IngestJob) -> IngestJob:
    job.refresh_from_db()
    assert job.has_ended, job.status
    return job


def counts(job: IngestJob) -> tuple[str, int, int, int, int]:
    return job.status, job.lines, job.stored, job.duplicates, job.invalid


def records(dataset: Dataset) -> int:
    found = writes.sizes([dataset.pk]).get(dataset.pk)
    return found.records if found else 0


def invalid_lines(job: IngestJob) -> list[tuple[int, str]]:
    rows = csv.DictReader(io.StringIO(job_files.invalid_lines(job).decode(), newline=""))
    return [(int(row["lineNumber"]), row["error"]) for row in rows]


def until(holds: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)


def test_the_worker_stores_a_file(prices: Dataset) -> None:
    job = create(prices, HEADER + "AAPL,2024-01-02,185.64,82488700\nMSFT,2024-01-02,370.87,\n")
    assert counts(job) == ("CREATED", 0, 0, 0, 0)
    assert job_files.folder(job).stat().st_mode & 0o777 == 0o700

    work()

    assert counts(ended(job)) == ("INGESTED", 2, 2, 0, 0)
    assert job.started_at is not None and job.ended_at is not None
    assert records(prices) == 2
    assert not (job_files.folder(job) / "body").exists()


def test_invalid_lines_are_told_with_number_and_reason(prices: Dataset) -> None:
    job = create(
        prices,
        HEADER
        + "AAPL,2024-01-02,1.5,10\n"
        + "AAPL,yesterday,1.5,10\n"
        + ",2024-01-03,1.5,10\n"
        + "AAPL,2024-01-04,abc,1.5\n"
        + "AAPL,2024-01-05\n"
        + "AAPL,2024-01-06,2,\n",
    )

    work()

    assert counts(ended(job)) == ("INGESTED", 6, 2, 0, 4)
    assert invalid_lines(job) == [
        (
            3,
            '"date": received "yesterday", needed an ISO 8601 date that exists, '
            "like 2024-02-29 or 2024-02-29T12:30:00Z, or a year",
        ),
        (4, '"ticker": received an empty cell, needed text, because it is required'),
        (5, '"close": received "abc", needed a number; "volume": received "1.5", needed an integer'),
        (6, "received 2 columns, needed 4"),
    ]


def test_invalid_lines_of_json_are_told_by_position(prices: Dataset) -> None:
    job = create(prices, '[{"ticker": "A", "date": "2024-01-02"}, {"ticker": "B"}, 5]')

    work()

    assert counts(ended(job)) == ("INGESTED", 3, 1, 0, 2)
    assert [number for number, _ in invalid_lines(job)] == [2, 3]
    assert "received nothing" in invalid_lines(job)[0][1]
    assert "needed an object" in invalid_lines(job)[1][1]


@pytest.mark.parametrize(
    ("replaces", "kept", "stored"), [(False, 1.0, 1), (True, 3.0, 2)], ids=["ignored", "replaced"]
)
def test_duplicates_in_the_file_and_in_the_dataset(
    prices: Dataset, replaces: bool, kept: float, stored: int
) -> None:
    create(prices, HEADER + "AAPL,2024-01-02,1.0,\n")
    work()

    job = create(
        prices,
        HEADER + "AAPL,2024-01-02,2.0,\nAAPL,2024-01-02,3.0,\nMSFT,2024-01-02,4.0,\n",
        replaces=replaces,
    )
    work()

    assert counts(ended(job)) == ("INGESTED", 3, stored, 3 - stored, 0)
    assert records(prices) == 2
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT (data->>'close')::float FROM records WHERE key = 'AAPL' AND dataset_id = %s", [prices.pk]
        )
        assert cursor.fetchone()[0] == kept


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            '[{"ticker": "A", "date": "2024-01-02"}, {"ticker": "B", "date": ]',
            "The file is not valid JSON at line 1, column ",
        ),
        (
            '{"ticker": "A", "date": "2024-01-02"}\n' * 3 + "[",
            None,  # one bad line of JSON lines is an invalid line, not the end of the file
        ),
    ],
    ids=["json", "json lines"],
)
def test_a_file_that_breaks_in_the_middle(prices: Dataset, body: str, said: str | None) -> None:
    """Nothing of a file is stored when it cannot be read to its end."""
    job = create(prices, body)

    work()

    ended(job)
    if said is None:
        assert counts(job) == ("INGESTED", 4, 1, 2, 1)
        return
    assert counts(job) == ("ERROR", 2, 0, 0, 0)
    assert job.last_good_status == "VALIDATING"
    assert said in job.message and "Nothing was stored." in job.message
    assert records(prices) == 0


def test_more_invalid_lines_than_allowed_store_nothing(prices: Dataset) -> None:
    lines = "AAPL,2024-01-02,1,\n" + "AAPL,x,1,\n" * 3

    job = create(prices, HEADER + lines, invalid_max=2)
    allowed = create(prices, HEADER + lines, invalid_max=3)
    work()

    assert counts(ended(job)) == ("ERROR", 4, 0, 0, 3)
    assert "More than 2 lines are not valid" in job.message
    assert len(invalid_lines(job)) == 3
    assert counts(ended(allowed)) == ("INGESTED", 4, 1, 0, 3)


def test_a_file_without_any_valid_line_is_an_error(prices: Dataset) -> None:
    job = create(prices, HEADER + "AAPL,x,1,\nAAPL,y,1,\n")

    work()

    assert counts(ended(job)) == ("ERROR", 2, 0, 0, 2)
    assert job.message.startswith("None of the 2 lines is valid; nothing was stored. Line 2: ")
    assert [number for number, _ in invalid_lines(job)] == [2, 3]


def test_more_records_than_a_job_may_hold_store_nothing(
    prices: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_run, "RECORDS_MAX", 2)

    job = create(prices, HEADER + "".join(f"A{n},2024-01-02,1,\n" for n in range(3)))
    run(job)

    assert ended(job).status == "ERROR"
    assert "more than 2 records" in job.message
    assert records(prices) == 0


def test_a_fault_in_the_middle_stores_nothing(prices: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job is whole or not at all, whatever goes wrong; the job says so without details of the fault."""
    job = create(prices, HEADER + "".join(f"A{n},2024-01-02,1,\n" for n in range(5)))
    real = writes.copy_in

    def fail_after_copying(*args: Any, **kwargs: Any) -> Any:
        real(*args, **kwargs)
        raise RuntimeError("a secret detail")

    monkeypatch.setattr(writes, "copy_in", fail_after_copying)
    run(job)

    assert counts(ended(job))[0] == "ERROR"
    assert job.message == "The job failed on our side; nothing was changed."
    assert records(prices) == 0


@pytest.mark.parametrize("error", [OperationalError("away"), InterfaceError("closed")])
def test_a_database_that_is_away_delays_a_job_and_does_not_fail_it(
    prices: Dataset, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    job = create(prices, HEADER + "A,2024-01-02,1,\n")
    real, errors = writes.copy_in, [error]

    def away_once(*args: Any, **kwargs: Any) -> Any:
        copied = real(*args, **kwargs)
        if errors:
            raise errors.pop()
        return copied

    monkeypatch.setattr(writes, "copy_in", away_once)
    with pytest.raises(type(error)):
        run(job, may_retry=True)
    job.refresh_from_db()
    assert job.status in IngestJob.RUNNING and records(prices) == 0

    work()

    assert counts(ended(job)) == ("INGESTED", 1, 1, 0, 0)


def test_a_connection_that_is_lost_while_records_are_copied_delays_a_job(
    prices: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = create(prices, HEADER + "".join(f"A{n},2024-01-02,1,\n" for n in range(5_000)))
    real, pids = writes.shard_of, [connection.connection.info.backend_pid]

    def end_the_connection_once(*args: Any, **kwargs: Any) -> int:
        if pids:
            with psycopg.connect(**connection_arguments()) as other:
                other.execute("SELECT pg_terminate_backend(%s, 5000)", [pids.pop()])
        return real(*args, **kwargs)

    monkeypatch.setattr(writes, "shard_of", end_the_connection_once)
    with pytest.raises(UNAVAILABLE):
        run(job, may_retry=True)
    connection.close()
    job.refresh_from_db()
    assert job.status in IngestJob.RUNNING and records(prices) == 0

    work()

    assert counts(ended(job))[:2] == ("INGESTED", 5_000)


def test_the_queue_tries_again_when_the_database_was_away(
    prices: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(prices, HEADER + "A,2024-01-02,1,\n")

    def away(*args: Any, **kwargs: Any) -> Any:
        raise OperationalError("away")

    monkeypatch.setattr(writes, "copy_in", away)
    work()

    waiting = ProcrastinateJob.objects.get(task_name="ingest")
    assert (waiting.status, waiting.attempts) == ("todo", 1)


def test_a_job_gives_up_after_its_last_try(prices: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    job = create(prices, HEADER + "A,2024-01-02,1,\n")

    def away(*args: Any, **kwargs: Any) -> Any:
        raise OperationalError("away")

    monkeypatch.setattr(writes, "copy_in", away)
    run(job, may_retry=False)

    assert ended(job).status == "ERROR"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("", "The file is empty"),
        (HEADER, "The file has no rows"),
        ("ticker,date,ticker\nA,2024-01-02,B\n", 'names columns twice: "ticker"'),
        ("ticker,date,other\nA,2024-01-02,B\n", 'not properties of the dataset: "other"'),
        ("date,close\n2024-01-02,1\n", 'lacks required columns: "ticker"'),
        ("[]", "no rows"),
        ("{", "not valid JSON"),
        ("[object Object]", "forgot to serialise"),
        (b"ticker,date\nA\0,2024-01-02\n", "holds a NUL byte: byte 14, in line 2"),
        (b"ticker,date\n\xff,2024-01-02\n", "is not UTF-8: byte 13, in line 2"),
        (b"\x1f\x8b\x08\0rest", "cut off or damaged"),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_a_file_that_cannot_be_taken_is_refused_when_it_arrives(
    prices: Dataset, ingest_dir: Path, body: str | bytes, said: str
) -> None:
    refusal = outcome(prices, body)

    assert isinstance(refusal, Refusal)
    assert said in refusal.detail
    assert not IngestJob.objects.exists()
    assert list(ingest_dir.iterdir()) == []
    assert not ProcrastinateJob.objects.exists()


def test_a_file_for_a_deleted_dataset_is_refused(prices: Dataset, ingest_dir: Path) -> None:
    prices.deleted_at = database_now()
    prices.save(update_fields=["deleted_at"])

    refusal = outcome(prices, HEADER + "A,2024-01-02,1,\n")

    assert isinstance(refusal, Refusal) and refusal.code == "not-found"
    assert list(ingest_dir.iterdir()) == []


def test_a_dataset_deleted_while_its_job_waits(prices: Dataset) -> None:
    job = create(prices, HEADER + "A,2024-01-02,1,\n")
    prices.deleted_at = database_now()
    prices.save(update_fields=["deleted_at"])

    work()

    assert ended(job).status == "ERROR"
    assert "deleted" in job.message
    assert records(prices) == 0


def test_a_dataset_removed_while_its_job_waits_does_not_stop_the_queue(prices: Dataset) -> None:
    create(prices, HEADER + "A,2024-01-02,1,\n")
    prices.delete()

    work()

    assert ProcrastinateJob.objects.get(task_name="ingest").status == "succeeded"


def test_an_ended_job_is_not_run_again(prices: Dataset) -> None:
    job = create(prices, HEADER + "A,2024-01-02,1,\n")
    run(job)

    run(job)

    assert counts(ended(job)) == ("INGESTED", 1, 1, 0, 0)


DYING_WORKER = """
import os, signal, sys
from pathlib import Path
from django.conf import settings
settings.DATABASES["default"]["NAME"], settings.INGEST_DIR = sys.argv[1], Path(sys.argv[2])
import django
django.setup()
from django.core.management import call_command
from apperate.database.outage import UNAVAILABLE
from apperate.database.pool import connection_arguments
from datasets.storage import writes
copy_in = writes.copy_in
def copy_in_and_die(*args, **kwargs):
    copy_in(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)
writes.copy_in = copy_in_and_die
call_command("procrastinate", "worker", "--no-listen-notify", "--one-shot")
"""


def test_a_job_whose_worker_was_killed_is_done_by_the_next_one(prices: Dataset, ingest_dir: Path) -> None:
    """A killed worker leaves nothing half done: its transaction is gone, and the job is run again."""
    job = create(prices, HEADER + "".join(f"A{n},2024-01-02,1,\n" for n in range(100)))
    killed = subprocess.run(
        [sys.executable, "-c", DYING_WORKER, str(connection.settings_dict["NAME"]), str(ingest_dir)],
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings"},
        capture_output=True,
        timeout=60,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    job.refresh_from_db()
    assert job.status in IngestJob.RUNNING and records(prices) == 0
    with connection.cursor() as cursor:  # Half a minute passes without a sign of life.
        cursor.execute("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '31 seconds'")

    # A lock of its own: the periodic one may have been queued by a minute that has just begun.
    queue.retry_stalled.configure(queueing_lock="of this test").defer(timestamp=0)
    work()
    work()

    assert counts(ended(job)) == ("INGESTED", 100, 100, 0, 0)


def test_a_job_that_another_worker_has_taken_over_stores_nothing(
    prices: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that was taken for dead may still be at it; only the last run of a job may end it."""
    job = create(prices, HEADER + "A,2024-01-02,1,\n")
    real = writes.copy_in

    def taken_over(*args: Any, **kwargs: Any) -> Any:
        copied = real(*args, **kwargs)
        other = threading.Thread(
            target=lambda: (IngestJob.objects.update(run_number=F("run_number") + 1), connections.close_all())
        )
        other.start()
        other.join(timeout=30)
        return copied

    monkeypatch.setattr(writes, "copy_in", taken_over)
    run(job)

    job.refresh_from_db()
    assert job.status in IngestJob.RUNNING
    assert (job.run_number, records(prices)) == (2, 0)


def test_a_waiting_job_is_cancelled_at_once(prices: Dataset) -> None:
    job = create(prices, HEADER + "A,2024-01-02,1,\n")

    cancelled = making.cancel(job, now=database_now())
    work()

    assert isinstance(cancelled, IngestJob)
    assert counts(ended(job)) == ("CANCELLED", 0, 0, 0, 0)
    assert records(prices) == 0
    refused = making.cancel(job, now=database_now())
    assert isinstance(refused, Refusal) and refused.code == "invalid-values"


@pytest.mark.parametrize("is_at", ["a line", "a statement"])
def test_a_running_job_is_cancelled_within_about_a_second(
    prices: Dataset, monkeypatch: pytest.MonkeyPatch, is_at: str
) -> None:
    """Also while the database is at its statement; the dataset is as it was, and a retry brings it whole."""
    create(prices, HEADER + "OLD,2024-01-02,1,\n")
    work()
    job = create(prices, HEADER + "".join(f"A{n},2024-01-02,1,\n" for n in range(5_000)))
    real, stopping, waits = writes.copy_in, threading.Event(), [True]

    def slowly(rows: Any) -> Any:
        for row in rows:
            if waits[0] and is_at == "a line":
                stopping.wait(0.002)
            yield row

    def slow(dataset: Any, rows: Any, **kwargs: Any) -> Any:
        copied = real(dataset, slowly(rows), **kwargs)
        if waits[0]:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_sleep(60)")
        return copied

    monkeypatch.setattr(writes, "copy_in", slow)
    worker = threading.Thread(target=work)
    worker.start()
    until(lambda: IngestJob.objects.get(pk=job.pk).status in IngestJob.RUNNING)
    begun = time.monotonic()
    making.cancel(job, now=database_now())
    until(lambda: IngestJob.objects.get(pk=job.pk).has_ended, seconds=5)
    assert time.monotonic() - begun < 3
    stopping.set()
    worker.join(timeout=30)

    assert ended(job).status == "CANCELLED"
    assert records(prices) == 1

    waits[0] = False
    assert isinstance(making.retry(job, by=None, now=database_now()), IngestJob)
    work()
    assert counts(ended(job)) == ("INGESTED", 5_000, 5_000, 0, 0)
    assert records(prices) == 5_001


def test_progress_is_seen_while_the_job_runs(prices: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    job = create(prices, HEADER + "".join(f"A{n},2024-01-02,1,\n" for n in range(2_000)))
    real, seen = writes.copy_in, []

    def watched(dataset: Any, rows: Any, **kwargs: Any) -> Any:
        copied = real(dataset, rows, **kwargs)

        def look() -> None:
            until(lambda: IngestJob.objects.get(pk=job.pk).rows_done == 2_000)
            found = IngestJob.objects.get(pk=job.pk)
            seen.append((found.status, found.rows_done, found.bytes_done, records(prices)))
            assert 0 < making.progress(found) < 1
            connections.close_all()

        other = threading.Thread(target=look)
        other.start()
        other.join(timeout=30)
        return copied

    monkeypatch.setattr(writes, "copy_in", watched)
    size = job.size_bytes
    run(job)

    assert seen == [("PROCESSING", 2_000, size, 0)]
    assert counts(ended(job)) == ("INGESTED", 2_000, 2_000, 0, 0)


def test_records_are_never_older_than_the_start_of_their_job(prices: Dataset) -> None:
    job = create(prices, HEADER + "A,2024-01-02,1,\n")
    work()
    with connection.cursor() as cursor:
        cursor.execute("SELECT updated FROM records WHERE dataset_id = %s", [prices.pk])
        updated = cursor.fetchone()[0]
    assert ended(job).started_at is not None and job.started_at <= updated


def test_a_failed_job_is_tried_again_with_the_same_file(
    prices: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = create(prices, HEADER + "A,2024-01-02,1,\n")
    with monkeypatch.context() as patched:
        patched.setattr(writes, "copy_in", lambda *_, **__: 1 / 0)
        work()
    assert ended(job).status == "ERROR"

    again = making.retry(job, by=None, now=database_now())
    assert isinstance(again, IngestJob) and again.status == "CREATED"
    work()

    assert counts(ended(job)) == ("INGESTED", 1, 1, 0, 0)
    refused = making.retry(job, by=None, now=database_now())
    assert isinstance(refused, Refusal) and refused.code == "invalid-values"


def test_a_job_whose_file_is_gone_says_so(prices: Dataset) -> None:
    job = create(prices, HEADER + "A,2024-01-02,1,\n")
    (job_files.folder(job) / "body").unlink()

    work()

    assert ended(job).status == "ERROR"
    assert "The file of this job is no longer there" in job.message
    refused = making.retry(job, by=None, now=database_now())
    assert isinstance(refused, Refusal) and "removed" in refused.detail


def test_the_file_of_a_failed_job_is_kept_for_a_day(prices: Dataset) -> None:
    job = create(prices, HEADER + "A,x,1,\n")
    waiting = create(prices, HEADER + "A,2024-01-02,1,\n")
    run(job)
    assert ended(job).status == "ERROR"
    now = database_now()

    assert job_files.purge(now=now + timedelta(hours=23)) == 0
    assert job_files.purge(now=now + timedelta(hours=25)) == 1
    assert not job_files.body(job).exists() and job_files.invalid_lines(job).count(b"\n") == 2
    assert job_files.body(waiting).exists(), "the file of a job that waits stays"


def test_a_full_disk_is_an_error_of_the_job(prices: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    job = create(prices, HEADER + "A,2024-01-02,1,\n")

    def full(*args: Any, **kwargs: Any) -> Any:
        raise OperationalError("no room") from psycopg.errors.DiskFull("no room")

    monkeypatch.setattr(writes, "copy_in", full)
    work()

    assert ended(job).status == "ERROR"
    assert "disk" in job.message and records(prices) == 0


def test_a_full_disk_refuses_an_upload(
    prices: Dataset, ingest_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **kwargs: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(job_files, "keep", full)
    refused = outcome(prices, HEADER + "A,2024-01-02,1,\n")

    assert isinstance(refused, Refusal) and (refused.code, refused.status) == ("storage-full", 507)
    assert list(ingest_dir.iterdir()) == []


LINES = HEADER + "A,2024-01-02,1.5,10\nB,2024-01-03,2.5,20\n"


@pytest.mark.parametrize(
    "body",
    [
        LINES,
        LINES.replace(",", "\t"),
        LINES.replace(",", "|"),
        '[{"ticker": "A", "date": "2024-01-02"}, {"ticker": "B", "date": "2024-01-03"}]',
        '{"ticker": "A", "date": "2024-01-02"}\n{"ticker": "B", "date": "2024-01-03"}\n',
        None,
    ],
    ids=["comma", "tab", "pipe", "json", "jsonl", "parquet"],
)
def test_every_form_is_taken_from_gzip(prices: Dataset, tmp_path: Path, body: str | None) -> None:
    if body is None:
        path = tmp_path / "made.parquet"
        rows = "SELECT 'A' AS ticker, '2024-01-02' AS date UNION ALL SELECT 'B', '2024-01-03'"
        duckdb.sql(f"COPY ({rows}) TO '{path}' (FORMAT parquet)")
        plain = path.read_bytes()
    else:
        plain = body.encode()
    half = len(plain) // 2

    one = create(prices, gzip.compress(plain))
    two = create(prices, gzip.compress(plain[:half]) + gzip.compress(plain[half:]), replaces=True)
    work()

    assert counts(ended(one)) == ("INGESTED", 2, 2, 0, 0)
    assert counts(ended(two)) == ("INGESTED", 2, 2, 0, 0), "several members are one file"
    assert records(prices) == 2


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (gzip.compress(gzip.compress(b"ticker,date\n")), "unsupported-encoding"),
        (b"PK\x03\x04rest", "unsupported-encoding"),
        (b"BZh91AY", "unsupported-encoding"),
        (b"\xfd7zXZ\0rest", "unsupported-encoding"),
        (b"\x28\xb5\x2f\xfdrest", "unsupported-encoding"),
        (gzip.compress(LINES.encode())[:-9], "invalid-values"),
        (gzip.compress(LINES.encode()) + b"rest", "invalid-values"),
        (b"\x1f\x8b", "invalid-values"),
        (gzip.compress(b"a" * 40_000_000), "body-too-large"),
    ],
    ids=["twice", "zip", "bzip2", "xz", "zstd", "cut", "text after", "head alone", "bomb"],
)
def test_other_compression_is_refused(prices: Dataset, ingest_dir: Path, body: bytes, code: str) -> None:
    refused = outcome(prices, body)

    assert isinstance(refused, Refusal) and refused.code == code, refused
    assert list(ingest_dir.iterdir()) == []


@pytest.mark.check("S36")
def test_what_is_in_gzip_has_a_greatest_size(prices: Dataset, settings: LazySettings) -> None:
    settings.UPLOAD_BYTES_MAX = 10
    refused = outcome(prices, gzip.compress(LINES.encode()))
    assert isinstance(refused, Refusal) and refused.code == "body-too-large"


def test_readers_never_see_half_a_file(prices: Dataset) -> None:
    job = create(prices, HEADER + "".join(f"A{n},2024-01-02,1,\n" for n in range(20_000)))
    seen: set[int] = set()
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            seen.add(records(prices))
        connections.close_all()

    reader = threading.Thread(target=look)
    reader.start()
    work()
    until(lambda: 20_000 in seen)
    stop.set()
    reader.join(timeout=10)

    assert ended(job).stored == 20_000
    assert seen <= {0, 20_000}


@pytest.mark.parametrize(
    ("size", "text"), [(579, "579B"), (12_000, "12KB"), (3_400_000, "3MB"), (5 * 10**9, "5GB")]
)
def test_sizes_are_said_as_old_clients_know_them(size: int, text: str) -> None:
    assert job_documents.size_text(size) == text
