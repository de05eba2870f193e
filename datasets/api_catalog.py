"""The API on what datasets and jobs there are: not hot, run in threads."""

from datetime import datetime
from typing import Any

import simplejson
from django.http import HttpResponse, HttpResponseBase

from apperate.accounts.models import Workspace
from apperate.changes import Stale, changes
from apperate.data_plane import in_thread
from apperate.problems import JSON, problem_response, unavailable
from apperate.refusals import Refusal
from datasets import jobs, services
from datasets.gate import Answer, Call, facts_of, workspace_endpoint
from datasets.json_text import loads_json
from datasets.models import Dataset, IngestJob
from tokens import access
from tokens.permissions import Action, Target

DOCUMENT_BYTES_MAX = 1_000_000


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
    try:
        job = await in_thread(_visible_job)(request, workspace, job_id)
    except Stale:
        job = unavailable()
    if isinstance(job, Refusal):
        return problem_response(job, request)
    if log:
        return HttpResponse(await in_thread(jobs.invalid_lines)(job), content_type="text/csv; charset=utf-8")
    return HttpResponse(simplejson.dumps(jobs.document(job)), content_type=JSON)


def _visible_job(request: Any, workspace: str, job_id: str) -> IngestJob | Refusal:
    """The job, if the token may write its dataset; else the answer of a job that does not exist."""
    token = request.token
    if token is None:
        refusal: Refusal = request.token_refusal
        return refusal
    now = changes.now()
    job = (
        IngestJob.objects.select_related("dataset__workspace")
        .filter(public_id=job_id.lower(), dataset__workspace__name=workspace.upper())
        .first()
    )
    target = None
    if job is not None:
        dataset = job.dataset
        target = Target(dataset.workspace.name, dataset.name, None if dataset.deleted_at else dataset.pk)
    no = access.check_settings(token, facts_of(request, Action.WRITE, target), now=now)
    if no is not None and no.check != "permission":
        return no
    if job is None or no is not None:
        return Refusal(
            "not-found",
            "There is no ingestion job of this id whose dataset the token may write.",
            check="permission",
            received=job_id[:40],
            needed="the jobId of an upload",
        )
    return job
