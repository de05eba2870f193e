"""507 by the API and the pages: a plan's storage that is used up, and a disk that is nearly full."""

import asyncio
import gzip
import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from apperate.accounts.models import AuditEvent, Workspace
from apperate.database import disk
from apperate.database.clock import database_now
from apperate.doctor import contents
from apperate.http.data_plane import DataRequest
from apperate.kernel.refusals import Refusal
from datasets.jobs import making
from datasets.jobs.run import run
from datasets.models import Dataset, Deletion, IngestJob
from datasets.services import trash, writing
from datasets.storage import deletes, kept_folders, limits, writes
from tests.support.data_plane_client import Reply
from tests.support.records_api import Caller

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("ingest_dir")]
RECORD = {"ticker": "AAPL", "date": "2024-01-01", "close": 1}
LINE = b"ticker,date,close\nMSFT,2024-01-01,1\n"
FILE = LINE + b"".join(b"MSFT,2024-01-%02d,%d\n" % (1 + n % 28, n) for n in range(50))


@pytest.fixture(autouse=True)
def _asked_anew() -> None:
    disk.forget()


@pytest.fixture
def full(call: Caller, prices: Dataset, limit: Callable[[int], None]) -> Caller:
    """The API of a workspace whose storage is used up by one record."""
    call.fill([RECORD])
    Workspace.objects.update(plan="launch")
    limit(limits.usage_of(prices.workspace_id).used)
    return call


@pytest.fixture
def nearly_full_disk(settings: LazySettings) -> None:
    settings.DISK_RESERVE_MB, settings.DISK_RESERVE_IS_SET = 10**9, True


def no_room(reply: Reply, code: str = "storage-limit") -> dict[str, Any]:
    assert (reply.status, reply.code) == (507, code), reply.body
    problem = dict(reply.json())
    assert problem["title"] == ("The plan's storage is used up" if code == "storage-limit" else
                                "There is no room to store this")  # fmt: skip
    return problem


def records(dataset: Dataset) -> int:
    return writes.sizes([dataset.pk])[dataset.pk].records


# --- the plan ---------------------------------------------------------------------------------------------


def test_a_record_is_refused_with_what_is_used_and_allowed(full: Caller, prices: Dataset) -> None:
    problem = no_room(full.post("record/ACME/PRICES", [RECORD | {"ticker": "MSFT"}]))

    used = limits.usage_of(prices.workspace_id).used
    assert f"{used:,} of {used:,} bytes are in use" in problem["detail"]
    assert f"at most {used:,} bytes" in problem["needed"] and "Delete for good" in problem["needed"]
    assert problem["check"] == "body"
    assert records(prices) == 1


def test_a_dataset_made_for_records_that_do_not_fit_is_not_made(full: Caller) -> None:
    no_room(full.post("record/ACME/OTHER", [{"name": "a"}]))

    assert not Dataset.objects.filter(name="OTHER").exists()


@pytest.mark.parametrize("query", ["", "wait=true"])
@pytest.mark.parametrize("body", [LINE, gzip.compress(LINE)], ids=["plain", "gzip"])
def test_a_file_is_refused_before_it_is_kept(
    full: Caller, ingest_dir: Path, query: str, body: bytes
) -> None:  # fmt: skip
    no_room(full.post("data/ACME/PRICES", body, query))
    document = {"datasetId": "PRICES", "data": LINE.decode()}
    no_room(full.post("jobs/ACME/ingest", document))

    assert not IngestJob.objects.exists()
    assert not ingest_dir.exists() or not any(place.is_file() for place in ingest_dir.rglob("*"))


def test_a_file_whose_announced_length_does_not_fit_is_not_read(
    full: Caller, limit: Callable[[int], None]
) -> None:  # fmt: skip
    limit(1_000_000)

    reply = full.post("data/ACME/PRICES", b"x", headers={"Content-Length": "2000000"})

    assert "this needs 2,000,000 more" in no_room(reply)["detail"]


def test_whoever_waits_for_a_job_that_does_not_fit_is_told_so(
    full: Caller, prices: Dataset, worker: None, limit: Callable[[int], None], monkeypatch: Any
) -> None:  # fmt: skip
    """The worker has the plan as it is; the counters say that it is used up but for the file."""
    limit(10_000_000_000)
    room = 10_000_000_000 - limits.usage_of(prices.workspace_id).used
    limits.add(prices.workspace_id, room - len(FILE) - 1_000)

    problem = no_room(full.post("data/ACME/PRICES", FILE, "wait=true"))

    assert "10,000,000,000 bytes" in problem["detail"]
    assert records(prices) == 1
    job = full.api.get(full.url("jobs/ACME/ingest")).json()[0]
    assert job["status"] == "ERROR" and "10,000,000,000 bytes" in job["message"]


def test_reads_and_deletes_go_on_and_erasing_frees_room(full: Caller, as_admin: Client) -> None:
    assert full.get("PRICES/AAPL").status == 200
    assert full.delete("PRICES/AAPL").status == 200
    no_room(full.post("record/ACME/PRICES", [RECORD]))

    deletion = Deletion.objects.get()
    address = reverse("datasets:erase_records", args=["PRICES", deletion.pk])
    assert "Delete the records of AAPL for good?" in as_admin.get(address).content.decode()
    assert as_admin.post(address).status_code == 302

    assert full.post("record/ACME/PRICES", [RECORD]).status == 200
    assert AuditEvent.objects.get(action="records.erase").before == {"key": "AAPL", "records": 1}
    assert as_admin.post(address).status_code == 404


# --- the pages --------------------------------------------------------------------------------------------


def test_an_upload_on_the_page_is_refused_in_words(full: Caller, as_admin: Client) -> None:
    for address, more in ((reverse("datasets:create"), {"name": "NEW"}), (
        reverse("datasets:add", args=["PRICES"]), {"duplicates": "ignore"})):  # fmt: skip
        answer = as_admin.post(address, {"file": SimpleUploadedFile("a.csv", LINE), **more})

        assert answer.status_code == 422, address
        assert "storage of the Launch plan is used up" in answer.content.decode(), address


def test_the_pages_show_what_is_used_and_what_frees_room(
    full: Caller, as_admin: Client, limit: Callable[[int], None], prices: Dataset
) -> None:  # fmt: skip
    used = limits.usage_of(prices.workspace_id).used
    pages = (reverse("datasets:list"), reverse("team:workspace"))
    for most, words in (
        (used, "Nothing more is stored"),
        (used + 3, "Nearly full"),
        (used * 2, "Records, deleted"),
    ):
        limit(most)
        for address in pages:
            html = as_admin.get(address).content.decode()
            assert words in html and "<progress" in html, (address, most)
            assert f"{used} B of {most} B used" in html
    assert f"{used} B in all, of {used * 2} B in your plan" in as_admin.get(
        reverse("datasets:detail", args=["PRICES"])
    ).content.decode()  # fmt: skip
    Workspace.objects.update(plan="business")
    for address in pages:
        assert "no limit in your plan" in as_admin.get(address).content.decode()


def test_a_deleted_dataset_is_deleted_for_good_by_its_id(
    full: Caller, as_admin: Client, as_teammate: Client, prices: Dataset
) -> None:  # fmt: skip
    address = reverse("datasets:erase", args=["PRICES"])
    assert as_admin.post(address, {"name": "PRICES"}).status_code == 404, "it is not deleted"
    assert full.api.delete(full.url("datasets/ACME/PRICES")).status == 200
    assert "Delete PRICES for good" in as_admin.get(reverse("datasets:list")).content.decode()
    assert as_admin.post(address, {"name": "PRICE"}).status_code == 422
    assert as_teammate.post(address, {"name": "PRICES"}).status_code == 403

    answer = as_admin.post(address, {"name": "prices"}, follow=True)

    assert "PRICES is deleted for good." in answer.content.decode()
    assert not Dataset.objects.filter(pk=prices.pk).exists()
    assert limits.usage_of(prices.workspace_id).used == 0
    assert AuditEvent.objects.get(action="dataset.erase").target == "PRICES"


def test_very_much_is_erased_in_the_background(
    full: Caller, as_admin: Client, monkeypatch: pytest.MonkeyPatch, prices: Dataset
) -> None:  # fmt: skip
    full.delete("PRICES/AAPL")
    monkeypatch.setattr(deletes, "RECORDS_MAX", 0)
    before = limits.usage_of(prices.workspace_id).used

    answer = as_admin.post(
        reverse("datasets:erase_records", args=["PRICES", Deletion.objects.get().pk]), follow=True
    )

    assert "the room is free in a while" in answer.content.decode()
    assert "Recently deleted records" not in answer.content.decode()
    assert limits.usage_of(prices.workspace_id).used == before
    trash.purge(now=database_now())
    assert limits.usage_of(prices.workspace_id).used == 0


def test_doctor_names_workspaces_that_are_nearly_full(full: Caller, prices: Dataset) -> None:
    finding = contents.storage()

    assert finding.level == "warn" and "ACME 100 %" in finding.detail
    Workspace.objects.update(plan="business")
    assert contents.storage().level == "ok"


# --- the reserve of free disk -----------------------------------------------------------------------------


@pytest.mark.usefixtures("nearly_full_disk")
def test_below_the_reserve_nothing_more_is_written(
    call: Caller, prices: Dataset, settings: LazySettings, ingest_dir: Path
) -> None:  # fmt: skip
    settings.DISK_RESERVE_MB = 0
    call.fill([RECORD, RECORD | {"ticker": "MSFT"}])
    call.delete("PRICES/MSFT")
    job = IngestJob.objects.create(dataset=prices, status="ERROR")
    settings.DISK_RESERVE_MB = 10**9

    for reply in (
        call.post("record/ACME/PRICES", [RECORD]),
        call.post("data/ACME/PRICES", LINE),
        call.post("data/ACME/PRICES", LINE, "wait=true"),
        call.post("jobs/ACME/ingest", {"datasetId": "PRICES", "data": LINE.decode()}),
        call.get("PRICES", "export=true"),
    ):
        assert "nearly full" in no_room(reply, "storage-full")["detail"]
        assert int(reply.headers["retry-after"]) > 0
    for outcome in (
        making.restore_deletion(deletion=Deletion.objects.get(), by=None, now=database_now()),
        making.retry(job, by=None, now=database_now()),
    ):
        assert isinstance(outcome, Refusal) and outcome.code == "storage-full"
    assert not any(place.is_file() for place in ingest_dir.rglob("*"))

    # Reads, deletes and the settings of tokens go on.
    assert call.get("PRICES/AAPL").json() == [RECORD]
    assert call.api.post(call.url("tokens"), {"nickname": "New"}).status == 200
    assert call.delete("PRICES/AAPL").status == 200

    settings.DISK_RESERVE_MB = 0
    assert call.post("record/ACME/PRICES", [RECORD]).status == 200, "nothing needs a restart"


@pytest.mark.usefixtures("nearly_full_disk")
def test_a_job_stops_while_it_copies(prices: Dataset, settings: LazySettings) -> None:
    settings.DISK_RESERVE_MB = 0
    job = making.create(
        dataset_id=prices.pk, file=BytesIO(FILE), options=writing.IngestOptions(), now=database_now()
    )
    assert isinstance(job, IngestJob)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.storage.reservations.STEP_BYTES", 500)
        settings.DISK_RESERVE_MB = 10**9
        run(job)

    job.refresh_from_db()
    assert (job.status, job.refusal_code) == ("ERROR", "storage-full")
    assert "nearly full" in job.message and writes.sizes([prices.pk]) == {}


@pytest.mark.usefixtures("nearly_full_disk")
@pytest.mark.parametrize(("parts", "is_kept"), [(1, True), (3, False)])
def test_a_body_that_fits_into_memory_needs_no_disk(parts: int, is_kept: bool) -> None:
    coming = [{"type": "http.request", "body": b"x" * 500_000, "more_body": True} for _ in range(parts)]
    coming.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive() -> dict[str, Any]:
        return coming.pop(0)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "raw_path": b"/",
        "headers": [],
        "http_version": "2",
    }
    found = asyncio.run(DataRequest(scope, receive).spool(bytes_max=10**9))

    assert isinstance(found, Refusal) is not is_kept
    if isinstance(found, Refusal):
        assert found.code == "storage-full" and len(coming) == 1, "the rest is not read"
    else:
        found.close()


def test_the_reserve_is_what_is_set_or_less_of_a_small_disk(settings: LazySettings, tmp_path: Path) -> None:
    total = shutil.disk_usage(tmp_path).total
    for is_set, megabytes, expected in (
        (False, 10**9, int(total * 0.05)), (False, 1, 10**6), (True, 10**9, 10**15), (True, 0, 0)
    ):  # fmt: skip
        settings.DISK_RESERVE_IS_SET, settings.DISK_RESERVE_MB = is_set, megabytes

        assert abs(disk.look(tmp_path / "not" / "made").reserve_bytes - expected) < 10**6


def test_the_disk_is_asked_at_most_twice_a_second(
    settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.DISK_RESERVE_MB, settings.DISK_RESERVE_IS_SET = 1, True
    asked: list[Path] = []
    real = disk.look
    monkeypatch.setattr(disk, "look", lambda folder: asked.append(folder) or real(folder))
    monkeypatch.setattr(disk.time, "monotonic", lambda: 100.0)

    for _ in range(1_000):
        assert disk.shortage() is None
    assert len(asked) == len({Path(settings.DATA_DIR), Path(tempfile.gettempdir())})
    monkeypatch.setattr(disk.time, "monotonic", lambda: 100.6)
    disk.shortage()
    assert len(asked) == 4


# --- the folders ------------------------------------------------------------------------------------------


def test_the_folders_of_what_was_sent_are_closed_to_others(settings: LazySettings, tmp_path: Path) -> None:
    root = tmp_path / "data" / "ingest"
    settings.INGEST_DIR = root
    before = os.umask(0)
    try:
        kept_folders.make_folder(root / "uploads" / "a")
        kept_folders.make_folder(root / "b")
    finally:
        os.umask(before)

    for place in (root, root / "uploads", root / "uploads" / "a", root / "b"):
        assert stat.S_IMODE(place.stat().st_mode) == 0o700, place
    root.chmod(0o755)
    (root / "uploads").chmod(0o777)
    kept_folders.make_private()
    assert {stat.S_IMODE(place.stat().st_mode) for place in (root, root / "uploads")} == {0o700}
