"""The Tokens API over HTTP: /v1/token for any token, /v1/tokens for the secret token. Not hot; in threads.

tokens.api.answers does the work. The endpoint that tests a described request needs to know all paths, so it
is in datasets.api.trials.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import wraps
from typing import Any

import simplejson
from django.http import HttpResponseBase

from apperate.accounts.addresses import client_address
from apperate.accounts.idempotency import once
from apperate.accounts.models import Workspace
from apperate.database import propagation
from apperate.database.changes import changes
from apperate.database.threads import in_thread
from apperate.http.parameters import values as read_values
from apperate.http.problems import JSON
from apperate.kernel.json_text import loads_json
from apperate.kernel.ranges import RANGES_NEEDED, parse_range
from apperate.kernel.refusals import Refusal, invalid_value
from tokens.api import answers, parameters
from tokens.gate.access import Allowed
from tokens.gate.answers import paging_headers, pairs
from tokens.gate.calls import Answer, ApiRequest, Call
from tokens.gate.endpoint import answered, claim_of, first_checks
from tokens.rules.permissions import Action, Target
from tokens.usage.series import usage_series

BODY_BYTES_MAX = 1_000_000
NO_STORE = {"Cache-Control": "no-store"}
UNCONFIRMED = "Apperate-Unconfirmed-Workers"
View = Callable[..., Awaitable[Answer | Refusal]]


def token_endpoint(view: View, *, needs_secret: bool = True) -> Callable[..., Awaitable[HttpResponseBase]]:
    """For endpoints about the tokens of the calling token's workspace."""

    @wraps(view)
    async def endpoint(request: ApiRequest, **rest: str) -> HttpResponseBase:
        action = Action.READ if request.method in ("GET", "HEAD") else Action.WRITE

        async def admitted(is_repeat: bool) -> Call | Refusal:
            if no := first_checks(request, action, needs_secret=needs_secret):
                return no
            token = request.checked_token
            target = Target(token.workspace.name, "", None)
            return Call(request, token, target, None, action, Allowed(), changes.now())

        return await answered(request, action, admitted, view, **rest)

    endpoint.policy = "secret token" if needs_secret else "token"  # type: ignore[attr-defined]
    return endpoint


def free_json_answer(document: Any, headers: dict[str, str] | None = None) -> Answer:
    text = simplejson.dumps(document, ensure_ascii=False).encode("utf-8", "backslashreplace")
    return Answer(text, JSON, is_free=True, headers=headers or {})


def workspace_of(call: Call) -> Workspace:
    return Workspace.objects.get(pk=call.token.workspace.id)


async def body_of(call: Call) -> Any | Refusal:
    """The JSON of a body; an empty body counts as an empty object."""
    body = await call.request.read_body(bytes_max=BODY_BYTES_MAX)
    if isinstance(body, Refusal):
        return body
    return loads_json(body) if body.strip() else {}


async def _changed(
    call: Call, work: Callable[..., Any], *arguments: Any, holds_secret: bool = False
) -> Answer | Refusal:
    """The answer to a change, once every worker has taken it over; a header says how many have not in time.

    A repeated POST with a key gets its first answer again.
    """
    now: datetime = call.now
    address = client_address(call.request)

    claim = claim_of(call) if call.request.method == "POST" else None

    def change() -> Any:
        document = work(workspace_of(call), *arguments, now=now, address=address)
        is_kept = claim and not holds_secret and not isinstance(document, Refusal)
        return answers.without_value(document) if is_kept else document

    def answer() -> Answer | Refusal:
        document = once(claim, change, now=now, holds_secret=holds_secret)
        if isinstance(document, Refusal):
            return document
        headers = NO_STORE if holds_secret else {}
        if count := propagation.take_unconfirmed():
            headers = headers | {UNCONFIRMED: str(count)}
        if claim and not holds_secret:
            document = answers.with_value(workspace_of(call), document, now=now)
        return free_json_answer(document, headers)

    return await in_thread(answer)()


async def _read_own(call: Call) -> Answer | Refusal:
    """GET /v1/token: who am I."""
    return free_json_answer(await in_thread(answers.own)(call.token.token_id, now=call.now))


read_own = token_endpoint(_read_own, needs_secret=False)


@token_endpoint
async def read_tokens(call: Call) -> Answer | Refusal:
    """GET /v1/tokens."""
    values = read_values(pairs(call.request.GET), parameters.TOKENS)
    if isinstance(values, Refusal):
        return values
    limit = min(values.get("limit", answers.LIMIT_MAX), answers.LIMIT_MAX)
    page = await in_thread(
        lambda: answers.listed(
            workspace_of(call),
            limit=limit,
            cursor=values.get("cursor", ""),
            in_trash=values.get("trash", False),
            now=call.now,
        )
    )()
    if isinstance(page, Refusal):
        return page
    found, cursor = page
    return free_json_answer(found, paging_headers(call, cursor) if cursor else None)


@token_endpoint
async def read_token(call: Call, token_id: str) -> Answer | Refusal:
    """GET /v1/tokens/ID."""
    document = await in_thread(lambda: answers.read(workspace_of(call), token_id, now=call.now))()
    return document if isinstance(document, Refusal) else free_json_answer(document)


@token_endpoint
async def create_token(call: Call) -> Answer | Refusal:
    """POST /v1/tokens."""
    body = await body_of(call)
    return body if isinstance(body, Refusal) else await _changed(call, answers.create, body)


@token_endpoint
async def edit_token(call: Call, token_id: str) -> Answer | Refusal:
    """PATCH /v1/tokens/ID."""
    body = await body_of(call)
    return body if isinstance(body, Refusal) else await _changed(call, answers.edit, token_id, body)


@token_endpoint
async def delete_token(call: Call, token_id: str) -> Answer | Refusal:
    """DELETE /v1/tokens/ID."""
    return await _changed(call, answers.delete, token_id)


@token_endpoint
async def rotate_token(call: Call, token_id: str) -> Answer | Refusal:
    """POST /v1/tokens/ID/rotate: the answer holds the new value, so it is not stored for a repeat."""
    body = await body_of(call)
    if isinstance(body, Refusal):
        return body
    return await _changed(call, answers.rotate, token_id, body, holds_secret=True)


@token_endpoint
async def read_refusals(call: Call, token_id: str) -> Answer | Refusal:
    """GET /v1/tokens/ID/refusals."""
    found = await in_thread(lambda: answers.last_refusals(workspace_of(call), token_id, now=call.now))()
    return found if isinstance(found, Refusal) else free_json_answer(found)


@token_endpoint
async def read_usage(call: Call, token_id: str) -> Answer | Refusal:
    """GET /v1/tokens/ID/usage?range=30d&by=dataset."""
    values = read_values(pairs(call.request.GET), parameters.USAGE)
    if isinstance(values, Refusal):
        return values
    asked = values.get("range", "30d")
    span = parse_range(asked, now=call.now)
    if span is None:
        return invalid_value("range", asked, RANGES_NEEDED)

    def work() -> Any:
        token = answers.find(workspace_of(call), token_id, now=call.now)
        if isinstance(token, Refusal):
            return token
        return {"range": asked} | usage_series(
            token, start=span.start, end=span.end, by=values.get("by", "day")
        )

    document = await in_thread(work)()
    return document if isinstance(document, Refusal) else free_json_answer(document)


def at_once(what: str) -> Callable[..., Awaitable[HttpResponseBase]]:
    """POST /v1/tokens/ID/WHAT."""

    async def view(call: Call, token_id: str) -> Answer | Refusal:
        body = await body_of(call)
        if isinstance(body, Refusal):
            return body
        return await _changed(call, answers.do, token_id, what, body)

    return token_endpoint(view)
