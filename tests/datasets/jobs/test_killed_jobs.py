"""Each kind of job, with its worker killed in each phase: it ends by itself, and all or nothing is stored.

After it the counts are true, storage is counted as the rows are, no file, reservation or entry of the queue
is left over, and the audit log tells of the job once.

    EVERY_CELL=1 python -m pytest tests/datasets/jobs/test_killed_jobs.py     all kinds × phases × places
"""

import io
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from django.conf import LazySettings
from django.db import connection
from procrastinate.contrib.django.models import ProcrastinateJob

from apperate.accounts.models import AuditEvent, User, Workspace
from apperate.database.clock import database_now
from apperate.kernel.json_text import dumps
from datasets.jobs import making, queue, uploads
from datasets.models import Dataset, Deletion, FileChunk, IngestJob, StagedFile, StorageReservation
from datasets.services import writing
from datasets.services.writing import IngestOptions
from datasets.storage import deletes, job_files, limits, recount, writes
from tests.datasets.jobs.killed_workers import Holder, Nursery
from tests.datasets.jobs.test_jobs import work
from tests.support.factories import DatasetFactory
from tests.support.installation import until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow("workers are started and killed")]

ROWS = 40
HEADER = "ticker,date,close,volume\n"
# A reservation is made every 8 MB of records, so a job of more meets that lock while it copies.
WIDE = "x" * 9_000
WIDE_ROWS = 1_000


@pytest.fixture(scope="module")
def nursery(django_db_setup: None, django_db_blocker: Any) -> Iterator[Nursery]:
    with django_db_blocker.unblock(), Nursery() as started:
        yield started


@dataclass(frozen=True)
class Made:
    """A job that waits. `records`: what its dataset holds in the end; `audited`: its action, if any."""

    job: IngestJob
    records: int
    stored: int
    invalid: int = 0
    audited: str = ""


@dataclass
class Stage:
    """Where a job is made: a dataset with ROWS records of the key OLD, and the person who asks."""

    dataset: Dataset
    owner: User
    folder: Path


def sent(stage: Stage, body: bytes, *, replaces: bool = False) -> IngestJob:
    job = making.create(
        dataset_id=stage.dataset.pk, file=io.BytesIO(body), options=IngestOptions(replaces=replaces),
        now=database_now(),
    )  # fmt: skip
    assert isinstance(job, IngestJob), job
    return job


def csv(stage: Stage) -> Made:
    lines = "".join(f"A{n},2024-01-02,1,\n" for n in range(ROWS))
    return Made(sent(stage, f"{HEADER}{lines}A,yesterday,1,\n".encode()), 2 * ROWS, ROWS, invalid=1)


def wide_csv(stage: Stage) -> Made:
    properties = stage.dataset.schema_json["properties"] | {"note": {"type": "string"}}
    stage.dataset.schema_json = stage.dataset.schema_json | {"properties": properties}
    stage.dataset.save()
    lines = "".join(f"A{n},2024-01-02,{WIDE}\n" for n in range(WIDE_ROWS))
    return Made(sent(stage, ("ticker,date,note\n" + lines).encode()), ROWS + WIDE_ROWS, WIDE_ROWS)


def json(stage: Stage) -> Made:
    lines = "".join(f'{{"ticker":"A{n}","date":"2024-01-02"}}\n' for n in range(ROWS))
    return Made(sent(stage, lines.encode()), 2 * ROWS, ROWS)


def parquet(stage: Stage) -> Made:
    path = stage.folder.parent / "made.parquet"
    rows = f"SELECT 'A' || n AS ticker, '2024-01-02' AS date FROM range({ROWS}) AS made(n)"  # noqa: S608
    duckdb.sql(f"COPY ({rows}) TO '{path}' (FORMAT parquet)")
    return Made(sent(stage, path.read_bytes()), 2 * ROWS, ROWS)


def replace(stage: Stage) -> Made:
    """Half of the records are replaced by others, and some are new."""
    lines = "".join(f"OLD,2024-01-02T00:00:{n:02},2,\n" for n in range(ROWS // 2, ROWS + 5))
    return Made(sent(stage, (HEADER + lines).encode(), replaces=True), ROWS + 5, ROWS // 2 + 5)


def page(stage: Stage) -> Made:
    body = (HEADER + "".join(f"A{n},2024-01-02,1,\n" for n in range(ROWS))).encode()
    workspace = stage.dataset.workspace
    upload = uploads.keep(
        workspace=workspace, by=stage.owner, name="NEW", file_name="new.csv", chunks=[body],
        now=database_now(),
    )  # fmt: skip
    assert isinstance(upload, uploads.Upload)
    job = uploads.finish(
        upload=upload, workspace=workspace, mapping={"key": "ticker"}, title="", by=stage.owner,
        now=database_now(),
    )  # fmt: skip
    assert isinstance(job, IngestJob)
    return Made(job, ROWS, ROWS, audited="job.upload")


def delete(stage: Stage) -> Made:
    job = making.delete_records(
        dataset_id=stage.dataset.pk, selection=writes.Selection("OLD"), token_id=None, now=database_now()
    )
    assert isinstance(job, IngestJob)
    return Made(job, 0, ROWS, audited="records.delete")


def restore(stage: Stage) -> Made:
    with writes.locked(stage.dataset.pk) as dataset:
        assert dataset is not None
        writing.delete_selected(dataset, writes.Selection("OLD"), token_id=None, now=database_now())
    job = making.restore_deletion(deletion=Deletion.objects.get(), by=stage.owner, now=database_now())
    assert isinstance(job, IngestJob)
    return Made(job, ROWS, ROWS, audited="records.restore")


# --- the phases: each starts a worker, and returns when it stands there -----------------------------------


@dataclass
class Scene:
    """`first` and `second` hold locks; `start` starts the worker."""

    first: Holder
    second: Holder
    start: Callable[[], None]
    job: IngestJob


def waiting(scene: Scene) -> None:
    """The worker asks for its first job, and dies before it is answered."""
    scene.first.take("LOCK TABLE procrastinate_jobs IN EXCLUSIVE MODE")
    scene.start()
    scene.first.wait_for("procrastinate_fetch_job")


def taken(scene: Scene) -> None:
    """The queue has given it the job, which does not know yet."""
    scene.first.take("SELECT 1 FROM datasets_ingestjob WHERE id = %s FOR UPDATE", scene.job.pk)
    scene.start()
    scene.first.wait_for('"run_number" = ')


def reading(scene: Scene) -> None:
    """Where files are in the database: as it is about to be copied from there."""
    scene.first.take("LOCK TABLE datasets_filechunk IN ACCESS EXCLUSIVE MODE")
    scene.start()
    scene.first.wait_for("datasets_filechunk")


def begun(scene: Scene) -> None:
    """The transaction that is to store it all has begun; for a file it is at hand by now."""
    scene.first.take("SELECT 1 FROM datasets_dataset WHERE id = %s FOR UPDATE", scene.job.dataset_id)
    scene.start()
    scene.first.wait_for("FOR SHARE OF d")


def copying(scene: Scene) -> None:
    """Some megabytes are in the temporary table, and more to come."""
    scene.first.take("LOCK TABLE datasets_storagereservation IN SHARE MODE")
    scene.start()
    scene.first.wait_for("INSERT INTO datasets_storagereservation")


def storing(scene: Scene) -> None:
    """The one statement that changes records."""
    scene.first.take("LOCK TABLE records IN SHARE MODE")
    scene.start()
    scene.first.wait_for("records")


def settling(scene: Scene) -> None:
    """The records are stored, and the file is about to count no more."""
    scene.first.take("LOCK TABLE datasets_stagedfile IN SHARE MODE")
    scene.start()
    scene.first.wait_for("DELETE FROM datasets_stagedfile")


def ending(scene: Scene) -> None:
    """The last statement before the commit, which writes the end of the job."""
    storing(scene)
    scene.second.take("SELECT 1 FROM datasets_ingestjob WHERE id = %s FOR UPDATE", scene.job.pk)
    scene.first.let_go()
    scene.second.wait_for("'INGESTED'")


def committed(scene: Scene) -> None:
    """All is stored, and the job has ended; what is reserved is about to be given back."""
    if scene.job.has_file:
        settling(scene)
        # In the line before the worker: it can have the lock only after this transaction, and then waits.
        taking = threading.Thread(target=scene.second.take, args=[_RESERVATIONS])
        taking.start()
        until(scene.second.waits, seconds=60)
        scene.first.let_go()
        taking.join(timeout=60)
    else:
        scene.second.take(_RESERVATIONS)
        scene.start()
    scene.second.wait_for("DELETE FROM datasets_storagereservation")


_RESERVATIONS = "LOCK TABLE datasets_storagereservation IN SHARE MODE"


def finishing(scene: Scene) -> None:
    """The job is done, and the queue is about to be told."""
    committed(scene)
    scene.first.let_go()
    scene.first.take("LOCK TABLE procrastinate_jobs IN SHARE ROW EXCLUSIVE MODE")
    scene.second.let_go()
    scene.first.wait_for("procrastinate_finish_job")


# --- what is true afterwards ------------------------------------------------------------------------------


def go_on() -> None:
    """What the background work does when it is started again, once the dead worker is missed."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '31 seconds'")
    # A lock of its own: the periodic one may have been queued by a minute that has just begun.
    queue.retry_stalled.configure(queueing_lock="of this test").defer(timestamp=0)
    work()


def is_done(job: IngestJob) -> bool:
    go_on()
    job.refresh_from_db()
    left = ProcrastinateJob.objects.filter(task_name="ingest").exclude(status="succeeded")
    return job.has_ended and not left.exists()


def check(made: Made, folder: Path) -> None:
    job = made.job
    assert (job.status, job.stored, job.duplicates, job.invalid) == ("INGESTED", made.stored, 0, made.invalid)
    assert job.lines == made.stored + made.invalid and job.message == ""
    found = writes.sizes([job.dataset_id]).get(job.dataset_id)
    assert (found.records if found else 0) == made.records
    assert recount.recount(job.dataset.workspace_id) == 0
    assert not StagedFile.objects.exists() and not StorageReservation.objects.exists()
    assert job_files.invalid_lines(job).count(b"\n") == 1 + made.invalid
    log = {"invalid.csv"} if made.invalid else set()
    on_disk = {place.name for place in folder.rglob("*") if place.is_file()}
    in_database = {*FileChunk.objects.values_list("name", flat=True)}
    assert on_disk <= {"invalid.csv"} and in_database <= log
    assert ProcrastinateJob.objects.filter(task_name="ingest").count() == 1
    actions = [*AuditEvent.objects.exclude(action="dataset.create").values_list("action", flat=True)]
    asked = ["records.delete"] if job.kind == IngestJob.Kind.RESTORE else []  # What is restored was deleted.
    assert actions == asked + ([made.audited] if made.audited else [])


FILES = [csv, json, parquet, replace, page]
OF_RECORDS = [delete, restore]
PHASES_OF_FILES = [waiting, taken, begun, storing, settling, ending, committed, finishing]
PHASES_OF_RECORDS = [waiting, taken, begun, storing, ending, committed, finishing]
EVERY = [
    *((kind, phase, "folder") for kind in FILES for phase in PHASES_OF_FILES),
    *((kind, phase, "database") for kind in FILES for phase in [*PHASES_OF_FILES, reading]),
    *((kind, phase, "folder") for kind in OF_RECORDS for phase in PHASES_OF_RECORDS),
    *((wide_csv, copying, uploads_to) for uploads_to in ("folder", "database")),
]


# Each phase, each kind, and what is different with files in the database.
SOME = [
    *((csv, phase, "folder") for phase in PHASES_OF_FILES),
    *((page, phase, "database") for phase in (reading, storing, committed)),
    (json, begun, "database"),
    (parquet, settling, "database"),
    (replace, ending, "database"),
    (wide_csv, copying, "database"),
    *((kind, phase, "folder") for kind in OF_RECORDS for phase in (storing, ending, committed)),
]
CELLS = EVERY if os.environ.get("EVERY_CELL") else SOME


def named(part: Any) -> str:
    return str(getattr(part, "__name__", part))


@pytest.fixture
def stage(
    workspace: Workspace, owner: User, settings: LazySettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Stage:
    settings.INGEST_DIR = tmp_path / "ingest"
    monkeypatch.setattr(deletes, "RECORDS_MAX", 1)  # So that deletes and restores of a few records are jobs.
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_jobs")
    dataset = DatasetFactory(workspace=workspace, name="PRICES")
    old = [{"ticker": "OLD", "date": f"2024-01-02T00:00:{n:02}", "close": 1} for n in range(ROWS)]
    writing.write_records(dataset_id=dataset.pk, body=dumps(old).encode(), replaces=False, now=database_now())
    return Stage(dataset, owner, settings.INGEST_DIR)


@pytest.mark.parametrize(("kind", "phase", "uploads_to"), CELLS, ids=named)
def test_a_job_whose_worker_is_killed_is_done_whole_and_once(
    nursery: Nursery,
    stage: Stage,
    settings: LazySettings,
    kind: Callable[[Stage], Made],
    phase: Callable[[Scene], None],
    uploads_to: str,
) -> None:
    settings.UPLOADS = uploads_to
    made = kind(stage)

    with Holder() as first, Holder() as second:
        workers: list[int] = []
        start = lambda: workers.append(nursery.start(uploads_to, stage.folder))  # noqa: E731
        phase(Scene(first, second, start, made.job))
        nursery.kill(workers[0])

    until(lambda: is_done(made.job), seconds=60)
    check(made, stage.folder)


def test_a_file_that_a_killed_worker_had_stored_is_removed_by_the_next(
    nursery: Nursery, stage: Stage
) -> None:
    """In a folder it goes after the commit, and no lock can stop a worker between the two."""
    made = csv(stage)
    body = job_files.body(made.job).read_bytes()
    with Holder() as first, Holder() as second:
        workers: list[int] = []
        start = lambda: workers.append(nursery.start("folder", stage.folder))  # noqa: E731
        committed(Scene(first, second, start, made.job))
        nursery.kill(workers[0])
    assert not job_files.body(made.job).exists()
    job_files.body(made.job).write_bytes(body)

    until(lambda: is_done(made.job), seconds=60)
    check(made, stage.folder)


def test_a_job_that_kills_its_worker_each_time_is_given_up(stage: Stage) -> None:
    """As a file does that takes more memory than there is: without an end its queue would do nothing else."""
    made = csv(stage)
    IngestJob.objects.update(status="PROCESSING", run_number=21)
    ProcrastinateJob.objects.filter(task_name="ingest").update(attempts=queue.RETRIES_MAX + 1)

    until(lambda: is_done(made.job), seconds=60)

    assert (made.job.status, made.job.refusal_code) == ("ERROR", "internal-error")
    assert "begun 21 times, and its process died each time" in made.job.message
    assert writes.sizes([stage.dataset.pk])[stage.dataset.pk].records == ROWS
    assert making.can_retry(made.job) and StagedFile.objects.exists(), "its file is kept for a day"
    assert recount.recount(stage.dataset.workspace_id) == 0


def test_a_recount_whose_worker_is_killed_is_made_again(nursery: Nursery, stage: Stage) -> None:
    workspace_id = stage.dataset.workspace_id
    limits.add(workspace_id, 1_000)  # As a crash may leave it.
    queue.count_storage.defer(timestamp=0)

    with Holder() as holder:
        holder.take("LOCK TABLE datasets_storagecounter IN SHARE MODE")
        worker = nursery.start("folder", stage.folder)
        holder.wait_for("INSERT INTO datasets_storagecounter")
        nursery.kill(worker)

    until(lambda: upkeep_is_done("count_storage"), seconds=60)
    assert recount.recount(workspace_id) == 0


def test_a_purge_whose_worker_is_killed_is_made_again(
    nursery: Nursery, stage: Stage, settings: LazySettings
) -> None:
    settings.UPLOADS = "database"
    made = csv(stage)
    IngestJob.objects.update(status="ERROR", ended_at=database_now() - timedelta(hours=25))
    FileChunk.objects.update(stored_at=database_now() - timedelta(hours=26))
    queue.purge_files.defer(timestamp=0)

    with Holder() as holder:
        holder.take("LOCK TABLE datasets_stagedfile IN SHARE MODE")  # The file is gone, and counts still.
        worker = nursery.start("database", stage.folder)
        holder.wait_for("DELETE FROM datasets_stagedfile")
        nursery.kill(worker)

    until(lambda: upkeep_is_done("purge_files"), seconds=60)
    assert not FileChunk.objects.exists() and not making.can_retry(made.job)
    recount.upkeep(now=database_now() + timedelta(hours=2))
    assert not StagedFile.objects.exists() and recount.recount(stage.dataset.workspace_id) == 0


def upkeep_is_done(name: str) -> bool:
    go_on()
    return not ProcrastinateJob.objects.filter(task_name=name).exclude(status="succeeded").exists()
