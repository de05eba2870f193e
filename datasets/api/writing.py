"""The API for changing records one request at a time: writing JSON, deleting by key."""

from collections.abc import Callable

from django.conf import settings
from django.db import transaction
from django.http import HttpResponseBase

from apperate.accounts.idempotency import Document, once
from apperate.accounts.models import Workspace
from apperate.database import shares
from apperate.database.changes import changes
from apperate.database.threads import in_thread
from apperate.kernel.refusals import Refusal
from apperate.observability import metrics
from datasets.api import job_documents
from datasets.api.admission import Call, admit, data_endpoint
from datasets.jobs import making
from datasets.models import Dataset
from datasets.query import parameters
from datasets.records.schema import dataset_id
from datasets.services import creating, writing
from datasets.storage import catalog
from tokens.gate.access import Allowed
from tokens.gate.answers import json_answer, pairs
from tokens.gate.calls import OUTDATED, Answer, ApiRequest, Outdated, Part
from tokens.gate.endpoint import answered, claim_of
from tokens.rules.permissions import Action, Target

LONG_BODY_BYTES = 100_000


async def write_records(request: ApiRequest, workspace: str, name: str) -> HttpResponseBase:
    """POST /v1/record/WS/ID: a JSON object or array of objects, all stored or none.

    A missing dataset is created for them when the caller has the workspace's secret token.
    """
    bodies: list[bytes] = []

    async def admitted(is_repeat: bool) -> Call | Refusal:
        verdict = await admit(request, Action.WRITE, workspace, name, {}, fresh=True)
        return _to_create(request, workspace, name, verdict) or verdict

    async def view(call: Call) -> Answer | Refusal | Outdated:
        values = parameters.values(pairs(request.GET), "write")
        if isinstance(values, Refusal):
            return values
        if not bodies:
            body = await request.read_body(bytes_max=settings.RECORD_BODY_BYTES_MAX, is_needed=True)
            if isinstance(body, Refusal):
                return body
            bodies.append(body)
        return await _written(call, bodies[0], replaces=writing.replaces_duplicates(values))

    return await answered(request, Action.WRITE, admitted, view)


write_records.policy = "token"  # type: ignore[attr-defined]


def _to_create(request: ApiRequest, workspace: str, name: str, verdict: Call | Refusal) -> Call | None:
    """The call that creates the missing dataset, if nothing else was wrong and it was not declined."""
    if not isinstance(verdict, Refusal) or verdict.code != "not-found":
        return None  # Only the workspace's own secret token may learn that a dataset is missing.
    values = parameters.values(pairs(request.GET), "write")
    if not isinstance(values, Refusal) and not values.get("createDatasetOnDemand", True):
        return None
    target = Target(str(dataset_id(workspace)), str(dataset_id(name)), None)
    return Call(request, request.checked_token, target, None, Action.WRITE, Allowed(), changes.now())


async def _written(call: Call, body: bytes, *, replaces: bool) -> Answer | Refusal | Outdated:
    """Store the records, creating the dataset when it is missing."""
    counts: list[int] = []

    def work(ready: writing.Checked | None) -> Document | Refusal:
        with transaction.atomic():
            pk = call.dataset.id if call.dataset else _created(call, body)
            count = (
                pk
                if isinstance(pk, Refusal)
                else writing.write_records(
                    dataset_id=pk, body=body, replaces=replaces, now=call.now, ready=ready
                )
            )
            if isinstance(count, Refusal):
                transaction.set_rollback(True)
                return count
        counts.append(count)
        return {"success": True, "message": f"wrote {count} messages"}

    def write() -> Document | Refusal:
        ready = writing.checked(call.dataset, body, now=call.now) if call.dataset else None
        return once(claim_of(call), lambda: work(ready), now=call.now)

    document = await (_in_turn(write) if len(body) > LONG_BODY_BYTES else in_thread(write)())
    dataset = call.dataset
    if dataset is None:
        dataset = await catalog.find(call.target.workspace, call.target.name, fresh=True)
        if isinstance(document, Refusal) and dataset is not None:
            return OUTDATED  # Another request made it meanwhile: the records go into that one.
    if isinstance(document, Refusal):
        return document
    metrics.records(sum(counts), way="request")
    parts = (Part(dataset, sum(counts)),) if dataset else ()
    return json_answer(document, parts=parts, is_free=True)


async def _in_turn(write: Callable[[], Document | Refusal]) -> Document | Refusal:
    """A long body keeps a core busy for seconds, so each token writes one at a time."""
    async with shares.LONG_WRITES.place(shares.asker.get()):
        return await in_thread(write)()


def _created(call: Call, body: bytes) -> int | Refusal:
    """The new dataset inferred from a body of records."""
    workspace = Workspace.objects.get(pk=call.token.workspace.id)
    dataset: Dataset | Refusal = creating.create_for_records(
        workspace=workspace, name=call.target.name, body=body, by=None, now=call.now
    )
    return dataset if isinstance(dataset, Refusal) else dataset.pk


@data_endpoint(Action.DELETE)
async def delete_data(
    call: Call, key: str | None = None, subkey: str | None = None, date: str | None = None
) -> Answer | Refusal:
    """DELETE /v1/data/WS/ID/KEY[/SUBKEY[/DATE]]: to the trash, restorable for 24 h.

    More than 100,000 records are deleted by a job: those written before the request.
    """
    selection = writing.parse_selection(pairs(call.request.GET), key=key, subkey=subkey, date=date)
    if isinstance(selection, Refusal):
        return selection
    done = await in_thread(making.delete_records)(
        dataset_id=call.metadata.id, selection=selection, token_id=call.token.token_id, now=call.now
    )
    if isinstance(done, Refusal):
        return done
    if isinstance(done, int):
        return json_answer(
            {"success": True, "message": f"deleted {done} records"}, records=done, is_free=True
        )
    created = job_documents.created_document(done, workspace=call.target.workspace, dataset=call.target.name)
    return json_answer(created, is_free=True)
