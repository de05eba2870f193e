"""The storage of a plan beside requests: running jobs, files on disk, and the upkeep of the counters."""

import random
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from apperate.database.clock import database_now
from datasets.jobs import making
from datasets.models import (
    Dataset,
    Deletion,
    IngestJob,
    StorageCounter,
    StorageRecount,
    StorageReservation,
)
from datasets.services import editing, trash
from datasets.storage import job_files, limits, recount, reservations, writes
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


# --- jobs -------------------------------------------------------------------------------------------------


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reservations, "STEP_BYTES", 20_000)


@pytest.mark.usefixtures("small_steps")
def test_a_job_that_does_not_fit_ends_with_the_sentence(things: Dataset, limit: Limit) -> None:
    limit(200_000)
    many = [record(number, 100) for number in range(600)]
    job = send(things, *many)
    assert isinstance(job, IngestJob)
    seen: list[int] = []
    real = reservations.JobRoom._reserve

    def reserve(room: reservations.JobRoom) -> None:
        real(room)
        # The thread's own connection is in the midst of its COPY.
        found = room._connection.execute("SELECT bytes FROM datasets_storagereservation").fetchall()
        seen.append(found[0][0] - room.bytes)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reservations.JobRoom, "_reserve", reserve)
        ended = run(job)

    assert (ended.status, ended.refusal_code) == ("ERROR", "storage-limit")
    assert "200,000 bytes" in ended.message and "Delete for good" in ended.message
    assert len(seen) > 2 and set(seen) == {20_000}, "it runs a step ahead"
    assert writes.sizes([things.pk]) == {} and not StorageReservation.objects.exists()
    assert used(things.workspace) == ended.size_bytes  # The file is kept for another try.
    assert recount.recount(things.workspace_id) == 0


def test_a_small_job_that_does_not_fit_stores_nothing(things: Dataset, limit: Limit) -> None:
    body = [record(number) for number in range(5)]
    job = send(things, *body)
    limit(sum(map(size_of, body)) - 1)

    ended = run(job)

    assert (ended.status, ended.refusal_code) == ("ERROR", "storage-limit")
    assert writes.sizes([things.pk]) == {}
    limit(sum(map(size_of, body)))
    again = making.retry(ended, by=None, now=database_now())
    assert run(again).status == "INGESTED", again
    assert used(things.workspace) == sum(map(size_of, body))


@pytest.mark.usefixtures("small_steps")
def test_a_full_dataset_is_replaced_by_itself_where_the_outcome_fits(things: Dataset, limit: Limit) -> None:
    """In a workspace at 60 %: what comes and what goes are 120 % for a moment."""
    body = [record(number) for number in range(900)]
    assert write(things, *body) == 900
    limit(used(things.workspace) * 100 // 60)

    ended = run(send(things, *body, replaces=True))

    assert (ended.status, ended.stored) == ("INGESTED", 900), ended.message
    assert used(things.workspace) == sum(map(size_of, body))
    assert run(send(things, *(record(f"n{n}") for n in range(900)))).status == "ERROR"


@pytest.mark.usefixtures("small_steps")
def test_jobs_side_by_side_do_not_pass_the_limit_together(things: Dataset, limit: Limit) -> None:
    one = sum(size_of(record(f"0-{n}", 100)) for n in range(300))
    limit(int(one * 2.5))
    found = [send(things, *(record(f"{number}-{n}", 100) for n in range(300))) for number in range(3)]
    most: list[int] = []

    def work(number: int) -> None:
        if number < 3:
            run(found[number])
        else:
            most.extend(used(things.workspace) for _ in range(40))

    together(work, 4)

    states = sorted(IngestJob.objects.values_list("status", flat=True))
    assert states.count("INGESTED") <= 2 and states.count("ERROR") >= 1
    assert StorageReservation.objects.count() == 0
    assert recount.recount(things.workspace_id) == 0


def test_what_a_dead_worker_reserved_is_given_back(things: Dataset) -> None:
    job = send(things, record("a"))
    assert isinstance(job, IngestJob)
    for pk in (job.pk, 10**9):
        StorageReservation.objects.create(job_id=pk, run_number=1, workspace=things.workspace, bytes=10**6)

    recount.upkeep(now=database_now())

    assert not StorageReservation.objects.exists()


# --- staged files -----------------------------------------------------------------------------------------


def test_a_file_that_does_not_fit_is_not_kept(
    things: Dataset, limit: Limit, admin: Any, ingest_dir: Path
) -> None:  # fmt: skip
    limit(5_000)

    refused(send(things, record("a", 3_000)), "5,000")
    refused(upload(things.workspace, b"k,v\n" + b"a,x\n" * 2_000))

    assert [place for place in ingest_dir.rglob("*") if place.is_file()] == []
    assert used(things.workspace) == 0
    assert not IngestJob.objects.exists()


def test_many_waiting_files_do_not_pass_the_limit(things: Dataset, limit: Limit) -> None:
    limit(10_000)

    outcomes = [send(things, record(number, 1_000)) for number in range(9)]

    assert [isinstance(found, IngestJob) for found in outcomes] == [True] * 4 + [False] * 5
    refused(outcomes[-1], "10,000 bytes")


def test_a_file_that_vanished_counts_no_more(things: Dataset) -> None:
    job = send(things, record("a"))
    assert isinstance(job, IngestJob)
    job_files.body(job).unlink()

    recount.drop_files(now=database_now())
    assert used(things.workspace) > 0, "a moment ago it may have been on its way"
    recount.drop_files(now=database_now() + timedelta(hours=2))

    assert used(things.workspace) == 0


# --- upkeep -----------------------------------------------------------------------------------------------


def test_a_recount_corrects_what_is_wrong_and_is_due_once_a_day(things: Dataset) -> None:
    write(things, record("a"))
    right, now = used(things.workspace), database_now()
    StorageCounter.objects.update(bytes=5)

    recount.upkeep(now=now)
    assert used(things.workspace) == right

    limits.add(things.workspace_id, 7)
    recount.upkeep(now=now + timedelta(hours=23))
    assert used(things.workspace) == right + 7
    recount.upkeep(now=now + timedelta(hours=25))
    assert used(things.workspace) == right


def test_an_upgrade_begins_with_what_is_there(things: Dataset) -> None:
    write(things, record("a"), record("b"))
    delete(things, "a")
    right = used(things.workspace)
    StorageCounter.objects.all().delete()

    with connection.cursor() as cursor:
        cursor.execute(import_module("datasets.migrations.0006_storage_counters").COUNT)

    assert used(things.workspace) == right


def test_a_workspace_that_cannot_be_counted_does_not_stop_the_others(
    things: Dataset, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    other = dataset_of(WorkspaceFactory(plan="launch"))
    StorageCounter.objects.create(workspace=other.workspace, slot=0, bytes=99)
    real = recount.recount

    def failing(workspace_id: int) -> int:
        if workspace_id == things.workspace_id:
            with connection.cursor() as cursor:
                cursor.execute("SET statement_timeout = 1; SELECT pg_sleep(1)")
        return real(workspace_id)

    monkeypatch.setattr(recount, "recount", failing)
    recount.upkeep(now=database_now())
    connection.close()

    assert used(other.workspace) == 0
    assert "storage was not recounted" in caplog.text
    assert StorageRecount.objects.count() == 2


@pytest.mark.parametrize("seed", range(6))
def test_after_any_writes_the_counters_are_what_a_recount_finds(things: Dataset, seed: int) -> None:
    chance = random.Random(seed)
    datasets = [things, dataset_of(things.workspace)]
    for _ in range(40):
        dataset = chance.choice(datasets)
        if Dataset.objects.get(pk=dataset.pk).deleted_at:
            editing.restore_dataset(dataset=dataset, by=None, now=database_now())
        batch = [record(chance.choice("abcdef"), chance.randrange(60)) for _ in range(chance.randrange(1, 6))]
        deletion = Deletion.objects.order_by("?").first()
        match chance.choice(
            ["write", "replace", "job", "delete", "restore", "purge", "drop", "erase", "stage"]
        ):
            case "write":
                write(dataset, *batch)
            case "replace":
                write(dataset, *batch, replaces=True)
            case "job":
                run(send(dataset, *batch, replaces=chance.random() < 0.5))
            case "delete":
                delete(dataset, chance.choice("abcdef"))
            case "restore" if deletion:
                trash.restore_deletion(deletion=deletion, by=None, now=database_now())
            case "purge" if deletion:
                Deletion.objects.filter(pk=deletion.pk).update(deleted_at=database_now() - timedelta(days=2))
                trash.purge(now=database_now())
            case "erase" if deletion:
                trash.erase_deletion(deletion=deletion, by=None, now=database_now())
            case "drop":
                editing.delete_dataset(dataset=dataset, by=None, now=database_now())
                if chance.random() < 0.3:
                    trash.erase_dataset(dataset=dataset, by=None, now=database_now())
                    datasets[datasets.index(dataset)] = dataset_of(things.workspace)
            case "stage":
                send(dataset, *batch)
        assert recount.recount(things.workspace_id) == 0
    assert used(things.workspace) > 0
