"""The API on what datasets and jobs there are: not hot, run in threads."""

import re
from datetime import datetime
from typing import Any

import simplejson
from django.http import HttpResponseBase

from apperate.accounts.models import Workspace
from apperate.changes import changes
from apperate.data_plane import in_thread
from apperate.problems import JSON
from apperate.refusals import Refusal
from datasets import jobs, services
from datasets.gate import Answer, Call, answered, facts_of, first_checks, workspace_endpoint
from datasets.json_text import loads_json
from datasets.models import Dataset, IngestJob
from datasets.schema import dataset_id
from tokens import access
from tokens.access import Allowed
from tokens.permissions import Action, Target

DOCUMENT_BYTES_MAX = 1_000_000
JOB_ID = re.compile(r"[0-9a-f]{32}")


@workspace_endpoint
async def create_dataset(call: Call) -> Answer | Refusal:
    """POST /v1/datasets/WS."""
    body = await call.request.read_body(bytes_max=DOCUMENT_BYTES_MAX)
    document = body if isinstance(body, Refusal) else loads_json(body)
    if isinstance(document, Refusal):
        return document
    dataset = await in_thread(_create)(call.token.workspace.id, document, call.now)
    if isinstance(dataset, Refusal):
        return dataset
    said = {"success": True, "message": "Dataset has been created", "datasetId": dataset.name}
    return Answer(simplejson.dumps(said).encode(), JSON)


def _create(workspace_id: int, document: Any, now: datetime) -> Dataset | Refusal:
    workspace = Workspace.objects.get(pk=workspace_id)
    return services.create_from_document(workspace=workspace, document=document, by=None, now=now)


async def read_job(request: Any, workspace: str, job_id: str, log: str = "") -> HttpResponseBase:
    """GET /v1/jobs/WS/ingest/JOBID: state and counts; with /invalid-records-log the CSV of invalid lines."""
    found: list[IngestJob] = []

    async def admitted(is_repeat: bool) -> Call | Refusal:
        if no := first_checks(request, Action.WRITE):
            return no
        job = await in_thread(_find)(workspace, job_id)
        verdict = _admit(request, job)
        if job is not None and isinstance(verdict, Call):
            found.append(job)
        return verdict

    async def view(call: Call) -> Answer:
        if not log:
            return Answer(simplejson.dumps(jobs.document(found[0])).encode(), JSON)
        body = await in_thread(jobs.invalid_lines)(found[0])
        name = f"invalid-records-{found[0].public_id[:8]}.csv"
        disposition = {"Content-Disposition": f'attachment; filename="{name}"'}
        return Answer(body, "text/csv; charset=utf-8", headers=disposition)

    return await answered(request, Action.WRITE, admitted, view)


def _find(workspace: str, job_id: str) -> IngestJob | None:
    if isinstance(dataset_id(workspace), Refusal) or not JOB_ID.fullmatch(job_id.lower()):
        return None
    jobs_of_workspace = IngestJob.objects.filter(dataset__workspace__name=workspace.upper())
    return jobs_of_workspace.select_related("dataset__workspace").filter(public_id=job_id.lower()).first()


def _admit(request: Any, job: IngestJob | None) -> Call | Refusal:
    """A call about the job, if the token may write its dataset; else the answer of no such job."""
    target = Target("", "", None)
    if job is not None:
        dataset = job.dataset
        target = Target(dataset.workspace.name, dataset.name, None if dataset.deleted_at else dataset.pk)
    now = changes.now()
    no = access.check_settings(request.token, facts_of(request, Action.WRITE, target), now=now)
    if job is not None and no is None:
        return Call(request, request.token, target, None, Action.WRITE, Allowed(), now)
    if no is not None and no.check != "permission":
        return no
    return Refusal(
        "not-found",
        "There is no ingestion job of this id whose dataset the token may write.",
        check="permission",
        needed="the jobId of an upload",
        token=request.token.public_id,
    )
