"""The dataset pages in a real browser: an upload with its progress, a job that follows itself, no script."""

from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import connection
from playwright.sync_api import Page, expect

from apperate.accounts.models import User
from apperate.database.clock import database_now
from datasets.jobs import making
from datasets.jobs.run import run
from datasets.models import Dataset, IngestJob
from datasets.services import writing
from datasets.storage import writes
from tests.conftest import sign_in_browser
from tests.support.factories import DatasetFactory, TokenFactory
from tokens.models import UsageCounter

pytestmark = pytest.mark.django_db(transaction=True)
Axe = Callable[[Page], None]
PAGES = (
    "/datasets/",
    "/datasets/PRICES/",
    "/datasets/PRICES/docs/",
    "/datasets/PRICES/records/?key=AAPL",
    "/datasets/PRICES/schema/",
    "/datasets/PRICES/delete/",
    "/jobs/",
)
CSV = "Ticker,Date,Close\nAAPL,2024-01-02,185.64\nAAPL,never,184.25\nMSFT,2024-01-02,370.87\n"


@pytest.fixture(autouse=True)
def ingest_dir(settings: LazySettings, tmp_path: Path) -> Path:
    settings.INGEST_DIR = tmp_path / "ingest"
    return tmp_path / "ingest"


@pytest.fixture(autouse=True)
def empty_queue(transactional_db: None) -> Iterator[None]:
    yield
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_jobs")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "prices.csv"
    path.write_text(CSV)
    return path


@pytest.fixture
def visit(page: Page, live_server: Any, owner: User) -> Callable[[str], Page]:
    """Open an address as the owner."""

    def open_page(address: str) -> Page:
        sign_in_browser(page, live_server, owner)
        page.goto(live_server.url + address)
        return page

    return open_page


def walk(page: Page, file: Path) -> None:
    """From the empty list to a job that waits."""
    page.get_by_role("link", name="Create your first dataset").click()
    page.get_by_label("Dataset ID").fill("prices")
    page.get_by_label("Choose a CSV").set_input_files(file)
    page.get_by_role("button", name="Upload and continue").click()
    expect(page.get_by_role("heading", name="PRICES")).to_be_visible()
    # "never" is no date, so Date is text: the key is what tells the records apart with nothing else.
    page.get_by_label("Key", exact=True).select_option("Close")
    page.get_by_role("button", name="Create dataset").click()
    expect(page.get_by_role("heading", name="prices.csv into PRICES")).to_be_visible()
    assert IngestJob.objects.get().status == IngestJob.Status.CREATED


def test_an_upload_is_walked_to_its_end_without_a_reload(
    visit: Callable[[str], Page], file: Path, axe: Axe
) -> None:
    page = visit("/datasets/")
    axe(page)
    heard: list[str] = []
    page.expose_function("heard", lambda text: heard.append(text))
    page.add_init_script(
        """new MutationObserver((records) => {
            for (const { target } of records)
                if (target.matches?.("[data-upload-name], [data-upload-sent]")) heard(target.textContent);
        }).observe(document, { subtree: true, childList: true })"""
    )

    walk(page, file)

    assert {"prices.csv", "is sent and being checked"} <= set(heard)
    page.evaluate("window.stayed = true")
    expect(page.get_by_text("The job waits for its turn.")).to_be_visible()
    axe(page)
    run(IngestJob.objects.get())
    expect(page.get_by_text("Complete", exact=True)).to_be_visible()
    assert page.evaluate("window.stayed")
    axe(page)
    page.get_by_role("link", name="Open PRICES").click()
    expect(page.get_by_label("Example response")).to_contain_text('"Ticker": "MSFT"')
    axe(page)


@pytest.mark.browser_context_args(java_script_enabled=False)
def test_an_upload_is_walked_to_its_end_without_script(visit: Callable[[str], Page], file: Path) -> None:
    page = visit("/datasets/")

    walk(page, file)

    run(IngestJob.objects.get())
    page.get_by_role("link", name="Refresh").click()
    expect(page.get_by_text("Complete", exact=True)).to_be_visible()


def test_an_upload_that_is_stopped_can_be_sent_again(visit: Callable[[str], Page], tmp_path: Path) -> None:
    # htmx writes the end of a stopped request to the console as an error, so another page is used here.
    watched = visit("/datasets/new/")
    page = watched.context.new_page()
    page.goto(watched.url)
    large = tmp_path / "large.csv"
    large.write_text(CSV + "IBM,2024-01-02,1.5\n" * 100_000)
    page.get_by_label("Choose a CSV").set_input_files(large)
    network = page.context.new_cdp_session(page)
    network.send("Network.enable")
    slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 100_000}
    network.send("Network.emulateNetworkConditions", slow)

    page.get_by_role("button", name="Upload and continue").click()
    expect(page.get_by_text("of 1.9 MB")).to_be_visible()
    page.get_by_role("button", name="Stop the upload").click()

    expect(page.get_by_role("button", name="Stop the upload")).to_be_hidden()
    network.send("Network.emulateNetworkConditions", slow | {"uploadThroughput": -1})
    page.get_by_role("button", name="Upload and continue").click()
    expect(page.get_by_role("button", name="Create dataset")).to_be_visible()


def test_a_mistake_keeps_the_chosen_file_and_is_said_at_its_field(
    visit: Callable[[str], Page], file: Path, axe: Axe
) -> None:
    page = visit("/datasets/new/")
    page.get_by_label("Dataset ID").fill("it's mine")
    page.get_by_label("Choose a CSV").set_input_files(file)

    page.get_by_role("button", name="Upload and continue").click()

    field = page.get_by_label("Dataset ID")
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_text("Use 1 to 63 letters, digits or underscores")).to_be_visible()
    assert page.get_by_label("Choose a CSV").evaluate("input => input.files[0].name") == "prices.csv"
    axe(page)
    field.fill("mine")
    page.get_by_role("button", name="Upload and continue").click()
    expect(page.get_by_role("heading", name="MINE")).to_be_visible()
    assert not Dataset.objects.exists()


@pytest.mark.parametrize("width", [320, 390])
def test_nothing_scrolls_sideways_on_a_phone(visit: Callable[[str], Page], file: Path, width: int) -> None:
    page = visit("/datasets/")
    walk(page, file)
    run(IngestJob.objects.get())
    job = page.url
    page.set_viewport_size({"width": width, "height": 800})

    for address in (
        "/datasets/",
        "/datasets/new/",
        "/datasets/PRICES/",
        "/datasets/PRICES/add/",
        "/jobs/",
        job,
    ):
        visit(address) if address.startswith("/") else page.goto(address)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), address


@pytest.fixture
def used(owner: User) -> Dataset:
    """PRICES with a job that stored records, a delete that can be taken back, and usage."""
    now, workspace = database_now(), owner.memberships.get().workspace
    dataset = DatasetFactory(workspace=workspace, name="PRICES", title="Daily prices")
    body = b'[{"ticker":"AAPL","date":"2024-01-01"},{"ticker":"AAPL","date":"2024-01-02","close":1.5}]'
    for key in (b"AAPL", b"MSFT"):
        sent = body.replace(b"AAPL", key)
        writing.write_records(dataset_id=dataset.pk, body=sent, replaces=False, now=now)
    making.delete_records(dataset_id=dataset.pk, selection=writes.Selection("MSFT"), token_id=None, now=now)
    file = BytesIO(b"ticker,date,close\nIBM,2024-01-02,4\nIBM,never,1\n")
    options = writing.IngestOptions(replaces=False)
    job = making.create(
        dataset_id=dataset.pk, file=file, options=options, now=now, by=owner, file_name="ibm.csv"
    )
    assert isinstance(job, IngestJob)
    run(job)
    token = TokenFactory(workspace=workspace, nickname="Site")
    for operation, calls in (("read", 120), ("write", 30), ("delete", 4)):
        UsageCounter.objects.create(
            token_id=token.pk,
            dataset_id=dataset.pk,
            operation=operation,
            outcome="ok",
            minute=now,
            calls=calls,
        )
    return dataset


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_of_a_used_dataset_are_accessible(
    visit: Callable[[str], Page], used: Dataset, axe: Axe, scheme: str
) -> None:
    page = visit("/datasets/PRICES/")
    page.emulate_media(color_scheme=scheme)
    job = IngestJob.objects.get()
    for address in (*PAGES, f"/jobs/{job.public_id}/"):
        visit(address)
        for summary in page.locator("details:not([open]) > summary").all():
            summary.click()
        axe(page)


def test_a_used_dataset_fits_a_phone_with_restore_at_the_right(
    visit: Callable[[str], Page], used: Dataset
) -> None:
    page = visit("/datasets/PRICES/")
    page.set_viewport_size({"width": 390, "height": 800})
    for address in PAGES:
        visit(address)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), address

    visit("/datasets/PRICES/")
    button = page.get_by_role("button", name="Restore the records of MSFT").bounding_box()
    card = page.locator("section", has=page.get_by_role("heading", name="Recently deleted")).bounding_box()

    assert button and card
    assert card["x"] + card["width"] - button["x"] - button["width"] < 40
