"""Ingestion jobs over HTTP: list, read, cancel, and an upload inside a document."""

from datetime import timedelta
from typing import Any

import pytest

from apperate.accounts.models import AuditEvent
from apperate.database.clock import database_now
from datasets.api import job_documents
from datasets.jobs.run import run
from datasets.models import Dataset, IngestJob
from tests.support.data_plane_client import DataPlaneClient
from tests.support.factories import DatasetFactory, TokenFactory
from tests.support.records_api import Caller, refused
from tokens.rules.token_format import TokenKind

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("ingest_dir", "empty_queue")]

CSV = b"ticker,date,close\nAAPL,2024-01-02,1.5\n"
JOBS = "jobs/ACME/ingest"


def upload(call: Caller, dataset: str = "PRICES") -> str:
    return str(call.post(f"data/ACME/{dataset}", CSV).json()["jobId"])


def listed(call: Caller, query: str = "") -> list[str]:
    reply = call.api.get(call.url(JOBS, query))
    assert reply.status == 200, reply.body
    return [job["jobId"] for job in reply.json()]


@pytest.fixture
def three(call: Caller, prices: Dataset) -> list[str]:
    """Three jobs, oldest first, made on three days."""
    ids = [upload(call) for _ in range(3)]
    now = database_now()
    for days, job in zip((2, 1, 0), ids, strict=True):
        IngestJob.objects.filter(public_id=job).update(created_at=now - timedelta(days=days))
    return ids


def test_jobs_are_listed_newest_first_as_documents(call: Caller, three: list[str]) -> None:
    reply = call.api.get(call.url(JOBS))

    assert [job["jobId"] for job in reply.json()] == three[::-1]
    first = reply.json()[0]
    assert (first["datasetId"], first["status"], first["lastGoodStatus"]) == ("PRICES", "CREATED", "CREATED")
    assert (first["progress"], first["started"], first["ended"]) == (0.0, None, None)
    assert isinstance(first["created"], int)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("limit=2", [2, 1]),
        ("sort=ASC", [0, 1, 2]),
        ("sort=asc&limit=1", [0]),
        ("last=1", [2]),
        ("last=2&sort=asc", [1, 2]),
        ("first=2", [0, 1]),
        ("first=2&sort=desc", [1, 0]),
        ("last=1&limit=3", [2]),
        ("limit=undefined&from=null&foo=1", [2, 1, 0]),
    ],
)
def test_a_list_of_jobs_knows_its_parameters(
    call: Caller,
    three: list[str],
    query: str,
    expected: list[int],
) -> None:
    assert listed(call, query) == [three[at] for at in expected]


def test_a_list_of_jobs_knows_from_and_to(call: Caller, three: list[str]) -> None:
    day = IngestJob.objects.get(public_id=three[1]).created_at.date()

    assert listed(call, f"from={day}") == [three[2], three[1]]
    assert listed(call, f"to={day}") == [three[1], three[0]]
    assert listed(call, f"from={day}&to={day}") == [three[1]]


@pytest.mark.parametrize("query", ["limit=x", "from=yesterday", "sort=up", "last=0"])
def test_a_bad_parameter_of_a_list_of_jobs_is_named(call: Caller, three: list[str], query: str) -> None:
    assert query in refused(call.api.get(call.url(JOBS, query)))["received"]


def test_the_jobs_of_a_list_are_those_of_datasets_the_token_may_write(
    api: DataPlaneClient,
    call: Caller,
    prices: Dataset,
) -> None:
    other = DatasetFactory(workspace=prices.workspace, name="OTHER")
    mine, others = upload(call), upload(call, "OTHER")

    def seen(**settings: Any) -> list[str]:
        token = TokenFactory(workspace=prices.workspace, settings=settings)
        return [job["jobId"] for job in api.get(f"/v1/{JOBS}?token={token.test_value}").json()]

    assert seen(grants={prices: "write"}) == [mine]
    assert seen(grants={other: "read"}) == []
    assert seen(all_datasets_write=True) == [others, mine]
    stranger = TokenFactory(kind=TokenKind.SECRET)
    assert api.get(f"/v1/{JOBS}?token={stranger.test_value}").json() == []
    assert listed(call) == [others, mine]
    refused(api.get(f"/v1/{JOBS}"), 401, "token-missing")


def test_the_old_address_cancels_a_job(api: DataPlaneClient, call: Caller, prices: Dataset) -> None:
    job = upload(call)
    writer = TokenFactory(workspace=prices.workspace, settings={"all_datasets_write": True})

    refused(api.get(f"/v1/jobs/ACME/{job}?token={writer.test_value}"), 401, "secret-required")
    reply = call.api.get(call.url(f"jobs/ACME/{job}"))

    assert reply.status == 200, reply.body
    assert reply.json()["success"] is True and reply.json()["status"] == "CANCELLED"
    assert call.api.get(call.url(f"{JOBS}/{job}")).json()["status"] == "CANCELLED"
    who = AuditEvent.objects.get(action="job.cancel")
    assert who.actor.startswith("token ") and who.address == "127.0.0.1"
    refused(call.api.get(call.url(f"jobs/ACME/{job}")))
    refused(call.api.get(call.url(f"jobs/ACME/{'0' * 32}")), 404, "not-found")


@pytest.mark.parametrize(
    "data",
    ["ticker,date\nAAPL,2024-01-02\n", [{"ticker": "AAPL", "date": "2024-01-02"}]],
    ids=["text", "records"],
)
def test_a_document_is_an_upload_too(call: Caller, prices: Dataset, data: Any) -> None:
    reply = call.post(
        JOBS, {"datasetId": "prices", "data": data, "maximumValidationErrors": 3, "overwrite": True}
    )

    assert reply.status == 200, reply.body
    job = IngestJob.objects.get(public_id=reply.json()["jobId"])
    assert (job.dataset_id, job.invalid_max, job.replaces_duplicates) == (prices.pk, 3, True)
    run(job)
    assert job.stored == 1


@pytest.mark.parametrize(
    ("body", "received"),
    [
        (b'{"datasetId": "PRICES"}', "data"),
        (b'{"data": "a"}', "datasetId"),
        (b"[]", "datasetId"),
        (b'{"datasetId": "PRICES", "data": "ticker,date\\nA,2024-01-02", "wait": "x"}', "wait=x"),
        (b'{"datasetId": "PRICES", "data": "ticker\\ud800"}', None),
        (b"[object Object]", None),
        (b"{", None),
    ],
)
def test_a_document_without_what_it_needs_is_refused(
    call: Caller,
    prices: Dataset,
    body: bytes,
    received: str | None,
) -> None:
    problem = refused(call.post(JOBS, body))

    assert received is None or received in problem["received"]
    assert not IngestJob.objects.exists()


@pytest.mark.parametrize(
    ("stored", "code", "check"),
    [
        ("", "invalid-values", "body"),
        ("invalid-values", "invalid-values", "body"),
        ("storage-limit", "storage-limit", "body"),
        ("storage-full", "storage-full", "body"),
        ("internal-error", "internal-error", ""),
    ],
)
def test_who_waits_for_a_job_is_told_whose_fault_it_was(
    call: Caller, prices: Dataset, stored: str, code: str, check: str
) -> None:
    upload(call)
    IngestJob.objects.update(status=IngestJob.Status.ERROR, refusal_code=stored, message="Why.")

    told = call.api.run(job_documents.wait_for(IngestJob.objects.get()))

    assert (told.code, told.check, told.detail) == (code, check, "Why.")
