"""What is asked of a dataset while a job writes to it: reads go on, changes are told to wait."""

import json

import pytest

from apperate.accounts.models import Workspace
from datasets.models import Dataset, IngestJob
from tests.support.data_plane_client import DataPlaneClient, Reply
from tests.support.factories import DatasetFactory
from tests.support.held_datasets import held
from tests.support.refused_requests import RECORD, secret_of

pytestmark = pytest.mark.django_db(transaction=True)

CHANGES = (
    ("PATCH", "PRICES", {"description": "Another one"}),
    ("PUT", "PRICES/PRICES_2", None),
    ("DELETE", "PRICES", None),
)


def test_changes_wait_for_the_job_that_writes(api: DataPlaneClient, workspace: Workspace) -> None:
    dataset = DatasetFactory(workspace=workspace, name="PRICES", description="Closing prices")
    job = IngestJob.objects.create(dataset=dataset, status=IngestJob.Status.PROCESSING)
    headers = {"X-API-Key": secret_of(workspace).test_value}

    def asked(method: str, path: str, document: object = None) -> Reply:
        body = b"" if document is None else json.dumps(document).encode()
        return api.request(method, f"/v1/datasets/{workspace.name}/{path}", body=body, headers=headers)

    with held(dataset, "FOR SHARE"):  # As store.locked() does while the job stores its records.
        refused = [asked(*change) for change in CHANGES]
        read = asked("GET", "PRICES")
        written = api.post(f"/v1/record/{workspace.name}/PRICES", RECORD, headers=headers)

    for reply in refused:
        assert (reply.status, reply.code) == (503, "unavailable")
        assert job.public_id in reply.json()["detail"] and int(reply.headers["retry-after"]) > 0
    assert (read.status, written.status) == (200, 200)
    assert Dataset.objects.kept().get(pk=dataset.pk).description == "Closing prices"
    assert asked(*CHANGES[0]).status == 200
