"""The API on what datasets and jobs there are: not hot, run in threads."""

from datetime import datetime
from typing import Any

import simplejson

from apperate.accounts.models import Workspace
from apperate.data_plane import in_thread
from apperate.problems import JSON
from apperate.refusals import Refusal
from datasets import services
from datasets.gate import Answer, Call, workspace_endpoint
from datasets.json_text import loads_json
from datasets.models import Dataset

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
