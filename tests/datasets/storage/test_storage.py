"""The storage of a plan: counted as it is written, never passed, and free again when data is erased."""

import os
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apperate.accounts.models import Workspace
from apperate.database.clock import database_now
from apperate.kernel.json_text import dumps
from apperate.kernel.refusals import Refusal
from datasets.jobs import making, uploads
from datasets.models import (
    Dataset,
    Deletion,
    IngestJob,
    StagedFile,
    StorageReservation,
)
from datasets.services import editing, trash, writing
from datasets.storage import job_files, limits, recount, writes
from tests.support.factories import WorkspaceFactory
from tests.support.stored import (
    Limit,
    dataset_of,
    delete,
    record,
    refused,
    run,
    send,
    size_of,
    together,
    upload,
    used,
    write,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("ingest_dir")]


def test_a_write_takes_two_statements_and_reads_no_schema_again(things: Dataset) -> None:
    with writes.locked(things.pk) as known:
        assert known is not None
    now = database_now()
    ready = writing.checked(known, dumps([record("a")]).encode(), now=now)
    with CaptureQueriesContext(connection) as asked:
        written = writing.write_records(dataset_id=things.pk, body=b"[]", replaces=True, now=now, ready=ready)
    assert written == 1
    assert [one["sql"].split()[0] for one in asked] == ["BEGIN", "SELECT", "WITH", "COMMIT"]
    with writes.locked_with_usage(things.pk, known=known) as found:
        assert found is not None
        assert found[0] is known
    Dataset.objects.filter(pk=things.pk).update(version=things.version + 1)
    with writes.locked_with_usage(things.pk, known=known) as found:
        assert found is not None
        assert found[0] == replace(known, version=known.version + 1)


# --- what is counted --------------------------------------------------------------------------------------


def test_a_record_counts_its_json_its_index_and_its_place(things: Dataset) -> None:
    write(things, record("é", 7))

    assert used(things.workspace) == len('{"k":"é","v":"ééééééé"}'.encode()) + len("é".encode()) + 100


def test_only_what_was_stored_counts(things: Dataset) -> None:
    write(things, record("a"), record("b"), record("a", 500))

    write(things, record("a", 1), record("c"))

    assert used(things.workspace) == 3 * size_of(record("a"))


def test_what_is_replaced_counts_no_more(things: Dataset) -> None:
    write(things, record("a"), record("b", 100))

    write(things, record("b", 3), record("c"), record("c", 4), replaces=True)

    expected = size_of(record("a")) + size_of(record("b", 3)) + size_of(record("c", 4))
    assert used(things.workspace) == expected
    assert recount.recount(things.workspace_id) == 0


def test_a_job_counts_like_a_write(things: Dataset) -> None:
    write(things, record("a", 9))

    ended = run(send(things, record("a"), record("b"), record("b", 400), replaces=True))

    assert (ended.status, ended.stored) == ("INGESTED", 2)
    assert used(things.workspace) == size_of(record("a")) + size_of(record("b", 400))
    assert not StagedFile.objects.exists() and not StorageReservation.objects.exists()


def test_deleted_records_count_until_they_are_gone(things: Dataset) -> None:
    write(things, record("a"), record("b"))
    before = used(things.workspace)

    delete(things, "a")
    assert used(things.workspace) == before

    Deletion.objects.update(deleted_at=database_now() - timedelta(days=1, seconds=1))
    trash.purge(now=database_now())
    assert used(things.workspace) == size_of(record("b"))


def test_restored_records_count_once_and_those_that_stay_away_not_at_all(things: Dataset) -> None:
    write(things, record("a", 50), record("b"))
    delete(things, "a")
    write(things, record("a", 2))

    outcome = trash.restore_deletion(deletion=Deletion.objects.get(), by=None, now=database_now())

    assert outcome == trash.Restored(0, 1)
    assert used(things.workspace) == size_of(record("a", 2)) + size_of(record("b"))


def test_a_deleted_dataset_counts_until_it_is_erased(things: Dataset) -> None:
    write(things, record("a"))
    before = used(things.workspace)

    editing.delete_dataset(dataset=things, by=None, now=database_now())
    assert used(things.workspace) == before

    trash.purge(now=database_now() + timedelta(days=1))
    assert not Dataset.objects.filter(pk=things.pk).exists()
    assert used(things.workspace) == 0


def test_the_file_of_a_job_counts_until_its_records_do(things: Dataset) -> None:
    job = send(things, record("a", 1_000))
    assert isinstance(job, IngestJob)
    assert used(things.workspace) == job_files.body_bytes(job) == job.size_bytes > 2_000

    run(job)

    assert used(things.workspace) == size_of(record("a", 1_000))
    assert not job_files.body(job).exists()


def test_the_file_of_a_failed_job_counts_as_long_as_it_is_kept(things: Dataset) -> None:
    job = run(send(things, {"k": "a", "v": "x"}, {"wrong": "x" * 500}, {"wrong": "y"}))
    assert job.status == "INGESTED"  # Two lines were not valid.
    failed = run(send(things, {"wrong": "x" * 500}))
    assert failed.status == "ERROR"
    assert used(things.workspace) == size_of({"k": "a", "v": "x"}) + failed.size_bytes

    long_ago = database_now() - timedelta(days=2)
    IngestJob.objects.update(ended_at=long_ago)
    os.utime(job_files.folder(failed), (long_ago.timestamp(), long_ago.timestamp()))
    job_files.purge(now=database_now())

    assert used(things.workspace) == size_of({"k": "a", "v": "x"})


def test_an_upload_counts_until_it_is_a_dataset(things: Dataset, admin: Any) -> None:
    workspace = things.workspace
    kept = upload(workspace, b"k,v\n" + b"".join(b"%d,x\n" % n for n in range(300)))
    assert isinstance(kept, uploads.Upload)
    assert used(workspace) == kept.size_bytes

    job = uploads.finish(
        upload=kept, workspace=workspace, mapping={"key": "k"}, title="", by=admin, now=database_now()
    )

    assert isinstance(job, IngestJob), job
    assert used(workspace) == kept.size_bytes, "the job's copy counts in its place"
    run(job)
    assert recount.recount(workspace.pk) == 0
    assert StagedFile.objects.count() == 0


# --- the limit --------------------------------------------------------------------------------------------


def test_a_write_that_does_not_fit_is_refused_with_what_is_used(things: Dataset, limit: Limit) -> None:
    write(things, record("a"))
    one = size_of(record("a"))
    limit(2 * one - 1)

    refused(write(things, record("b")), f"{one:,} of {2 * one - 1:,} bytes", "Delete for good", "Launch plan")

    assert used(things.workspace) == one
    assert writes.sizes([things.pk])[things.pk].records == 1
    limit(2 * one)
    assert write(things, record("b")) == 1


def test_at_the_limit_nothing_more_is_written_until_something_is_erased(
    things: Dataset, limit: Limit
) -> None:
    write(things, record("a"), record("b"))
    limit(used(things.workspace))

    refused(write(things, record("c")))
    refused(write(things, record("a", 1), replaces=True))
    refused(send(things, record("c")))
    delete(things, "a")
    refused(write(things, record("c")))
    outcome = trash.erase_deletion(deletion=Deletion.objects.get(), by=None, now=database_now())
    assert outcome == trash.Erased(is_done=True)

    assert write(things, record("c")) == 1
    refused(write(things, record("d")))


def test_a_restore_needs_no_more_room_than_the_trash(things: Dataset, limit: Limit) -> None:
    write(things, record("a"))
    delete(things, "a")
    limit(used(things.workspace))

    outcome = making.restore_deletion(deletion=Deletion.objects.get(), by=None, now=database_now())

    assert outcome == trash.Restored(1, 0)


def test_a_plan_without_limit_is_never_full(things: Dataset) -> None:
    Workspace.objects.update(plan="business")

    assert limits.Usage(10**18, None).refusal(10**18) is None
    assert write(things, record("a")) == 1


def test_another_workspace_is_not_concerned(things: Dataset, limit: Limit) -> None:
    other = dataset_of(WorkspaceFactory(plan="launch"))
    write(things, record("a"))
    limit(size_of(record("a")))

    assert write(other, record("a")) == 1
    refused(write(things, record("b")))


@pytest.mark.parametrize("replaces", [False, True])
def test_eight_writers_one_byte_under_the_limit_never_pass_it(
    things: Dataset, limit: Limit, replaces: bool
) -> None:
    """The room of five records, less a byte, and eight writers of forty: four are stored."""
    one = size_of(record("0-00"))
    limit(5 * one - 1)
    outcomes: list[object] = []

    def work(number: int) -> None:
        for at in range(5):
            outcomes.append(write(things, record(f"{number}-{at:02}"), replaces=replaces))

    together(work)

    assert outcomes.count(1) == 4
    assert sum(isinstance(found, Refusal) and found.code == "storage-limit" for found in outcomes) == 36
    assert used(things.workspace) == 4 * one
    assert recount.recount(things.workspace_id) == 0


def test_writers_of_the_same_records_count_them_once(things: Dataset) -> None:
    def work(number: int) -> None:
        for at in range(12):
            write(things, *(record(key, number + at) for key in "cab"), replaces=bool(number % 2))

    together(work)

    # Rows that came between the look and the write count too much, never too little.
    assert recount.recount(things.workspace_id) <= 0
    assert used(things.workspace) == sum(size_of(record(key, length)) for key, length in kept(things))


def kept(dataset: Dataset) -> list[tuple[str, int]]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT key, length(data ->> 'v') FROM records WHERE dataset_id = %s", [dataset.pk])
        return cursor.fetchall()
