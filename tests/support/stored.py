"""Writing to datasets below the API, and what of it counts for the plan, which `limit` sets."""

import threading
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest
from django.db import connections

from apperate.accounts.models import Workspace
from apperate.accounts.plans import PLANS
from apperate.database.clock import database_now
from apperate.kernel.json_text import dumps
from apperate.kernel.refusals import Refusal
from datasets.jobs import making, uploads
from datasets.jobs import run as job_run
from datasets.models import Dataset, IngestJob
from datasets.services import writing
from datasets.services.writing import IngestOptions
from datasets.storage import limits, writes
from tests.support.factories import DatasetFactory

SCHEMA = {
    "type": "object",
    "properties": {"k": {"type": "string"}, "v": {"type": ["string", "null"]}},
    "required": ["k"],
}


@pytest.fixture
def things(workspace: Workspace) -> Dataset:
    Workspace.objects.filter(pk=workspace.pk).update(plan="launch")
    workspace.refresh_from_db()
    return dataset_of(workspace)


def dataset_of(workspace: Workspace, **facts: Any) -> Dataset:
    return DatasetFactory(workspace=workspace, schema_json=SCHEMA, column_mapping={"key": "k"}, **facts)


Limit = Callable[[int], None]


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Limit:
    def of(size_bytes: int) -> None:
        monkeypatch.setitem(PLANS, "launch", replace(PLANS["launch"], storage_bytes_max=size_bytes))

    return of


def record(key: object, chars: int = 10) -> dict[str, str]:
    return {"k": str(key), "v": "é" * chars}


def size_of(found: dict[str, str]) -> int:
    return len(dumps(found).encode()) + len(found["k"].encode()) + limits.ROW_BYTES


def write(dataset: Dataset, *records: dict[str, str], replaces: bool = False) -> int | Refusal:
    return writing.write_records(
        dataset_id=dataset.pk, body=dumps(list(records)).encode(), replaces=replaces, now=database_now()
    )


def send(dataset: Dataset, *records: dict[str, str], replaces: bool = False) -> IngestJob | Refusal:
    body = "\n".join(map(dumps, records)).encode()
    return making.create(
        dataset_id=dataset.pk, file=BytesIO(body), options=IngestOptions(replaces), now=database_now()
    )


def run(job: IngestJob | Refusal) -> IngestJob:
    assert isinstance(job, IngestJob), job
    job_run.run(job)
    job.refresh_from_db()
    return job


def used(workspace: Workspace) -> int:
    return limits.usage_of(workspace.pk).used


def delete(dataset: Dataset, key: str) -> None:
    selection = writes.Selection(key)
    making.delete_records(dataset_id=dataset.pk, selection=selection, token_id=None, now=database_now())


def refused(found: object, *said: str) -> Refusal:
    assert isinstance(found, Refusal), found
    assert (found.status, found.code) == (507, "storage-limit")
    words = f"{found.detail} {found.received} {found.needed}"
    for part in said:
        assert part in words
    return found


def upload(workspace: Workspace, body: bytes, name: str = "NEW") -> uploads.Upload | Refusal:
    by = workspace.memberships.get().user
    return uploads.keep(
        workspace=workspace, by=by, name=name, file_name="new.csv", chunks=[body], now=database_now()
    )


def together(work: Callable[[int], None], count: int = 8) -> None:
    """Run at the same moment, each on a connection of its own."""
    barrier, faults = threading.Barrier(count), []

    def one(number: int) -> None:
        try:
            barrier.wait()
            work(number)
        except BaseException as error:
            faults.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults, faults
