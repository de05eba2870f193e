"""The API about itself: OpenAPI documents of the whole API, and of one dataset for the calling token."""

from functools import cache

import simplejson
from django.conf import settings
from django.http import HttpResponse, HttpResponseBase

from apperate.database import shares
from apperate.database.changes import changes
from apperate.database.threads import in_thread
from apperate.http import delivery
from apperate.http.problems import JSON
from datasets.api.admission import Call, data_endpoint
from datasets.api.reading import inline_names
from datasets.models import Dataset
from datasets.openapi import document as openapi
from tokens.gate import access
from tokens.gate.calls import Answer, ApiRequest
from tokens.gate.endpoint import facts_of
from tokens.rules.permissions import Action

KEPT_SECONDS = 300


@cache
def whole_document(encoding: str = "") -> tuple[bytes, str]:
    """The document of the whole API, compressed or not, and its ETag; built once per process."""
    body = simplejson.dumps(openapi.whole(settings.PUBLIC_URL), ensure_ascii=False).encode()
    return (delivery.compressed(body, encoding) if encoding else body), delivery.etag_of(body)


async def read_document(request: ApiRequest) -> HttpResponseBase:
    """GET /v1/openapi-doc: the same for everybody, without a token."""
    encoding = delivery.encoding_for(request.headers.get("Accept-Encoding", ""))
    body, etag = whole_document(encoding)
    if delivery.is_unchanged(request.headers.get("If-None-Match", ""), etag):
        response = HttpResponse(status=304)
    else:
        response = HttpResponse(body, content_type=JSON)
        if encoding:
            response.headers["Content-Encoding"] = encoding
    response.headers["ETag"] = etag
    response.headers["Cache-Control"] = f"public, max-age={KEPT_SECONDS}"
    response.headers["Vary"] = "Accept-Encoding"
    return response


read_document.policy = "public"  # type: ignore[attr-defined]


@data_endpoint(Action.READ)
async def read_dataset_document(call: Call) -> Answer:
    """GET /v1/openapi-doc/WS/ID: what the token may do with the dataset, and what its records look like."""
    found = call.metadata
    title, description = await in_thread(_texts)(found.id)
    actions = actions_of(call)
    described = openapi.Described(
        found.workspace, found.name, found.schema, title, description, inline_names(found),
        found.credits_per_record,
    )  # fmt: skip
    is_owner = call.token.is_secret and found.workspace == call.token.workspace.name

    def work() -> bytes:
        document = openapi.of_dataset(described, actions, is_owner, settings.PUBLIC_URL)
        return simplejson.dumps(document, ensure_ascii=False).encode()

    return Answer(await shares.in_body_thread(work), is_free=True)


def _texts(dataset_id: int) -> tuple[str, str]:
    texts = Dataset.objects.filter(pk=dataset_id).values_list("title", "description").first()
    return texts or ("", "")


def actions_of(call: Call) -> list[Action]:
    """What the token may do now with the call's dataset."""
    return [
        action
        for action in Action
        if access.check_settings(call.token, facts_of(call.request, action, call.target), now=changes.now())
        is None
    ]
