"""Files of jobs in the database: any host runs any job and shows its invalid lines; nothing is left."""

import io
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import OperationalError

from apperate.accounts.models import User, Workspace
from apperate.database import disk
from apperate.database.clock import database_now
from apperate.kernel.refusals import Refusal
from datasets.jobs import loading, making, uploads
from datasets.jobs.run import run
from datasets.models import Dataset, FileChunk, IngestJob, StagedFile
from datasets.pages import jobs as job_pages
from datasets.services import editing, trash
from datasets.services.writing import IngestOptions
from datasets.storage import file_chunks, job_files, kept_folders, recount
from datasets.storage.kept_folders import KeptFolder

pytestmark = pytest.mark.django_db(transaction=True)

CSV = b"ticker,date,close,volume\nAAPL,2024-01-02,185.64,1\nAAPL,yesterday,1.5,2\nMSFT,2024-01-02,370.87,3\n"
BROKEN = b"ticker,date,close,volume\nAAPL,yesterday,1.5,2\n"
Host = Callable[[str], Path]


@pytest.fixture
def on(settings: LazySettings, tmp_path: Path) -> Host:
    """on("a"): go on as the host of this name, which has a data directory of its own."""

    def go_on(name: str) -> Path:
        settings.INGEST_DIR = tmp_path / name
        return tmp_path / name

    settings.UPLOADS = "database"
    go_on("a")
    return go_on


def sent(dataset: Dataset, body: bytes = CSV, **options: Any) -> IngestJob:
    job = outcome(dataset, body, **options)
    assert isinstance(job, IngestJob), job
    return job


def outcome(dataset: Dataset, body: bytes, **options: Any) -> IngestJob | Refusal:
    return making.create(
        dataset_id=dataset.pk, file=io.BytesIO(body), options=IngestOptions(**options), now=database_now()
    )


def state(job: IngestJob) -> tuple[str, int, int]:
    job.refresh_from_db()
    return job.status, job.stored, job.invalid


def stored_names(folder: str) -> set[str]:
    return set(FileChunk.objects.filter(folder=folder).values_list("name", flat=True))


def on_disk(tmp_path: Path) -> list[Path]:
    return [place for place in tmp_path.rglob("*") if place.is_file()]


def test_any_host_runs_a_job_and_shows_its_invalid_lines(prices: Dataset, on: Host, tmp_path: Path) -> None:
    job = sent(prices)
    assert on_disk(tmp_path) == [] and stored_names(f"job/{job.public_id}") == {"body"}

    on("b")
    run(job)

    assert state(job) == ("INGESTED", 2, 1)
    assert stored_names(f"job/{job.public_id}") == {"invalid.csv"}, "the file went with its records"
    assert job.bytes_done == len(CSV)
    on("c")
    lines = job_files.invalid_lines(job).decode()
    assert lines.startswith(f"jobId,lineNumber,error\r\n{job.public_id},3,"), lines
    assert [line for line, _ in job_files.first_invalid(job)] == ["3"]
    assert on_disk(tmp_path) == [] and not StagedFile.objects.exists()
    assert recount.recount(prices.workspace_id) == 0


@pytest.mark.parametrize("size_bytes", [0, 1, file_chunks.CHUNK_BYTES, 2 * file_chunks.CHUNK_BYTES + 1])
def test_a_file_comes_back_as_it_went(on: Host, tmp_path: Path, size_bytes: int) -> None:
    folder, body = KeptFolder("job/" + "0" * 32), os.urandom(size_bytes)

    with folder.receiving() as place:
        (place / "body").write_bytes(b"an earlier one, which is replaced")
        assert folder.share(place, "body") is None
        (place / "body").write_bytes(body)
        assert folder.share(place, "body") is None

    on("b")
    with folder.at_hand("body") as found:
        assert found is not None and (found / "body").read_bytes() == body
        assert found.stat().st_mode & 0o777 == 0o700
    assert folder.read("body") == body
    assert folder.read("body", is_beginning=True) == body[: file_chunks.CHUNK_BYTES]
    folder.remove()
    with folder.at_hand("body") as found:
        assert found is None
    assert not folder.has("body") and folder.read("body") is None
    assert on_disk(tmp_path) == []


def test_a_failed_job_is_tried_again_on_another_host(prices: Dataset, on: Host) -> None:
    job = sent(prices, BROKEN)
    run(job)
    assert state(job) == ("ERROR", 0, 1)
    assert job_files.invalid_lines(job).count(b"\n") == 2

    on("b")
    properties = prices.schema_json["properties"] | {"date": {"type": "string"}}
    prices.schema_json = prices.schema_json | {"properties": properties}
    prices.column_mapping = {"key": "ticker"}
    prices.save()
    assert making.can_retry(job)
    assert isinstance(making.retry(job, by=None, now=database_now()), IngestJob)
    run(job)

    assert state(job) == ("INGESTED", 1, 0)
    assert recount.recount(prices.workspace_id) == 0


def test_the_file_of_a_failed_job_is_kept_for_a_day_and_its_invalid_lines_longer(
    prices: Dataset, on: Host
) -> None:
    failed, waiting = sent(prices, BROKEN), sent(prices)
    run(failed)
    now = database_now()

    on("b")
    assert job_files.purge(now=now + timedelta(hours=23)) == 0
    assert StagedFile.objects.count() == 2
    assert job_files.purge(now=now + timedelta(hours=25)) == 1

    assert stored_names(f"job/{failed.public_id}") == {"invalid.csv"}
    assert stored_names(f"job/{waiting.public_id}") == {"body"}
    assert StagedFile.objects.get().name == f"job/{waiting.public_id}"
    assert not making.can_retry(failed)
    refused = making.retry(failed, by=None, now=now)
    assert isinstance(refused, Refusal) and "was removed" in refused.detail
    assert recount.recount(prices.workspace_id) == 0


def test_files_of_jobs_that_are_forgotten_go_too(prices: Dataset, on: Host) -> None:
    job = sent(prices)
    run(job)
    now = database_now()

    assert job_files.purge_jobs(now=now + timedelta(days=91)) == 1
    assert job_files.purge(now=now + timedelta(minutes=59)) == 0, "as it could be a job about to be saved"
    assert job_files.purge(now=now + timedelta(minutes=61)) == 1
    assert not FileChunk.objects.exists()


def test_a_refused_file_leaves_nothing(prices: Dataset, on: Host, tmp_path: Path) -> None:
    refused = outcome(prices, b"ticker,other\nA,1\n")

    assert isinstance(refused, Refusal) and "other" in refused.detail
    assert not FileChunk.objects.exists() and not StagedFile.objects.exists()
    assert on_disk(tmp_path) == []


def test_a_file_with_no_room_in_the_reserve_is_refused(
    prices: Dataset, on: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database on the disk that is seen takes the file's room twice: once in its write-ahead log."""
    asked = []

    def shortage(*, wants_bytes: int = 0) -> Refusal | None:
        asked.append(wants_bytes)
        return Refusal("storage-full", "no room") if wants_bytes else None

    monkeypatch.setattr(disk, "shortage", shortage)

    refused = outcome(prices, CSV)

    assert isinstance(refused, Refusal) and refused.code == "storage-full"
    assert max(asked) == 2 * len(CSV)
    assert not FileChunk.objects.exists() and not IngestJob.objects.exists()


def test_a_file_whose_job_was_perhaps_saved_stays(
    prices: Dataset, on: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the connection is lost at the commit nobody knows; a job that was saved must find its file."""
    saved: list[str] = []
    real = making._save

    def lost(job: IngestJob, *args: Any, **kwargs: Any) -> Any:
        real(job, *args, **kwargs)
        saved.append(job.public_id)
        raise OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(making, "_save", lost)
    with pytest.raises(OperationalError):
        outcome(prices, CSV)

    run(IngestJob.objects.get(public_id=saved[0]))
    assert IngestJob.objects.get().status == "INGESTED"


def test_an_upload_is_reviewed_and_finished_on_other_hosts(
    workspace: Workspace, owner: User, outsider: User, on: Host, tmp_path: Path
) -> None:
    upload = uploads.keep(
        workspace=workspace, by=owner, name="NEW", file_name="new.csv", chunks=[CSV[:50], CSV[50:]],
        now=database_now(),
    )  # fmt: skip
    assert isinstance(upload, uploads.Upload)
    assert StagedFile.objects.get().bytes == len(CSV) and on_disk(tmp_path) == []

    on("b")
    assert uploads.find(upload.public_id, workspace=workspace, by=owner) == upload
    assert uploads.find(upload.public_id, workspace=workspace, by=outsider) is None
    job = uploads.finish(
        upload=upload, workspace=workspace, mapping={"key": "ticker"}, title="", by=owner, now=database_now()
    )
    assert isinstance(job, IngestJob)
    assert stored_names(f"upload/{upload.public_id}") == set()
    assert StagedFile.objects.get().name == f"job/{job.public_id}"

    on("c")
    run(job)

    assert state(job)[:2] == ("INGESTED", 2)
    assert on_disk(tmp_path) == [] and recount.recount(workspace.pk) == 0


def test_an_abandoned_upload_is_removed_after_a_day(workspace: Workspace, owner: User, on: Host) -> None:
    upload = uploads.keep(
        workspace=workspace, by=owner, name="NEW", file_name="new.csv", chunks=[CSV], now=database_now()
    )
    assert isinstance(upload, uploads.Upload)
    now = database_now()

    on("b")
    assert job_files.purge_uploads(now=now + timedelta(hours=23)) == 0
    assert uploads.find(upload.public_id, workspace=workspace, by=owner) is not None
    assert job_files.purge_uploads(now=now + timedelta(hours=25)) == 1

    assert uploads.find(upload.public_id, workspace=workspace, by=owner) is None
    assert not FileChunk.objects.exists() and not StagedFile.objects.exists()


def test_a_dataset_that_is_erased_takes_the_files_of_its_jobs(
    prices: Dataset, workspace: Workspace, owner: User, on: Host
) -> None:
    ended, waiting = sent(prices), sent(prices)
    run(ended)
    assert state(waiting)[0] == "CREATED"
    editing.delete_dataset(dataset=prices, by=owner, now=database_now())

    assert trash.erase_dataset(dataset=prices, by=owner, now=database_now()) == trash.Erased(is_done=True)

    assert not FileChunk.objects.exists() and not StagedFile.objects.exists()


@pytest.mark.parametrize("before, after", [("folder", "database"), ("database", "folder")])
def test_the_setting_may_change_while_jobs_wait(
    prices: Dataset, on: Host, settings: LazySettings, tmp_path: Path, before: str, after: str
) -> None:
    settings.UPLOADS = before
    stored, failed = sent(prices), sent(prices, BROKEN)

    settings.UPLOADS = after
    run(stored)
    run(failed)

    assert (state(stored), state(failed)) == (("INGESTED", 2, 1), ("ERROR", 0, 1))
    for job in (stored, failed):
        assert job_files.invalid_lines(job).count(b"\n") == 2
        assert (job_files.folder(job) / "invalid.csv").exists() == (after == "folder")
    assert not KeptFolder(f"job/{stored.public_id}").has("body") and making.can_retry(failed)
    assert recount.recount(prices.workspace_id) == 0


def test_the_working_folder_of_a_dead_process_is_removed_and_one_in_use_is_not(on: Host) -> None:
    with kept_folders.working_folder() as in_use:
        (in_use / "body").write_bytes(b"x")
        left = in_use.with_name("left")  # As one is whose process was killed: nobody has it locked.
        left.mkdir()
        (left / "body").write_bytes(b"x")

        with kept_folders.working_folder() as another:
            assert another.is_dir() and (in_use / "body").exists() and not left.exists()

    assert not in_use.exists() and not another.exists()


def test_a_file_loaded_by_a_command_leaves_its_invalid_lines_alone(
    prices: Dataset, owner: User, on: Host, tmp_path: Path
) -> None:
    place = tmp_path / "prices.csv"
    place.write_bytes(CSV)

    loaded = loading.load_file(
        workspace=prices.workspace, name="PRICES", path=place, by=owner, now=database_now()
    )

    assert isinstance(loaded, loading.Loaded), loaded
    assert state(loaded.job) == ("INGESTED", 2, 1)
    assert on_disk(tmp_path) == [place]
    assert stored_names(f"job/{loaded.job.public_id}") == {"invalid.csv"}
    on("b")
    assert [line for line, _ in job_files.first_invalid(loaded.job)] == ["3"]


def test_the_page_tells_how_far_a_job_is_that_another_host_received(prices: Dataset, on: Host) -> None:
    job = sent(prices)

    on("b")
    IngestJob.objects.update(status="PROCESSING", bytes_done=len(CSV) // 2)
    job.refresh_from_db()

    assert 0.4 < making.progress(job) < 0.5
    assert job_pages.progress_of(job) is not None
