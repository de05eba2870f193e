"""The pages of datasets: creating one from a file, looking at it, adding to it; and who may."""

import json
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import OperationalError, connection
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apperate.accounts.models import AuditEvent, User, Workspace
from apperate.database.clock import database_now
from datasets import selectors
from datasets.jobs import uploads
from datasets.jobs.run import run
from datasets.models import Dataset, IngestJob
from datasets.pages import operations_chart
from datasets.records.schema import Schema
from datasets.services import creating
from datasets.storage import job_files, writes
from tests.support.factories import LONG_AGO, DatasetFactory, RevisionFactory, TokenFactory
from tokens.models import UsageCounter

pytestmark = pytest.mark.django_db

CSV = b"Ticker,Date,Close\nAAPL,2024-01-02,185.64\nAAPL,2024-01-03,184.25\nMSFT,2024-01-02,370.87\n"
HTMX = {"HX-Request": "true"}


@pytest.fixture(autouse=True)
def ingest_dir(settings: LazySettings, tmp_path: Path) -> Path:
    settings.INGEST_DIR = tmp_path
    return tmp_path


def stored_files(place: Path) -> list[Path]:
    return [path for path in place.rglob("*") if path.is_file()]


def send(
    client: Client, body: bytes = CSV, *, name: str = "PRICES", file: str = "p.csv", **extra: Any
) -> Any:
    data = {"name": name, "file": SimpleUploadedFile(file, body)}
    return client.post(reverse("datasets:create"), data, **extra)


def run_jobs() -> None:
    """Do what the worker does with every job that waits."""
    for job in IngestJob.objects.filter(status=IngestJob.Status.CREATED).order_by("pk"):
        run(job, is_watched=False)  # The test is one transaction, which nobody else sees.


def page(response: HttpResponse) -> str:
    return " ".join(response.content.decode().split())


@pytest.fixture
def prices(workspace: Workspace) -> Dataset:
    return DatasetFactory(workspace=workspace, name="PRICES", title="Daily prices")


# --- from a file to a dataset -------------------------------------------------------------------------


def test_a_file_becomes_a_dataset_in_two_steps(
    as_owner: Client, owner: User, workspace: Workspace, ingest_dir: Path
) -> None:
    response = send(as_owner, name="prices")

    assert response.status_code == 302
    assert not Dataset.objects.exists()

    review = as_owner.get(response.url)
    shown = page(review)
    assert "<b>3</b> records with 3 columns in p.csv, 87 B" in shown
    assert '<option value="Ticker" selected>' in shown
    assert '<option value="Date" selected>' in shown
    assert "185.64" in shown

    created = as_owner.post(
        response.url, {"key": "Ticker", "subkey": "", "date": "Date", "title": "Daily prices"}
    )
    job = IngestJob.objects.get()
    assert created.status_code == 302
    assert created.url == reverse("datasets:job", args=[job.public_id])
    dataset = Dataset.objects.get()
    assert (dataset.name, dataset.title, dataset.created_by) == ("PRICES", "Daily prices", owner)
    assert dataset.column_mapping == {"key": "Ticker", "date": "Date"}
    assert list(dataset.schema_json["properties"]) == ["Ticker", "Date", "Close"]
    event = AuditEvent.objects.get(action="job.upload")
    assert (event.user, event.target, event.after["file"]) == (owner, "PRICES", "p.csv")

    run_jobs()
    ended = page(as_owner.get(created.url))
    assert "Complete" in ended and "<dd>3</dd>" in ended
    assert writes.sizes([dataset.pk])[dataset.pk].records == 3
    assert [path.name for path in stored_files(ingest_dir)] == ["invalid.csv"]


def test_a_type_can_be_chosen_and_lines_that_do_not_fit_are_listed(
    as_owner: Client, ingest_dir: Path
) -> None:
    address = send(
        as_owner, name="prices", body=b"Ticker,Date,Close\nA,2024-01-02,1.5\nB,2024-01-02,oops\n"
    ).url
    assert '<option value="string" selected>string</option>' in page(as_owner.get(address))
    chosen = {"key": "Ticker", "subkey": "", "date": "Date", "title": ""}

    refused = as_owner.post(address, chosen | {"type-0": "boolean", "type-2": "number"})
    assert refused.status_code == 422
    assert "Ticker" in page(refused) and not Dataset.objects.exists()
    assert '<option value="number" selected>number</option>' in page(refused)
    assert as_owner.post(address, chosen | {"type-2": "fruit"}).status_code == 422

    assert as_owner.post(address, chosen | {"type-2": "number"}).status_code == 302
    run_jobs()
    job = IngestJob.objects.get()
    assert (job.stored, job.invalid) == (1, 1)
    assert Dataset.objects.get().schema_json["properties"]["Close"] == {"type": "number"}


def test_htmx_is_sent_on_to_the_next_step(as_owner: Client) -> None:
    response = send(as_owner, headers=HTMX)

    assert response.status_code == 200
    assert response.headers["HX-Redirect"].startswith("/datasets/new/")


@pytest.mark.parametrize(
    ("file", "body", "said"),
    [
        ("empty.csv", b"", "The file is empty"),
        ("header.csv", b"a,b\n", "no records"),
        ("blank.csv", b" \n\n", "The file is empty"),
        ("twice.csv", b"a,b,a\n1,2,3\n", "names columns twice: &quot;a&quot;"),
        ("nameless.csv", b"a,,c\n1,2,3\n", "Column 2 has no name"),
        ("picture.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "The file"),
        ("book.xlsx", b"PK\x03\x04rest", "a ZIP archive or a workbook. Save it as CSV"),
        ("latin.csv", "name\nGöteborg\n".encode("latin-1"), "is not UTF-8"),
        ("broken.json", b'[{"a": 1}, {"a": ]', "not valid JSON"),
        ("number.json", b"[1, 2]", "no records"),
        ("none.json", b"[]", "no records"),
        ("forgotten.json", b"[object Object]", "forgot to serialise"),
        ("system.csv", b"_system_id,b\n1,2\n", "_system"),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value else "",
)
def test_a_file_that_is_no_table_is_refused_and_not_kept(
    as_owner: Client, ingest_dir: Path, file: str, body: bytes, said: str
) -> None:
    response = send(as_owner, body, file=file)

    assert response.status_code == 422
    assert said in page(response)
    assert not Dataset.objects.exists()
    assert stored_files(ingest_dir) == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a'b", "Use 1 to 63 letters, digits or underscores"),
        ('a"b', "Use 1 to 63 letters, digits or underscores"),
        ("a-b", "Use 1 to 63 letters, digits or underscores"),
        ("a b", "Use 1 to 63 letters, digits or underscores"),
        ("nul\0", "Use 1 to 63 letters, digits or underscores"),
        ("_SYSTEM_x", "not beginning with _system"),
        ("x" * 64, "Use at most 63"),
        ("", "Write an id"),
        ("../etc", "Use 1 to 63 letters"),
        ("größe", "Use 1 to 63 letters"),
        ("there", "THERE exists already"),
        ("gone", "deleted less than a day ago"),
    ],
    ids=ascii,
)
def test_an_id_that_cannot_be_is_refused_with_what_would_be_right(
    as_owner: Client, workspace: Workspace, ingest_dir: Path, name: str, said: str
) -> None:
    DatasetFactory(workspace=workspace, name="THERE")
    DatasetFactory(workspace=workspace, name="GONE", deleted_at=database_now())

    response = send(as_owner, name=name)

    assert response.status_code == 422
    assert said in page(response)
    assert Dataset.objects.count() == 2
    assert stored_files(ingest_dir) == []


def test_a_file_over_the_limit_is_refused_in_words(as_owner: Client, settings: LazySettings) -> None:
    settings.UPLOAD_BYTES_MAX = 1_000

    response = send(as_owner, b"a,b\n" + b"1,2\n" * 500)

    assert response.status_code == 422
    assert "The file has 2 KB; at most 1 KB can be uploaded at once" in page(response)


def test_no_file_is_refused(as_owner: Client) -> None:
    response = as_owner.post(reverse("datasets:create"), {"name": "PRICES"})

    assert response.status_code == 422
    assert "Choose a CSV, JSON, JSON Lines or Parquet file." in page(response)


def test_htmx_gets_the_form_alone_with_its_errors(as_owner: Client) -> None:
    response = send(as_owner, b"a,a\n1,2\n", headers=HTMX)

    assert response.status_code == 422
    assert "names columns twice" in page(response)
    assert "<html" not in page(response)


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"key": "", "subkey": "Ticker", "date": "Date"}, "Choose a key as well"),
        ({"key": "Ticker", "subkey": "Ticker", "date": "Date"}, "Ticker is the key already"),
        ({"key": "Date", "subkey": "", "date": "Date"}, "Date is in the index already"),
        ({"key": "Nope", "subkey": "", "date": "Date"}, "Select a valid choice"),
        ({"key": "Ticker", "subkey": "", "date": "Close"}, "Select a valid choice"),
    ],
)
def test_an_index_that_cannot_be_is_refused(as_owner: Client, chosen: dict[str, str], said: str) -> None:
    address = send(as_owner).url

    response = as_owner.post(address, chosen)

    assert response.status_code == 422
    assert said in page(response)
    assert not Dataset.objects.exists()


def test_a_dataset_without_key_and_date_is_made_when_that_is_chosen(as_owner: Client) -> None:
    address = send(as_owner).url

    as_owner.post(address, {"key": "", "subkey": "", "date": ""})
    run_jobs()

    dataset = Dataset.objects.get()
    assert dataset.column_mapping == {}
    shown = page(as_owner.get(reverse("datasets:detail", args=["PRICES"])))
    assert "The key is generated" in shown
    assert "The date of a record is the UTC day on which it was ingested" in shown
    assert writes.sizes([dataset.pk])[dataset.pk].records == 3


def test_a_name_taken_between_the_two_steps_is_refused(as_owner: Client, workspace: Workspace) -> None:
    address = send(as_owner).url
    DatasetFactory(workspace=workspace, name="PRICES")

    response = as_owner.post(address, {"key": "Ticker", "date": "Date"})

    assert response.status_code == 422
    assert "another id" in page(response)
    assert not IngestJob.objects.exists()


def test_a_dataset_is_not_left_behind_when_its_job_cannot_be_made(
    as_owner: Client, owner: User, workspace: Workspace, ingest_dir: Path
) -> None:
    upload_id = send(as_owner).url.rstrip("/").rpartition("/")[2]
    upload = uploads.find(upload_id, workspace=workspace, by=owner)
    assert upload is not None
    (uploads.kept(upload_id).place / uploads.BODY).unlink()

    outcome = uploads.finish(
        upload=upload, workspace=workspace, mapping={}, title="", by=owner, now=database_now()
    )

    assert "a day has passed" in outcome.detail  # type: ignore[union-attr]
    assert not Dataset.objects.exists()


def test_an_upload_is_open_to_the_person_who_sent_it_alone(
    as_owner: Client, as_admin: Client, as_outsider: Client
) -> None:
    address = send(as_owner).url

    assert as_owner.get(address).status_code == 200
    assert as_admin.get(address).status_code == 404
    assert as_outsider.get(address).status_code == 404


@pytest.mark.parametrize("upload_id", ["0" * 32, "..", "%2e%2e", "a" * 31])
def test_an_upload_that_does_not_exist_is_404(as_owner: Client, upload_id: str) -> None:
    assert as_owner.get(f"/datasets/new/{upload_id}/").status_code == 404


def test_the_plan_bounds_the_number_of_datasets(as_owner: Client, workspace: Workspace) -> None:
    workspace.plan = "launch"
    workspace.save(update_fields=["plan"])
    DatasetFactory.create_batch(20, workspace=workspace)
    address = send(as_owner).url

    response = as_owner.post(address, {"key": "Ticker", "date": "Date"})

    for name in ("create", "define"):
        assert "The Launch plan has room for 20 datasets" in page(as_owner.get(reverse(f"datasets:{name}")))
    assert response.status_code == 422
    assert "The Launch plan has room for 20 datasets" in page(response)


# --- adding to a dataset ------------------------------------------------------------------------------

MORE = b"ticker,date,close,volume\nAAPL,2024-01-02,1.5,10\nAAPL,yesterday,1.5,10\n"


def add(client: Client, body: bytes, **chosen: str) -> Any:
    data = {"file": SimpleUploadedFile("more.csv", body), "duplicates": "ignore"} | chosen
    return client.post(reverse("datasets:add", args=["PRICES"]), data)


def test_a_file_is_added_and_its_invalid_lines_can_be_downloaded(as_owner: Client, prices: Dataset) -> None:
    response = add(as_owner, MORE)
    run_jobs()

    shown = page(as_owner.get(response.url))
    job = IngestJob.objects.get()
    assert "Complete, 1 rejected" in shown
    lines = as_owner.get(reverse("datasets:job_invalid_lines", args=[job.public_id]))
    assert lines.headers["Content-Disposition"].startswith('attachment; filename="PRICES-')
    header, line = lines.content.decode().strip().splitlines()
    assert header == "jobId,lineNumber,error"
    assert line.startswith(f"{job.public_id},3,") and "date" in line


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"a,b\n1,2\n", "columns that are not properties of the dataset"),
        (b"ticker,close\nAAPL,1\n", "lacks required columns"),
        (b"ticker,date\n", "no rows"),
        (b"ticker,ticker\n1,2\n", "names columns twice"),
    ],
    ids=["other columns", "column missing", "no rows", "twice"],
)
def test_a_file_that_does_not_fit_the_dataset_is_refused_at_once(
    as_owner: Client, prices: Dataset, ingest_dir: Path, body: bytes, said: str
) -> None:
    response = add(as_owner, body)

    assert response.status_code == 422
    assert said in page(response)
    assert not IngestJob.objects.exists()
    assert stored_files(ingest_dir) == []


def test_replacing_is_a_choice(as_owner: Client, prices: Dataset) -> None:
    for close, choice in (("1.5", "ignore"), ("2.5", "ignore"), ("3.5", "replace")):
        add(as_owner, f"ticker,date,close\nAAPL,2024-01-02,{close}\n".encode(), duplicates=choice)
        run_jobs()

    record = selectors.last_record(prices, now=database_now())
    assert record is not None and json.loads(record)["close"] == 3.5
    assert [job.duplicates for job in IngestJob.objects.order_by("pk")] == [0, 1, 0]


# --- looking ------------------------------------------------------------------------------------------


def test_an_empty_list_leads_to_the_upload(as_owner: Client, as_teammate: Client) -> None:
    assert "Create your first dataset" in page(as_owner.get(reverse("datasets:list")))
    assert "Ask an admin" in page(as_teammate.get(reverse("datasets:list")))


def test_the_list_shows_counts_and_what_is_running(as_owner: Client, prices: Dataset) -> None:
    add(as_owner, MORE)
    run_jobs()
    add(as_owner, MORE)
    DatasetFactory(name="OF_OTHERS")

    shown = page(as_owner.get(reverse("datasets:list")))

    assert "PRICES" in shown and "Daily prices" in shown
    assert "1 running" in shown
    assert "OF_OTHERS" not in shown


def test_the_list_is_narrowed_by_words(as_owner: Client, prices: Dataset) -> None:
    DatasetFactory(workspace=prices.workspace, name="WEATHER")

    shown = page(as_owner.get(reverse("datasets:list"), {"q": "daily"}))

    assert "PRICES" in shown and "WEATHER" not in shown
    assert "No dataset matches “zz”" in page(as_owner.get(reverse("datasets:list"), {"q": "zz"}))


def test_a_list_of_5_000_datasets_is_paged_searched_and_takes_few_queries(
    as_owner: Client, workspace: Workspace
) -> None:
    one = DatasetFactory.build(workspace=workspace)
    Dataset.objects.bulk_create(
        Dataset(workspace=workspace, name=f"D{at:04}", title=f"Number {at}", schema_json=one.schema_json,
                column_mapping=one.column_mapping)
        for at in range(5_000)
    )  # fmt: skip
    address = reverse("datasets:list")
    with CaptureQueriesContext(connection) as asked:
        first = page(as_owner.get(address))
    last = page(as_owner.get(address, {"page": "100"}))
    found = page(as_owner.get(address, {"q": "number 4321"}))

    assert len([one for one in asked.captured_queries if one["sql"].startswith("SELECT")]) <= 10
    assert "5,000 datasets" in first and "Page 1 of 100" in first
    assert "D0049" in first and "D0050" not in first
    assert "D4999" in last and ">Next" not in last
    assert "D4321" in found and "1 dataset<" in found


def test_the_overview_shows_a_live_example_and_a_token_that_runs_it(
    as_owner: Client, prices: Dataset
) -> None:
    add(as_owner, MORE)
    run_jobs()
    token = TokenFactory(workspace=prices.workspace, nickname="Site", settings=False)
    RevisionFactory(token=token, number=1, saved_at=LONG_AGO, effective_at=LONG_AGO, grants={prices: "read"})
    UsageCounter.objects.create(
        token_id=token.pk,
        dataset_id=prices.pk,
        operation="read",
        outcome="ok",
        minute=database_now(),
        calls=7,
    )

    shown = page(as_owner.get(reverse("datasets:detail", args=["prices"])))

    assert "<dd>7</dd> <dd>from 1 token</dd>" in shown
    assert '<span class="s">&quot;AAPL&quot;</span>' in shown and '<span class="n">1.5</span>' in shown
    assert f'href="/v1/data/ACME/PRICES?last=1&amp;token={token.test_value}"' in shown
    assert '<span class="badge badge-blue">key</span>' in shown


@pytest.mark.parametrize("language", ["python", "javascript"])
def test_the_example_comes_in_other_languages(as_owner: Client, prices: Dataset, language: str) -> None:
    shown = page(as_owner.get(reverse("datasets:detail", args=["PRICES"]), {"lang": language}))

    assert "YOUR_TOKEN" in shown
    assert "No publishable token reads this dataset from anywhere yet" in shown


def test_the_example_is_shown_with_the_token_that_was_chosen(as_owner: Client, prices: Dataset) -> None:
    now = database_now()
    for name in ("Site", "Partner"):
        token = TokenFactory(workspace=prices.workspace, nickname=name, settings=False)
        RevisionFactory(
            token=token, number=1, saved_at=LONG_AGO, effective_at=LONG_AGO, grants={prices: "read"}
        )
    elsewhere = TokenFactory(nickname="Elsewhere")
    site, partner = selectors.open_tokens(prices, now=now)

    def code(chosen: str) -> str:
        query = {"lang": "python", "token": chosen}
        return page(as_owner.get(reverse("datasets:detail", args=["PRICES"]), query))

    assert partner.value in code(partner.public_id) and site.value not in code(partner.public_id)
    for chosen in ("", "nothing", elsewhere.public_id):
        assert site.value in code(chosen) and "Elsewhere" not in code(chosen)


@pytest.mark.parametrize(
    "changes",
    [
        {"grants": {}},
        {"signed_requests": True},
        {"allowed_domains": ["www.example.com"]},
        {"effective_at": None},
    ],
    ids=["no grant", "signed", "domains", "not active yet"],
)
def test_a_token_that_would_be_refused_is_not_offered(prices: Dataset, changes: dict[str, Any]) -> None:
    now = database_now()
    token = TokenFactory(workspace=prices.workspace, settings=False)
    facts = {"saved_at": LONG_AGO, "effective_at": LONG_AGO, "grants": {prices: "read"}} | changes
    if facts["effective_at"] is None:
        del facts["effective_at"], facts["saved_at"]
    RevisionFactory(token=token, number=1, **facts)

    assert selectors.open_tokens(prices, now=now) == []


@pytest.mark.check("S42")
def test_what_is_in_a_record_cannot_become_markup(as_owner: Client, prices: Dataset) -> None:
    add(as_owner, b'ticker,date\n"<script>alert(1)</script>",2024-01-02\n')
    run_jobs()

    response = as_owner.get(reverse("datasets:detail", args=["PRICES"]))

    assert b"<script>alert" not in response.content
    assert b"&lt;script&gt;alert(1)" in response.content


@pytest.mark.check("S42")
def test_a_name_in_a_file_cannot_become_markup(as_owner: Client) -> None:
    address = send(as_owner, b"<b>x</b>,b\n1,2\n", file="<i>y.csv").url

    response = as_owner.get(address)

    assert b"<b>x</b>" not in response.content
    assert b"&lt;b&gt;x" in response.content


# --- who may ------------------------------------------------------------------------------------------


@pytest.fixture
def addresses(as_owner: Client, prices: Dataset) -> dict[str, str]:
    job = add(as_owner, MORE).url
    return {
        "list": reverse("datasets:list"),
        "detail": reverse("datasets:detail", args=["PRICES"]),
        "jobs": reverse("datasets:jobs"),
        "job": job,
        "lines": f"{job}invalid.csv",
        "create": reverse("datasets:create"),
        "add": reverse("datasets:add", args=["PRICES"]),
    }


def test_a_teammate_looks_and_does_not_change(as_teammate: Client, addresses: dict[str, str]) -> None:
    for name in ("list", "detail", "jobs", "job", "lines"):
        response = as_teammate.get(addresses[name])
        assert response.status_code == 200
        assert "Add data" not in response.content.decode()
    for name in ("create", "add"):
        assert as_teammate.get(addresses[name]).status_code == 403
    assert send(as_teammate, name="NEW").status_code == 403
    assert add(as_teammate, MORE).status_code == 403
    assert Dataset.objects.count() == 1
    assert IngestJob.objects.count() == 1


@pytest.mark.check("S13")
def test_an_outsider_gets_the_404_of_what_does_not_exist(
    as_outsider: Client, addresses: dict[str, str]
) -> None:
    for name in ("detail", "job", "lines", "add"):
        assert as_outsider.get(addresses[name]).status_code == 404
    assert "PRICES" not in as_outsider.get(addresses["list"]).content.decode()
    assert "more.csv" not in as_outsider.get(addresses["jobs"]).content.decode()


def test_somebody_who_is_not_signed_in_signs_in_first(client: Client, addresses: dict[str, str]) -> None:
    for address in addresses.values():
        response = client.get(address)
        assert response.status_code == 302
        assert response.url.startswith("/account/login/")


def test_deleted_datasets_are_not_shown(as_owner: Client, addresses: dict[str, str]) -> None:
    Dataset.objects.update(deleted_at=database_now())

    assert as_owner.get(addresses["detail"]).status_code == 404
    assert as_owner.get(addresses["job"]).status_code == 404
    html = as_owner.get(addresses["list"]).content.decode()
    assert f'href="{addresses["detail"]}"' not in html and "Restore PRICES" in html


# --- what stands behind the pages ---------------------------------------------------------------------


def test_uploads_nobody_came_back_for_are_removed(
    as_owner: Client, ingest_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = send(as_owner).url
    monkeypatch.setattr(job_files, "UPLOAD_HOURS", -1)

    send(as_owner, name="OTHER")

    assert as_owner.get(old).status_code == 404


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1_000, "1 KB"),
        (1_250, "1.2 KB"),
        (138_400, "138 KB"),
        (5 * 10**9, "5 GB"),
    ],
)
def test_sizes_are_said_in_decimal_units(size: int, words: str) -> None:
    assert selectors.size_words(size) == words


def test_properties_keep_their_order(workspace: Workspace) -> None:
    """A CSV answer and the page show columns in the order in which they came."""
    names = ["zz", "b", "a", "ccc"]
    properties = {name: {"type": "string"} for name in names}
    dataset = creating.create_from_document(
        workspace=workspace,
        document={"dataset": {"datasetId": "ORDER", "schema": {"properties": properties}}},
        by=None,
        now=database_now(),
    )

    assert isinstance(dataset, Dataset)
    dataset.refresh_from_db()
    assert isinstance(dataset.schema, Schema)
    assert list(dataset.schema.names) == names


def test_a_long_record_is_cut_in_the_example() -> None:
    written = selectors.pretty(json.dumps({"text": "x" * 10_000}))

    assert len(written) < 5_000 and written.endswith("…")


def test_a_file_keeps_its_bytes_on_the_way(owner: User, workspace: Workspace) -> None:
    upload = uploads.keep(
        workspace=workspace, by=owner, name="X", file_name="x.csv", chunks=BytesIO(CSV), now=database_now()
    )

    assert isinstance(upload, uploads.Upload)
    assert (uploads.kept(upload.public_id).place / uploads.BODY).read_bytes() == CSV
    assert (upload.rows, upload.unreadable, upload.size_bytes) == (3, 0, len(CSV))
    assert uploads.kept(upload.public_id).place.stat().st_mode & 0o777 == 0o700


# --- operators ----------------------------------------------------------------------------------------


@pytest.fixture
def as_operator(client: Client, db: None) -> Client:
    client.force_login(User.objects.create_superuser("operator@example.com", "a long password"))
    return client


def test_operators_set_a_price_and_nothing_else(as_operator: Client, prices: Dataset) -> None:
    address = f"/operator/datasets/dataset/{prices.pk}/change/"

    response = as_operator.post(address, {"credits_per_record": "5", "name": "STOLEN"})

    assert response.status_code == 302
    prices.refresh_from_db()
    assert (prices.credits_per_record, prices.version, prices.name) == (5, 2, "PRICES")
    event = AuditEvent.objects.get(action="dataset.price_set")
    assert (event.target, event.after) == ("PRICES", {"credits_per_record": 5})
    assert as_operator.post(f"/operator/datasets/dataset/{prices.pk}/delete/").status_code == 403
    assert as_operator.get("/operator/datasets/dataset/add/").status_code == 403


def test_operators_look_at_jobs(as_operator: Client, prices: Dataset) -> None:
    job = IngestJob.objects.create(dataset=prices, file_name="a.csv")

    assert "a.csv" in page(as_operator.get("/operator/datasets/ingestjob/"))
    assert as_operator.post(f"/operator/datasets/ingestjob/{job.pk}/change/", {}).status_code == 403


# --- what was done with it ----------------------------------------------------------------------------


def use(token: Any, dataset: Dataset, at: datetime, calls: int, **facts: Any) -> None:
    facts = {"operation": "read", "outcome": "ok"} | facts
    UsageCounter.objects.create(
        token_id=token.pk, dataset_id=dataset.pk, minute=at, calls=calls, records=calls * 2, **facts
    )


def test_operations_are_counted_by_month_and_by_token(prices: Dataset) -> None:
    now = datetime(2026, 2, 10, tzinfo=UTC)
    busy, calm = (TokenFactory(workspace=prices.workspace, nickname=name) for name in ("Busy", "Calm"))
    foreign = TokenFactory()
    use(busy, prices, datetime(2026, 1, 31, 23, 59, tzinfo=UTC), 5)
    use(busy, prices, datetime(2026, 2, 1, tzinfo=UTC), 7)
    use(busy, prices, datetime(2026, 2, 2, tzinfo=UTC), 2, operation="write")
    use(calm, prices, datetime(2026, 2, 3, tzinfo=UTC), 1, operation="delete")
    use(foreign, prices, datetime(2026, 2, 3, 1, tzinfo=UTC), 3)
    use(calm, prices, datetime(2026, 2, 4, tzinfo=UTC), 99, outcome="dataset-not-granted")
    use(calm, DatasetFactory(workspace=prices.workspace), datetime(2026, 2, 4, tzinfo=UTC), 50)
    use(calm, prices, datetime(2025, 8, 31, tzinfo=UTC), 40)

    found = operations_chart.operations_of(prices, now=now)

    assert found is not None
    assert [f"{month.begins_at:%Y-%m}" for month in found.months] == [
        "2025-09", "2025-10", "2025-11", "2025-12", "2026-01", "2026-02",
    ]  # fmt: skip
    assert [(m.reads, m.writes, m.deletes, m.records) for m in found.months[-2:]] == [
        (5, 0, 0, 10),
        (10, 2, 1, 26),
    ]
    assert [(row.token, row.calls) for row in found.tokens] == [(busy, 9), (None, 3), (calm, 1)]
    assert "February 2026: Reads 10; Writes 2; Deletes 1" in found.chart


def test_what_takes_too_long_to_count_is_said_and_does_not_break_the_page(
    as_teammate: Client, prices: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_time(**_: int) -> None:
        raise OperationalError("canceling statement due to statement timeout")

    monkeypatch.setattr(writes, "limit_statement", no_time)

    assert selectors.reads_of(prices, now=database_now()) is None
    assert "too many to count here" in page(as_teammate.get(reverse("datasets:detail", args=["PRICES"])))


def test_operations_are_shown_as_a_drawing_and_as_a_table(as_teammate: Client, prices: Dataset) -> None:
    token = TokenFactory(workspace=prices.workspace, nickname="Busy <b>")
    use(token, prices, database_now(), 1_234)

    shown = page(as_teammate.get(reverse("datasets:detail", args=["PRICES"])))

    assert '<svg class="plot"' in shown and "Busy &lt;b&gt;" in shown
    assert shown.count('<td class="num">1,234</td>') == 2


def test_a_dataset_that_nobody_used_says_so(as_teammate: Client, prices: Dataset) -> None:
    assert "No request has used this dataset yet" in page(
        as_teammate.get(reverse("datasets:detail", args=["PRICES"]))
    )
