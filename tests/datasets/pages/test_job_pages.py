"""The page of a job: how far it is, cancelled and tried again by an admin, and who else may not."""

from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse

from apperate.accounts.models import AuditEvent, User, Workspace
from apperate.database.clock import database_now
from datasets.jobs import making
from datasets.jobs import run as job_run
from datasets.models import Dataset, Deletion, IngestJob
from datasets.services import writing
from datasets.storage import deletes, job_files, writes
from tests.support.factories import DatasetFactory, WorkspaceFactory

pytestmark = pytest.mark.django_db

FILE = b"ticker,date,close,volume\nAAPL,2024-01-02,1.5,10\nAAPL,yesterday,1.5,10\n"
HTMX = {"HX-Request": "true"}
Status = IngestJob.Status


@pytest.fixture(autouse=True)
def ingest_dir(settings: LazySettings, tmp_path: Path) -> Path:
    settings.INGEST_DIR = tmp_path
    return tmp_path


@pytest.fixture
def prices(workspace: Workspace) -> Dataset:
    return DatasetFactory(workspace=workspace, name="PRICES", title="Daily prices")


def add(client: Client, body: bytes = FILE) -> IngestJob:
    """The job of a file that was sent on its page."""
    data = {"file": SimpleUploadedFile("more.csv", body), "duplicates": "ignore"}
    assert client.post(reverse("datasets:add", args=["PRICES"]), data).status_code == 302
    return IngestJob.objects.latest("pk")


def run(job: IngestJob) -> None:
    """Do what the worker does."""
    job_run.run(job, is_watched=False)  # The test is one transaction, which nobody else sees.


def tell(job: IngestJob, **facts: Any) -> None:
    """Write what the thread beside a running job writes."""
    IngestJob.objects.filter(pk=job.pk).update(started_at=database_now(), **facts)


def of(job: IngestJob, name: str = "job") -> str:
    return reverse(f"datasets:{name}", args=[job.public_id])


def page(response: HttpResponse) -> str:
    return " ".join(response.content.decode().split())


def actions() -> list[str]:
    """What was asked of jobs, after their uploads."""
    asked = AuditEvent.objects.filter(action__in=["job.cancel", "job.retry"]).order_by("pk")
    return list(asked.values_list("action", flat=True))


# --- how far it is ------------------------------------------------------------------------------------


def test_a_job_asks_for_its_progress_until_it_has_ended(as_owner: Client, prices: Dataset) -> None:
    job = add(as_owner)

    whole = page(as_owner.get(of(job)))
    running = as_owner.get(of(job), headers=HTMX)
    run(job)
    ended = as_owner.get(of(job), headers=HTMX)

    assert 'hx-trigger="every 1s"' in whole and "Refresh" in whole and "Cancel job" in whole
    assert 'hx-trigger="every 1s"' in page(running) and "The job waits for its turn." in page(running)
    # A button that is replaced every second is hard to press.
    assert "Cancel job" not in page(running) and "<html" not in page(running)
    assert (ended.headers["HX-Retarget"], ended.headers["HX-Reswap"]) == ("#job", "outerHTML")
    assert "hx-trigger" not in page(ended) and "Cancel job" not in page(ended)
    assert "Complete, 1 rejected" in page(ended) and "<html" not in page(ended)


@pytest.mark.parametrize(
    ("status", "rows", "part", "shown"),
    [
        (Status.VALIDATING, 0, 0.0, ('<progress value="0"', "<dd>0 B</dd><dd>of 70 B</dd>", "Checking")),
        (Status.VALIDATING, 1_234, 0.5, ('<progress value="49"', "<dd>1,234</dd>", "<dd>49%</dd>")),
        (Status.PROCESSING, 2_000, 1.0, ('<progress value="99"', "<dd>70 B</dd>", "Every line is checked")),
    ],
    ids=["begun", "half", "read"],
)
def test_rows_and_bytes_are_shown_while_a_file_is_read(
    as_teammate: Client, as_owner: Client, prices: Dataset, status: str, rows: int, part: float,
    shown: tuple[str, ...],
) -> None:  # fmt: skip
    job = add(as_owner)
    tell(job, status=status, rows_done=rows, bytes_done=int(len(FILE) * part))

    html = page(as_teammate.get(of(job)))

    for text in shown:
        assert text in html


def test_a_screen_reader_hears_of_progress_at_every_quarter(as_owner: Client, prices: Dataset) -> None:
    job = add(as_owner)
    heard = []
    for done in (20, 22, 40, 42):
        tell(job, status=Status.VALIDATING, bytes_done=done)
        html = page(as_owner.get(of(job), headers=HTMX))
        heard.append(html.partition('data-say="')[2].partition('"')[0][-12:])

    assert heard == ["25% is done.", "25% is done.", "50% is done.", "50% is done."]


@pytest.mark.parametrize("kind", ["DELETE", "RESTORE"])
def test_a_large_delete_or_restore_runs_without_figures_and_is_tried_again(
    as_owner: Client, owner: User, prices: Dataset, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(deletes, "RECORDS_MAX", 1)
    body = b'[{"ticker":"AAPL","date":"2024-01-01"},{"ticker":"AAPL","date":"2024-01-02"}]'
    writing.write_records(dataset_id=prices.pk, body=body, replaces=False, now=database_now())
    selection = writes.Selection("AAPL")
    job = making.delete_records(dataset_id=prices.pk, selection=selection, token_id=None, now=database_now())
    assert isinstance(job, IngestJob)
    if kind == "RESTORE":
        run(job)
        job = making.restore_deletion(deletion=Deletion.objects.get(), by=owner, now=database_now())
        assert isinstance(job, IngestJob)

    tell(job, status=Status.PROCESSING)
    running = page(as_owner.get(of(job)))
    as_owner.post(of(job, "job_cancel"))
    run(job)
    cancelled = page(as_owner.get(of(job)))
    as_owner.post(of(job, "job_retry"))
    run(IngestJob.objects.get(pk=job.pk))

    assert "<progress aria-label" in running and "Cancel job" in running
    assert "nothing was changed" in cancelled and "Try again" in cancelled
    job.refresh_from_db()
    assert (job.status, job.stored) == (Status.INGESTED, 2)
    assert actions() == ["job.cancel", "job.retry"]


def test_an_ended_job_shows_its_first_invalid_lines(as_owner: Client, prices: Dataset) -> None:
    lines = b"".join(b"AAPL,<b>%d,1,1\n" % n for n in range(30))
    job = add(as_owner, FILE + lines)
    run(job)

    html = page(as_owner.get(of(job)))

    assert "The first 20 of 31." in html and html.count('<tr><th scope="row"') == 20
    assert "&lt;b&gt;0" in html and "<b>0" not in html


def test_a_failed_job_says_why(as_owner: Client, prices: Dataset) -> None:
    job = add(as_owner, b'[{"ticker": "A", "date": "2024-01-02"}, {"ticker": ]')

    run(job)

    shown = page(as_owner.get(of(job)))
    assert "Failed" in shown and "Nothing was stored." in shown and "Try again" in shown
    assert writes.sizes([prices.pk]) == {}


@pytest.mark.parametrize(
    ("query", "shown", "said"),
    [
        ({}, {"PRICES", "PRICES_OLD"}, "Files on their way"),
        ({"dataset": "prices"}, {"PRICES"}, "Files sent to"),
        ({"dataset": "es_ol"}, {"PRICES_OLD"}, "Files on their way"),
        ({"dataset": "other"}, set(), "No job matches"),
        ({"dataset": "\0"}, {"PRICES", "PRICES_OLD"}, "Files on their way"),
        ({"state": "complete"}, {"PRICES"}, "Files on their way"),
        ({"state": "running"}, {"PRICES_OLD"}, "Files on their way"),
        ({"state": "running", "dataset": "PRICES"}, set(), "No job matches"),
        ({"state": "failed"}, set(), "No job is in this state now."),
        ({"state": "never"}, {"PRICES", "PRICES_OLD"}, "Files on their way"),
    ],
)
def test_the_job_list_is_narrowed_by_dataset_and_state(
    as_owner: Client, workspace: Workspace, prices: Dataset, query: dict[str, str], shown: set[str], said: str
) -> None:
    run(add(as_owner))
    IngestJob.objects.create(
        dataset=DatasetFactory(workspace=workspace, name="PRICES_OLD"), file_name="old.csv"
    )

    response = as_owner.get(reverse("datasets:jobs"), query)

    assert {job.dataset.name for job, _ in response.context["jobs"]} == shown
    assert said in page(response)


def test_the_job_list_shows_how_far_jobs_are_until_all_have_ended(as_owner: Client, prices: Dataset) -> None:
    job = add(as_owner)
    tell(job, status=Status.PROCESSING, bytes_done=len(FILE) // 2)

    running = page(as_owner.get(reverse("datasets:jobs")))
    tell(job, status=Status.CREATED)
    run(job)
    ended = page(as_owner.get(reverse("datasets:jobs")))

    assert "Writing, 49%" in running and 'hx-trigger="every 3s"' in running
    assert "Complete, 1 rejected" in ended and "hx-trigger" not in ended


def test_a_dataset_without_jobs_says_how_one_begins(as_owner: Client, prices: Dataset) -> None:
    assert "No jobs yet" in page(as_owner.get(reverse("datasets:jobs"), {"dataset": "PRICES"}))


# --- cancel and try again -----------------------------------------------------------------------------


def test_a_waiting_job_is_cancelled_at_once_and_tried_again(
    as_admin: Client, admin: User, as_owner: Client, prices: Dataset
) -> None:
    job = add(as_owner)

    cancelled = page(as_admin.post(of(job, "job_cancel"), follow=True))
    queued = page(as_admin.post(of(job, "job_retry"), follow=True))

    assert "The job is cancelled" in cancelled and "Try again" in cancelled
    assert "The job is queued again" in queued and "The job waits for its turn." in queued
    job.refresh_from_db()
    assert (job.status, job.created_by) == (Status.CREATED, admin)
    events = AuditEvent.objects.filter(action__in=["job.cancel", "job.retry"]).order_by("pk")
    assert [(event.action, event.user, event.target) for event in events] == [
        ("job.cancel", admin, "PRICES"),
        ("job.retry", admin, "PRICES"),
    ]
    assert events[0].after == {"job": job.public_id, "kind": "INGEST"}
    assert events[0].before == events[0].after | {"status": "CREATED"}


def test_a_running_job_is_being_cancelled_until_its_worker_notices(as_owner: Client, prices: Dataset) -> None:
    job = add(as_owner)
    tell(job, status=Status.VALIDATING)

    for _ in range(2):  # Who presses twice is told the same.
        html = page(as_owner.post(of(job, "job_cancel"), follow=True))
        assert "The dataset stays as it was." in html and "Being cancelled" in html
        assert "Cancel job" not in html
    run(job)

    assert "Cancelled" in page(as_owner.get(of(job)))
    assert actions() == ["job.cancel"]
    assert writes.sizes([prices.pk]) == {}


@pytest.mark.parametrize(
    ("status", "has_file", "name", "said"),
    [
        (Status.INGESTED, True, "job_cancel", "has ended and cannot be cancelled"),
        (Status.CANCELLED, True, "job_cancel", "has ended and cannot be cancelled"),
        (Status.INGESTED, True, "job_retry", "Only a job that failed or was cancelled"),
        (Status.VALIDATING, True, "job_retry", "Only a job that failed or was cancelled"),
        (Status.ERROR, False, "job_retry", "was removed, 24 hours after it ended"),
    ],
    ids=["cancel complete", "cancel cancelled", "retry complete", "retry running", "retry without file"],
)
def test_what_cannot_be_is_refused_in_words(
    as_owner: Client, prices: Dataset, status: str, has_file: bool, name: str, said: str
) -> None:
    job = add(as_owner)
    tell(job, status=status, ended_at=None if status == Status.VALIDATING else database_now())
    if not has_file:
        (job_files.folder(job) / "body").unlink()

    html = page(as_owner.post(of(job, name), follow=True))

    assert said in html
    button = "Cancel job" if name == "job_cancel" else "Try again"
    assert f"{button}</button>" not in html
    job.refresh_from_db()
    assert (job.status, job.cancel_requested_at) == (status, None)
    assert actions() == []


@pytest.mark.parametrize("name", ["job_cancel", "job_retry"])
def test_only_admins_of_the_workspace_cancel_and_try_again(
    as_teammate: Client, as_outsider: Client, client: Client, as_owner: Client, prices: Dataset, name: str
) -> None:
    """A teammate is told who may; another workspace's job is the 404 of one that does not exist."""
    job = add(as_owner)
    other = IngestJob.objects.create(dataset=DatasetFactory(workspace=WorkspaceFactory()), status=job.status)
    if name == "job_retry":
        IngestJob.objects.update(status=Status.ERROR, ended_at=database_now())

    teammate = as_teammate.get(of(job)).content.decode()
    assert "Cancel job" not in teammate and "Try again" not in teammate
    assert as_teammate.post(of(job, name)).status_code == 403
    assert as_outsider.post(of(job, name)).status_code == 404
    assert as_owner.post(of(other, name)).status_code == 404
    assert as_owner.get(of(job, name)).status_code == 405
    assert client.post(of(job, name)).url.startswith("/account/login/")

    assert actions() == []
    assert not IngestJob.objects.exclude(cancel_requested_at=None).exists()
    assert IngestJob.objects.values_list("status", flat=True).distinct().count() == 1
