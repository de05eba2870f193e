"""The ingestion job API: send a file, list and read jobs, stop one. Not hot; runs in threads.

Sending a file needs write access to the dataset; visible are jobs on datasets the token may write, or all
of the workspace's for its secret token; stopping a job needs the secret token.
"""

import io
import re
from typing import Any

import simplejson
from django.conf import settings
from django.http import HttpResponseBase

from apperate.database import disk, pool
from apperate.database.changes import changes
from apperate.database.threads import in_thread
from apperate.http.problems import JSON
from apperate.kernel.json_text import loads_json
from apperate.kernel.refusals import Refusal, invalid_value
from datasets.api import job_documents
from datasets.api.admission import Call, admit, data_endpoint, workspace_endpoint
from datasets.api.job_lists import list_jobs
from datasets.jobs import making
from datasets.models import IngestJob
from datasets.query import parameters
from datasets.records.schema import dataset_id
from datasets.services import writing
from datasets.storage import job_files, limits
from tokens.gate import access
from tokens.gate.access import Allowed
from tokens.gate.answers import json_answer, pairs
from tokens.gate.calls import Answer, ApiRequest
from tokens.gate.endpoint import answered, claim_of, facts_of, first_checks
from tokens.rules.permissions import Action, Target

DOCUMENT_BYTES_MAX = 10_000_000
JOB_ID = re.compile(r"[0-9a-f]{32}")
INLINE = "data"


@data_endpoint(Action.WRITE)
async def ingest_data(call: Call) -> Answer | Refusal:
    """POST /v1/data/WS/ID: a CSV or JSON file becomes an ingestion job; `wait=true` waits for its end."""
    options = writing.parse_ingest_options(pairs(call.request.GET))
    if isinstance(options, Refusal):
        return options
    if refusal := await _no_room(call):
        return refusal
    file = await call.request.spool(bytes_max=settings.UPLOAD_BYTES_MAX, is_needed=True)
    if isinstance(file, Refusal):
        return file
    with file:
        return await _ingested(call, file, options)


async def _no_room(call: Call) -> Refusal | None:
    """Why there is no room for the announced file, before any of it is read."""
    declared = call.request.headers.get("Content-Length", "")
    size_bytes = min(int(declared), settings.UPLOAD_BYTES_MAX) if declared.isdigit() else 0
    if refusal := disk.shortage(wants_bytes=size_bytes):
        return refusal
    found = await pool.fetch_all(limits.USED, {"workspace": call.metadata.workspace_id})
    return limits.usage(found).refusal(max(size_bytes, 1))


async def _ingested(call: Call, file: Any, options: writing.IngestOptions) -> Answer | Refusal:
    job = await in_thread(making.create)(
        dataset_id=call.metadata.id,
        file=file,
        options=options,
        token_id=call.token.token_id,
        now=call.now,
        claim=claim_of(call),
    )
    if isinstance(job, Refusal):
        return job
    if options.waits and (answer := await job_documents.wait_for(job)):
        return answer
    return json_answer(
        job_documents.created_document(job, workspace=call.target.workspace, dataset=call.target.name)
    )


async def create_job(request: ApiRequest, workspace: str) -> HttpResponseBase:
    """POST /v1/jobs/WS/ingest: `{"datasetId", "data", …}`, an upload inside a JSON document.

    `data` is a file's text or an array of records; an upload's parameters may be given beside it.
    Nothing but `datasetId` is documented of what the older service accepted here.
    """
    documents: list[Any] = []

    async def admitted(is_repeat: bool) -> Call | Refusal:
        if no := first_checks(request, Action.WRITE):
            return no
        if not documents:
            body = await request.read_body(bytes_max=DOCUMENT_BYTES_MAX, is_needed=True)
            document = body if isinstance(body, Refusal) else loads_json(body)
            if isinstance(document, Refusal):
                return document
            documents.append(document)
        name = documents[0].get("datasetId") if isinstance(documents[0], dict) else None
        if not isinstance(name, str):
            return invalid_value("datasetId", "nothing", "the id of a dataset", check="body")
        return await admit(request, Action.WRITE, workspace, name, {}, fresh=True)

    async def view(call: Call) -> Answer | Refusal:
        return await _from_document(call, documents[0])

    return await answered(request, Action.WRITE, admitted, view)


async def _from_document(call: Call, document: dict[str, Any]) -> Answer | Refusal:
    """Make the job of a document whose dataset has been found."""
    data = document.get(INLINE)
    if isinstance(data, list):
        data = simplejson.dumps(data, use_decimal=True)
    if not isinstance(data, str) or not data:
        return invalid_value(
            INLINE,
            "nothing",
            "the text of a file or an array of records; POST /v1/data sends a file",
            check="body",
        )
    given = [
        (name, str(value).lower() if isinstance(value, bool) else str(value))
        for name, value in document.items()
        if name in parameters.of("ingest")
    ]
    options = writing.parse_ingest_options([*pairs(call.request.GET), *given])
    if isinstance(options, Refusal):
        return options
    return await _ingested(call, io.BytesIO(data.encode("utf-8", "surrogatepass")), options)


async def read_jobs(request: ApiRequest, workspace: str) -> HttpResponseBase:
    """GET /v1/jobs/WS/ingest: jobs on datasets that the token may write, newest first."""

    async def admitted(is_repeat: bool) -> Call | Refusal:
        if no := first_checks(request, Action.WRITE):
            return no
        name = dataset_id(workspace)
        if isinstance(name, Refusal):
            return name
        target = Target(name, "", None)
        return Call(request, request.checked_token, target, None, Action.WRITE, Allowed(), changes.now())

    async def view(call: Call) -> Answer | Refusal:
        values = parameters.values(pairs(request.GET), "jobs")
        if isinstance(values, Refusal):
            return values
        found = await in_thread(list_jobs)(
            call.target.workspace, values, may_see=lambda job: _may(request, job)
        )
        return Answer(simplejson.dumps(found).encode(), JSON)

    return await answered(request, Action.WRITE, admitted, view)


async def read_job(request: ApiRequest, workspace: str, job_id: str, log: str = "") -> HttpResponseBase:
    """GET /v1/jobs/WS/ingest/JOBID: state and counts; with /invalid-records-log the CSV of invalid lines."""
    found: list[IngestJob] = []

    async def admitted(is_repeat: bool) -> Call | Refusal:
        if no := first_checks(request, Action.WRITE):
            return no
        job = await in_thread(_find)(workspace, job_id)
        verdict = _admit(request, job)
        if job is not None and not isinstance(verdict, Refusal):
            found.append(job)
        return verdict

    async def view(call: Call) -> Answer:
        if not log:
            return Answer(await in_thread(_document)(found[0]), JSON)
        body = await in_thread(job_files.invalid_lines)(found[0])
        name = f"invalid-records-{found[0].public_id[:8]}.csv"
        disposition = {"Content-Disposition": f'attachment; filename="{name}"'}
        return Answer(body, "text/csv; charset=utf-8", headers=disposition)

    return await answered(request, Action.WRITE, admitted, view)


create_job.policy = read_jobs.policy = read_job.policy = "token"  # type: ignore[attr-defined]


@workspace_endpoint
async def cancel_job(call: Call, job_id: str) -> Answer | Refusal:
    """GET /v1/jobs/WS/JOBID: stop a job, in the older clients' way. A job that has ended stays as it is."""
    job = await in_thread(_find)(call.target.workspace, job_id)
    if job is None:
        return _no_such_job(call.token.public_id)
    cancelled = await in_thread(making.cancel)(job, now=call.now)
    if isinstance(cancelled, Refusal):
        return cancelled
    message = f"Job {cancelled.public_id} is being cancelled"
    return json_answer(
        {"success": True, "message": message, "jobId": cancelled.public_id, "status": cancelled.status}
    )


def _document(job: IngestJob) -> bytes:
    return simplejson.dumps(job_documents.document(job)).encode()


def _find(workspace: str, job_id: str) -> IngestJob | None:
    if isinstance(dataset_id(workspace), Refusal) or not JOB_ID.fullmatch(job_id.lower()):
        return None
    jobs_of_workspace = IngestJob.objects.filter(dataset__workspace__name=workspace.upper())
    return jobs_of_workspace.select_related("dataset__workspace").filter(public_id=job_id.lower()).first()


def _target(job: IngestJob) -> Target:
    dataset = job.dataset
    return Target(dataset.workspace.name, dataset.name, None if dataset.deleted_at else dataset.pk)


def _action(job: IngestJob) -> Action:
    return Action.DELETE if job.kind == IngestJob.Kind.DELETE else Action.WRITE


def _may(request: ApiRequest, job: IngestJob) -> bool:
    """Whether the token may see a job: it must be allowed to do what the job does."""
    facts = facts_of(request, _action(job), _target(job))
    return access.check_settings(request.checked_token, facts, now=changes.now()) is None


def _admit(request: ApiRequest, job: IngestJob | None) -> Call | Refusal:
    """A call about the job, if the token may do what the job does; else the refusal for a missing job."""
    target = Target("", "", None) if job is None else _target(job)
    action = Action.WRITE if job is None else _action(job)
    now = changes.now()
    no = access.check_settings(request.checked_token, facts_of(request, action, target), now=now)
    if job is not None and no is None:
        return Call(request, request.checked_token, target, None, action, Allowed(), now)
    if no is not None and no.check != "permission":
        return no
    return _no_such_job(request.checked_token.public_id)


def _no_such_job(token: str) -> Refusal:
    return Refusal(
        "not-found",
        "There is no ingestion job of this id whose dataset the token may write.",
        check="permission",
        needed="the jobId of an upload",
        token=token,
    )
