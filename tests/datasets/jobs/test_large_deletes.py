"""A delete of more records than a request should wait for runs as a job, and so does its restore."""

from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse
from psycopg.types.json import Json

from apperate.accounts.models import AuditEvent
from apperate.database.clock import database_now
from apperate.kernel.refusals import Refusal
from datasets.api import job_documents
from datasets.jobs import making
from datasets.jobs import run as job_run
from datasets.models import Dataset, Deletion, IngestJob
from datasets.storage import deletes, writes
from tests.datasets.api.test_dataset_api import Caller, call, refused  # noqa: F401  a fixture
from tests.support.factories import TokenFactory
from tests.support.installation import until
from tests.support.records_api import count

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("ingest_dir")]
MANY = 100_001
KEY = "data/ACME/PRICES/BIG"


def fill(dataset: Dataset, records: int, *, key: str = "BIG") -> None:
    """Records of one key, one a second of time, as if they had been written now."""
    with connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO records (dataset_id, shard, key, subkey, date, updated, data)
               SELECT %s, %s, %s, '', timestamptz '2024-01-01' + n * interval '1 second',
                      clock_timestamp(), %s FROM generate_series(1, %s) AS n""",
            [dataset.pk, writes.shard_of(dataset.pk, key, is_wide=False), key,
             Json({"ticker": key, "date": "2024-01-01"}), records],
        )  # fmt: skip


def of_key(dataset: Dataset, key: str = "BIG") -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM records WHERE dataset_id = %s AND key = %s", [dataset.pk, key])
        return int(cursor.fetchone()[0])


def run(job: IngestJob) -> IngestJob:
    """What the queue's worker does with a job."""
    job_run.run(job)
    job.refresh_from_db()
    return job


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deletes, "RECORDS_MAX", 1)


def test_a_delete_over_100000_records_runs_as_a_job(
    call: Caller, prices: Dataset, worker: None, as_admin: Client  # noqa: F811
) -> None:  # fmt: skip
    fill(prices, MANY)
    before = count(prices) - MANY

    answer = call("DELETE", KEY)

    assert answer.status == 200, answer.body
    document = answer.json()
    job = IngestJob.objects.get(public_id=document["jobId"])
    assert document == {
        "success": True,
        "message": f"more than 100000 records are being deleted, jobId: {job.public_id} has been created",
        "jobId": job.public_id,
        "jobUrl": f"/v1/jobs/ACME/ingest/{job.public_id}",
    }
    ended = ends(call, document["jobUrl"])
    assert (ended["status"], ended["kind"], ended["recordsDeleted"]) == ("INGESTED", "DELETE", MANY)
    assert (ended["recordsIngested"], ended["recordsRestored"], ended["progress"]) == (0, 0, 1)
    assert count(prices) == before
    deletion = Deletion.objects.get()
    assert (deletion.key, deletion.records) == ("BIG", MANY)
    assert AuditEvent.objects.get(action="records.delete").actor.startswith("token tok_")

    page = as_admin.post(reverse("datasets:restore_records", args=["PRICES", deletion.pk]), follow=True)
    assert "100,001 records are being restored." in page.content.decode()
    restore = IngestJob.objects.get(kind=IngestJob.Kind.RESTORE)
    ended = ends(call, job_documents.job_url(restore))
    assert (ended["status"], ended["recordsRestored"]) == ("INGESTED", MANY), ended
    assert (of_key(prices), Deletion.objects.count()) == (MANY, 0)
    event = AuditEvent.objects.get(action="records.restore")
    assert event.after == {"key": "BIG", "records": MANY, "kept": 0} and event.user == restore.created_by
    html = as_admin.get(reverse("datasets:job", args=[restore.public_id])).content.decode()
    assert "Restore of the records of BIG of PRICES" in html and "Records restored" in html


def ends(call: Caller, address: str) -> dict[str, Any]:  # noqa: F811
    """The job's document once it has ended, as the worker beside goes on."""
    document: dict[str, Any] = {}

    def has_ended() -> object:
        document.update(call("GET", address.removeprefix("/v1/")).json())
        return document["ended"]

    until(has_ended, seconds=60)
    return document


def test_100000_records_are_deleted_at_once(call: Caller, prices: Dataset) -> None:  # noqa: F811
    fill(prices, MANY - 1)

    assert call("DELETE", KEY).json()["message"] == "deleted 100000 records"
    assert (of_key(prices), IngestJob.objects.count()) == (0, 0)


def test_what_is_written_after_the_request_stays(
    call: Caller, prices: Dataset, small_limit: None  # noqa: F811
) -> None:  # fmt: skip
    fill(prices, 2)
    job = IngestJob.objects.get(public_id=call("DELETE", KEY).json()["jobId"])
    assert of_key(prices) == 2
    call("POST", "record/ACME/PRICES", {"ticker": "BIG", "date": "2025-01-01"})

    run(job)

    assert (job.status, job.stored, of_key(prices)) == ("INGESTED", 2, 1)


def test_a_job_deletes_the_subkey_and_days_that_were_named(
    call: Caller, prices: Dataset, small_limit: None  # noqa: F811
) -> None:  # fmt: skip
    for day in range(1, 6):
        call("POST", "record/ACME/PRICES", {"ticker": "BIG", "date": f"2024-01-0{day}"})
    answer = call("DELETE", KEY, query="from=2024-01-02&to=2024-01-03")

    run(IngestJob.objects.get(public_id=answer.json()["jobId"]))

    left = call("GET", KEY, query="limit=9&sort=asc").json()
    assert [record["date"][:10] for record in left] == ["2024-01-01", "2024-01-04", "2024-01-05"]


def test_who_may_delete_but_not_write_sees_the_job(
    call: Caller, prices: Dataset, small_limit: None  # noqa: F811
) -> None:  # fmt: skip
    fill(prices, 2)
    cleaner, writer = (
        Caller(call.api, TokenFactory(workspace=prices.workspace, settings={"grants": {prices: action}}))
        for action in ("delete", "write")
    )

    address = cleaner("DELETE", KEY).json()["jobUrl"].removeprefix("/v1/")

    assert cleaner("GET", address).json()["kind"] == "DELETE"
    refused(writer("GET", address), 404, "not-found")
    assert len(cleaner("GET", "jobs/ACME/ingest").json()) == 1
    assert writer("GET", "jobs/ACME/ingest").json() == []


def test_a_cancelled_delete_changes_nothing_and_can_be_tried_again(
    call: Caller, prices: Dataset, small_limit: None  # noqa: F811
) -> None:  # fmt: skip
    fill(prices, 2)
    job = IngestJob.objects.get(public_id=call("DELETE", KEY).json()["jobId"])
    assert call("GET", f"jobs/ACME/{job.public_id}").json()["status"] == "CANCELLED"

    assert run(job).status == "CANCELLED"
    assert (of_key(prices), Deletion.objects.count()) == (2, 0)

    assert making.can_retry(job)
    again = making.retry(job, by=None, now=database_now())
    assert not isinstance(again, Refusal)
    assert (run(again).status, of_key(prices)) == ("INGESTED", 0)


def test_a_delete_of_a_dead_worker_is_done_by_the_next(
    call: Caller, prices: Dataset, small_limit: None  # noqa: F811
) -> None:  # fmt: skip
    fill(prices, 2)
    job = IngestJob.objects.get(public_id=call("DELETE", KEY).json()["jobId"])
    job_run._begin(job, now=database_now())  # So far came the worker that was killed.
    job.refresh_from_db()
    assert (job.status, of_key(prices)) == ("VALIDATING", 2)

    run(IngestJob.objects.get(pk=job.pk))

    job.refresh_from_db()
    assert (job.status, job.stored, of_key(prices)) == ("INGESTED", 2, 0)


def test_a_restore_is_one_job_however_often_it_is_asked_for(
    call: Caller, prices: Dataset, small_limit: None  # noqa: F811
) -> None:  # fmt: skip
    fill(prices, 2)
    run(IngestJob.objects.get(public_id=call("DELETE", KEY).json()["jobId"]))
    deletion = Deletion.objects.get()

    first = making.restore_deletion(deletion=deletion, by=None, now=database_now())
    second = making.restore_deletion(deletion=deletion, by=None, now=database_now())

    assert isinstance(first, IngestJob) and first == second
    assert (run(first).status, of_key(prices)) == ("INGESTED", 2)
    # Asked for once more with what was read before, it finds nothing to restore and says so.
    late = making.restore_deletion(deletion=deletion, by=None, now=database_now())
    assert isinstance(late, IngestJob)
    assert run(late).status == "ERROR" and "not restored yet" in late.message


def test_a_restore_that_the_schema_does_not_take_says_so(
    call: Caller, prices: Dataset, small_limit: None  # noqa: F811
) -> None:  # fmt: skip
    fill(prices, 2)
    run(IngestJob.objects.get(public_id=call("DELETE", KEY).json()["jobId"]))
    with connection.cursor() as cursor:
        cursor.execute('UPDATE deleted_records SET data = \'{"ticker": "BIG"}\'')

    job = making.restore_deletion(deletion=Deletion.objects.get(), by=None, now=database_now())

    assert isinstance(job, IngestJob)
    assert run(job).status == "ERROR" and "do not fit the schema" in job.message
    assert (of_key(prices), Deletion.objects.get().records) == (0, 2)
