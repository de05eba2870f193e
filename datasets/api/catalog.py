"""The dataset catalog API: list, describe, make, edit, rename, delete. Not hot; runs in threads."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import simplejson
from django.http import HttpResponseBase

from apperate.accounts.idempotency import Document, once
from apperate.accounts.models import Workspace
from apperate.database.changes import changes
from apperate.database.threads import in_thread
from apperate.http.parameters import LIMIT_MAX
from apperate.http.problems import JSON
from apperate.kernel.json_text import loads_json
from apperate.kernel.refusals import Refusal, invalid_value
from datasets.api import descriptions
from datasets.api.admission import Call, admit, data_endpoint, workspace_endpoint
from datasets.models import Dataset
from datasets.query import parameters
from datasets.records.schema import dataset_id
from datasets.services import creating, editing
from tokens.gate.access import Allowed
from tokens.gate.answers import json_answer, pairs
from tokens.gate.calls import OUTDATED, Answer, ApiRequest, Outdated
from tokens.gate.endpoint import answered, claim_of, first_checks
from tokens.rules.permissions import CORE, PREMIUM, Action, Snapshot, Target, allows, secret_allows

DOCUMENT_BYTES_MAX = 10_000_000
ANY_NAME = "*"


@workspace_endpoint
async def create_dataset(call: Call) -> Answer | Refusal:
    """POST /v1/datasets/WS."""
    document = await _document(call)
    if isinstance(document, Refusal):
        return document
    created = await in_thread(once)(claim_of(call), lambda: _create(call, document), now=call.now)
    return created if isinstance(created, Refusal) else json_answer(created)


def _create(call: Call, document: Any) -> Document | Refusal:
    workspace = Workspace.objects.get(pk=call.token.workspace.id)
    dataset = creating.create_from_document(workspace=workspace, document=document, by=None, now=call.now)
    if isinstance(dataset, Refusal):
        return dataset
    return {"success": True, "message": "Dataset has been created", "datasetId": dataset.name}


async def _document(call: Call) -> Any | Refusal:
    body = await call.request.read_body(bytes_max=DOCUMENT_BYTES_MAX, is_needed=True)
    return body if isinstance(body, Refusal) else loads_json(body)


# --- one dataset --------------------------------------------------------------------------------


@data_endpoint(Action.READ)
async def read_dataset(call: Call) -> Answer | Outdated:
    """GET /v1/datasets/WS/ID: the Dataset object."""
    found = await in_thread(_described)(call.token, [call.metadata.id], descriptions.describe)
    return Answer(_json(found[0]), JSON, is_free=True) if found else OUTDATED


@data_endpoint(Action.READ)
async def read_item(call: Call, **path: str) -> Answer | Outdated:
    """A dataset's inventory item, as an array of one. A key after the id changes nothing."""
    found = await in_thread(_described)(call.token, [call.metadata.id], descriptions.inventory)
    return Answer(_json(found), JSON, is_free=True) if found else OUTDATED


def owned_dataset(change: Callable[..., Any], message: str) -> Callable[..., Any]:
    """A view that changes one dataset of the workspace, with its secret token.

    `change(call, dataset, document, **rest)` runs in a thread and returns the changed Dataset, or a
    Refusal.
    """

    async def endpoint(request: ApiRequest, workspace: str, name: str, **rest: str) -> HttpResponseBase:
        async def admitted(is_repeat: bool) -> Call | Refusal:
            if no := first_checks(request, Action.WRITE, needs_secret=True):
                return no
            return await admit(request, Action.WRITE, workspace, name, {}, fresh=True)

        async def view(call: Call) -> Answer | Refusal:
            document: Any = None
            if request.method in ("POST", "PATCH"):
                document = await _document(call)
                if isinstance(document, Refusal):
                    return document

            def work() -> Document | Refusal:
                dataset = Dataset.objects.select_related("workspace").get(pk=call.metadata.id)
                changed: Dataset | Refusal = change(call, dataset, document, **rest)
                if isinstance(changed, Refusal):
                    return changed
                return {
                    "success": True,
                    "message": f"Dataset has been {message}",
                    "datasetId": changed.name,
                }

            changed = await in_thread(once)(claim_of(call), work, now=call.now)
            return changed if isinstance(changed, Refusal) else json_answer(changed, is_free=True)

        return await answered(request, Action.WRITE, admitted, view)

    endpoint.policy = "secret token"  # type: ignore[attr-defined]
    return endpoint


def _edit(call: Call, dataset: Dataset, document: Any) -> Dataset | Refusal:
    return editing.edit_from_document(dataset=dataset, document=document, by=None, now=call.now)


# The new id is where other requests on that path have a key.
def _rename(call: Call, dataset: Dataset, document: Any, key: str) -> Dataset | Refusal:
    return editing.rename_dataset(dataset=dataset, name=key, by=None, now=call.now)


def _delete(call: Call, dataset: Dataset, document: Any) -> Dataset | Refusal:
    """Older clients send this with `limit` or `key` when they mean records, not the dataset."""
    for name, text in pairs(call.request.GET):
        if name in parameters.SELECTING:
            needed = "to be left out: this deletes the whole dataset, not some of its records"
            return invalid_value(
                name, text, f"{needed}. DELETE /v1/data/WORKSPACE/DATASET/KEY deletes records"
            )
    return editing.delete_dataset(dataset=dataset, by=None, now=call.now)


edit_dataset = owned_dataset(_edit, "updated")
rename_dataset = owned_dataset(_rename, "renamed")
delete_dataset = owned_dataset(_delete, "deleted")


# --- lists --------------------------------------------------------------------------------------


async def read_datasets(request: ApiRequest, workspace: str | None = None) -> HttpResponseBase:
    """GET /v1/data[/WS], /v1/datasets/WS: the Dataset objects that the token may read."""
    return await _listed(request, workspace, descriptions.describe)


async def read_inventories(request: ApiRequest, workspace: str | None = None) -> HttpResponseBase:
    """GET /v1/time-series and its other old names: the same datasets as inventory items."""
    return await _listed(request, workspace, descriptions.inventory)


async def read_inventory(request: ApiRequest, workspace: str, name: str, **path: str) -> HttpResponseBase:
    """GET /v1/metadata/time-series/ID: one item. Older clients write * to mean any id with that key."""
    if name == ANY_NAME:
        return await read_inventories(request, workspace)
    found: HttpResponseBase = await read_item(request, workspace=workspace, name=name, **path)
    return found


async def read_meta(
    request: ApiRequest, workspace: str, name: str = ANY_NAME, **path: str
) -> HttpResponseBase:
    """GET /v1/meta/WS[/ID…]: the same for a workspace. Without WS, the path names a dataset of CORE."""
    token = request.token
    if token is not None and workspace.upper() not in {token.workspace.name, CORE, PREMIUM}:
        workspace, name = CORE, workspace
    return await read_inventory(request, workspace, name, **path)


for view in (read_datasets, read_inventories, read_inventory, read_meta):
    view.policy = "token"  # type: ignore[union-attr]


async def _listed(request: ApiRequest, workspace: str | None, write: Callable[..., Any]) -> HttpResponseBase:
    async def admitted(is_repeat: bool) -> Call | Refusal:
        if no := first_checks(request, Action.READ):
            return no
        name = dataset_id(workspace) if workspace is not None else ""
        if isinstance(name, Refusal):
            return name
        return Call(
            request,
            request.checked_token,
            Target(name, "", None),
            None,
            Action.READ,
            Allowed(),
            changes.now(),
        )

    async def view(call: Call) -> Answer | Refusal:
        values = parameters.values(pairs(request.GET), "list")
        if isinstance(values, Refusal):
            return values
        limit = min(values.get("limit", LIMIT_MAX), LIMIT_MAX)
        found = await in_thread(_readable)(call.token, call.target.workspace, limit, call.now, write)
        return Answer(_json(found), JSON, is_free=True)

    return await answered(request, Action.READ, admitted, view)


def _readable(token: Snapshot, workspace: str, limit: int, now: datetime, write: Callable[..., Any]) -> Any:
    """The datasets of a workspace, or of every possible one, that the token may read, by name."""
    names = [workspace] if workspace else [token.workspace.name, CORE, PREMIUM]
    kept = Dataset.objects.kept().filter(workspace__name__in=set(names)).select_related("workspace")
    may = [found.pk for found in kept.only("pk", "name", "workspace__name") if _may_read(token, found, now)]
    return _described(token, may, write, limit)


def _may_read(token: Snapshot, dataset: Dataset, now: datetime) -> bool:
    target = Target(dataset.workspace.name, dataset.name, dataset.pk)
    if token.is_secret:
        return secret_allows(token.workspace, Action.READ, target)
    versions = token.versions(now=now)
    return bool(versions) and all(allows(v, token.workspace, Action.READ, target) for v in versions)


def _described(token: Snapshot, ids: list[int], write: Callable[..., Any], limit: int = LIMIT_MAX) -> Any:
    found = Dataset.objects.kept().filter(pk__in=ids).select_related("workspace")
    owner_id = token.workspace.id if token.is_secret else None
    return write(list(found.order_by("workspace__name", "name")[:limit]), owner_id=owner_id)


def _json(document: Any) -> bytes:
    return simplejson.dumps(document, ensure_ascii=False, use_decimal=True).encode()
