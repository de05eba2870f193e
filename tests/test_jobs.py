"""Ingestion jobs: whole or not at all, run by the real worker, every invalid line told with its reason."""

import csv
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import InterfaceError, OperationalError, connection, connections, transaction
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob

from apperate.clock import database_now
from apperate.refusals import Refusal
from datasets import jobs, store
from datasets.models import Dataset, IngestJob
from datasets.writing import IngestOptions
from tests.factories import DatasetFactory

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
    return jobs.create(dataset_id=dataset.pk, file=file, options=IngestOptions(**options), now=database_now())


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
    found = store.sizes([dataset.pk]).get(dataset.pk)
    return found.records if found else 0


def invalid_lines(job: IngestJob) -> list[tuple[int, str]]:
    rows = csv.DictReader(io.StringIO(jobs.invalid_lines(job).decode(), newline=""))
    return [(int(row["lineNumber"]), row["error"]) for row in rows]


def until(holds: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)


def test_the_worker_stores_a_file(prices: Dataset) -> None:
    job = create(prices, HEADER + "AAPL,2024-01-02,185.64,82488700\nMSFT,2024-01-02,370.87,\n")
    assert counts(job) == ("CREATED", 0, 0, 0, 0)
    assert jobs.folder(job).stat().st_mode & 0o777 == 0o700

    work()

    assert counts(ended(job)) == ("INGESTED", 2, 2, 0, 0)
    assert job.started_at is not None and job.ended_at is not None
    assert records(prices) == 2
    assert not (jobs.folder(job) / "body").exists()


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
            "like 2024-02-29 or 2024-02-29T12:30:00Z",
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
    assert job.last_good_status == "PROCESSING"
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
    monkeypatch.setattr(jobs, "RECORDS_MAX", 2)

    job = create(prices, HEADER + "".join(f"A{n},2024-01-02,1,\n" for n in range(3)))
    jobs.run(job)

    assert ended(job).status == "ERROR"
    assert "more than 2 records" in job.message
    assert records(prices) == 0


def test_a_fault_in_the_middle_stores_nothing(prices: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job is whole or not at all, whatever goes wrong; the job says so without details of the fault."""
    job = create(prices, HEADER + "".join(f"A{n},2024-01-02,1,\n" for n in range(5)))
    real = store.copy_in

    def fail_after_copying(*args: Any, **kwargs: Any) -> Any:
        real(*args, **kwargs)
        raise RuntimeError("a secret detail")

    monkeypatch.setattr(store, "copy_in", fail_after_copying)
    jobs.run(job)

    assert counts(ended(job))[0] == "ERROR"
    assert job.message == "Storing the file failed on our side; nothing was stored."
    assert records(prices) == 0


@pytest.mark.parametrize("error", [OperationalError("away"), InterfaceError("closed")])
def test_a_database_that_is_away_delays_a_job_and_does_not_fail_it(
    prices: Dataset, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    job = create(prices, HEADER + "A,2024-01-02,1,\n")
    real, errors = store.copy_in, [error]

    def away_once(*args: Any, **kwargs: Any) -> Any:
        copied = real(*args, **kwargs)
        if errors:
            raise errors.pop()
        return copied

    monkeypatch.setattr(store, "copy_in", away_once)
    with pytest.raises(type(error)):
        jobs.run(job, may_retry=True)
    job.refresh_from_db()
    assert (job.status, records(prices)) == ("PROCESSING", 0)

    work()

    assert counts(ended(job)) == ("INGESTED", 1, 1, 0, 0)


def test_the_queue_tries_again_when_the_database_was_away(
    prices: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(prices, HEADER + "A,2024-01-02,1,\n")

    def away(*args: Any, **kwargs: Any) -> Any:
        raise OperationalError("away")

    monkeypatch.setattr(store, "copy_in", away)
    work()

    waiting = ProcrastinateJob.objects.get(task_name="ingest")
    assert (waiting.status, waiting.attempts) == ("todo", 1)


def test_a_job_gives_up_after_its_last_try(prices: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    job = create(prices, HEADER + "A,2024-01-02,1,\n")

    def away(*args: Any, **kwargs: Any) -> Any:
        raise OperationalError("away")

    monkeypatch.setattr(store, "copy_in", away)
    jobs.run(job, may_retry=False)

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
        (b"\x1f\x8b\x08\0rest", "compressed with gzip"),
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
    jobs.run(job)

    jobs.run(job)

    assert counts(ended(job)) == ("INGESTED", 1, 1, 0, 0)


DYING_WORKER = """
import os, signal, sys
from pathlib import Path
from django.conf import settings
settings.DATABASES["default"]["NAME"], settings.INGEST_DIR = sys.argv[1], Path(sys.argv[2])
import django
django.setup()
from django.core.management import call_command
from datasets import store
copy_in = store.copy_in
def copy_in_and_die(*args, **kwargs):
    copy_in(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)
store.copy_in = copy_in_and_die
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
    assert (job.status, records(prices)) == ("PROCESSING", 0)
    with connection.cursor() as cursor:  # Half a minute passes without a sign of life.
        cursor.execute("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '31 seconds'")

    # A lock of its own: the periodic one may have been queued by a minute that has just begun.
    jobs.retry_stalled.configure(queueing_lock="of this test").defer(timestamp=0)
    work()
    work()

    assert counts(ended(job)) == ("INGESTED", 100, 100, 0, 0)


def test_a_job_that_another_worker_is_at_is_left_alone(prices: Dataset) -> None:
    job = create(prices, HEADER + "A,2024-01-02,1,\n")
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            IngestJob.objects.select_for_update().get(pk=job.pk)
            held.set()
            release.wait(timeout=30)
        connections.close_all()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(timeout=30)
    try:
        assert jobs._store_file(job, now=database_now()) is None
        assert records(prices) == 0
    finally:
        release.set()
        holder.join(timeout=30)


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
    assert jobs.size_text(size) == text
