"""The Tokens API over HTTP: /v1/token for any token, /v1/tokens for the secret token. Not hot, in threads.

What is done and answered is in tokens.api.answers; this stands here because the gate of the data plane does.
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
from apperate.database.changes import changes
from apperate.database.threads import in_thread
from apperate.http.problems import JSON, problem
from apperate.kernel.json_text import loads_json
from apperate.kernel.ranges import RANGES_NEEDED, parse_range
from apperate.kernel.refusals import Refusal, invalid_value
from datasets.api import trials
from datasets.api.endpoint import Answer, Call, answered, claim_of, first_checks, pairs
from datasets.api.reading import paging_headers
from datasets.query import parameters
from tokens.api import answers
from tokens.api.documents import moment
from tokens.gate.access import Allowed
from tokens.rules.permissions import Action, Target
from tokens.trials.judging import Result
from tokens.trials.runs import try_out
from tokens.usage.series import usage_series

BODY_BYTES_MAX = 1_000_000
NO_STORE = {"Cache-Control": "no-store"}
View = Callable[..., Awaitable[Answer | Refusal]]


def token_endpoint(view: View, *, needs_secret: bool = True) -> Callable[..., Awaitable[HttpResponseBase]]:
    """For what concerns the tokens of the workspace of the token that asks."""

    @wraps(view)
    async def endpoint(request: Any, **rest: str) -> HttpResponseBase:
        action = Action.READ if request.method in ("GET", "HEAD") else Action.WRITE

        async def admitted(is_repeat: bool) -> Call | Refusal:
            if no := first_checks(request, action, needs_secret=needs_secret):
                return no
            target = Target(request.token.workspace.name, "", None)
            return Call(request, request.token, target, None, action, Allowed(), changes.now())

        return await answered(request, action, admitted, view, **rest)

    endpoint.policy = "secret token" if needs_secret else "token"  # type: ignore[attr-defined]
    return endpoint


def _said(document: Any, headers: dict[str, str] | None = None) -> Answer:
    text = simplejson.dumps(document, ensure_ascii=False).encode("utf-8", "backslashreplace")
    return Answer(text, JSON, is_free=True, headers=headers or {})


def _workspace(call: Call) -> Workspace:
    return Workspace.objects.get(pk=call.token.workspace.id)


async def _body(call: Call) -> Any | Refusal:
    """The JSON of a body; an empty one is an empty object."""
    body = await call.request.read_body(bytes_max=BODY_BYTES_MAX)
    if isinstance(body, Refusal):
        return body
    return loads_json(body) if body.strip() else {}


async def _changed(
    call: Call, work: Callable[..., Any], *arguments: Any, holds_secret: bool = False
) -> Any | Refusal:
    """What a change answers; a repeated POST with a key is answered as the first time."""
    now: datetime = call.now
    address = client_address(call.request)

    claim = claim_of(call) if call.request.method == "POST" else None

    def change() -> Any:
        document = work(_workspace(call), *arguments, now=now, address=address)
        is_kept = claim and not holds_secret and not isinstance(document, Refusal)
        return answers.without_value(document) if is_kept else document

    def answer() -> Any:
        document = once(claim, change, now=now, holds_secret=holds_secret)
        if not claim or holds_secret or isinstance(document, Refusal):
            return document
        return answers.with_value(_workspace(call), document, now=now)

    return await in_thread(answer)()


async def _read_own(call: Call) -> Answer | Refusal:
    """GET /v1/token: who am I."""
    return _said(await in_thread(answers.own)(call.token.token_id, now=call.now))


read_own = token_endpoint(_read_own, needs_secret=False)


@token_endpoint
async def read_tokens(call: Call) -> Answer | Refusal:
    """GET /v1/tokens."""
    values = parameters.values(pairs(call.request.GET), "tokens")
    if isinstance(values, Refusal):
        return values
    limit = min(values.get("limit", answers.LIMIT_MAX), answers.LIMIT_MAX)
    page = await in_thread(
        lambda: answers.listed(
            _workspace(call),
            limit=limit,
            cursor=values.get("cursor", ""),
            in_trash=values.get("trash", False),
            now=call.now,
        )
    )()
    if isinstance(page, Refusal):
        return page
    found, cursor = page
    return _said(found, paging_headers(call, cursor) if cursor else None)


@token_endpoint
async def read_token(call: Call, token_id: str) -> Answer | Refusal:
    """GET /v1/tokens/ID."""
    document = await in_thread(lambda: answers.read(_workspace(call), token_id, now=call.now))()
    return document if isinstance(document, Refusal) else _said(document)


@token_endpoint
async def create_token(call: Call) -> Answer | Refusal:
    """POST /v1/tokens."""
    body = await _body(call)
    document = body if isinstance(body, Refusal) else await _changed(call, answers.create, body)
    return document if isinstance(document, Refusal) else _said(document)


@token_endpoint
async def edit_token(call: Call, token_id: str) -> Answer | Refusal:
    """PATCH /v1/tokens/ID."""
    body = await _body(call)
    document = body if isinstance(body, Refusal) else await _changed(call, answers.edit, token_id, body)
    return document if isinstance(document, Refusal) else _said(document)


@token_endpoint
async def delete_token(call: Call, token_id: str) -> Answer | Refusal:
    """DELETE /v1/tokens/ID."""
    document = await _changed(call, answers.delete, token_id)
    return document if isinstance(document, Refusal) else _said(document)


@token_endpoint
async def rotate_token(call: Call, token_id: str) -> Answer | Refusal:
    """POST /v1/tokens/ID/rotate: the answer holds the new value, so it is kept nowhere."""
    body = await _body(call)
    if isinstance(body, Refusal):
        return body
    document = await _changed(call, answers.rotate, token_id, body, holds_secret=True)
    return document if isinstance(document, Refusal) else _said(document, NO_STORE)


@token_endpoint
async def test_token(call: Call, token_id: str) -> Answer | Refusal:
    """POST /v1/tokens/ID/test: which check stops a request that is not sent. Changes nothing."""
    body = await _body(call)
    asked = body if isinstance(body, Refusal) else trials.parse(body, now=call.now)
    if isinstance(asked, Refusal):
        return asked
    trial, at = asked

    def work() -> Any:
        token = answers.find(_workspace(call), token_id, now=call.now)
        if isinstance(token, Refusal):
            return token
        report = try_out(token, trial, now=call.now, at=at)
        after = result_document(report.after, call.request) if report.after else None
        return result_document(report.asked, call.request) | {
            "now": result_document(report.now, call.request),
            "afterActivation": after,
            "curl": report.curl,
        }

    document = await in_thread(work)()
    return document if isinstance(document, Refusal) else _said(document)


def result_document(result: Result, request: Any) -> dict[str, Any]:
    """What all checks say at one moment, and the refusal that the request would be answered with."""
    return {
        "at": moment(result.at),
        "allowed": result.allowed,
        "check": result.check,
        "refusal": problem(result.refusal, request) if result.refusal else None,
        "checks": [
            {"name": checked.name, "passed": checked.passed, "detail": checked.detail}
            for checked in result.checks
        ],
    }


@token_endpoint
async def read_refusals(call: Call, token_id: str) -> Answer | Refusal:
    """GET /v1/tokens/ID/refusals."""
    found = await in_thread(lambda: answers.last_refusals(_workspace(call), token_id, now=call.now))()
    return found if isinstance(found, Refusal) else _said(found)


@token_endpoint
async def read_usage(call: Call, token_id: str) -> Answer | Refusal:
    """GET /v1/tokens/ID/usage?range=30d&by=dataset."""
    values = parameters.values(pairs(call.request.GET), "usage")
    if isinstance(values, Refusal):
        return values
    asked = values.get("range", "30d")
    span = parse_range(asked, now=call.now)
    if span is None:
        return invalid_value("range", asked, RANGES_NEEDED)

    def work() -> Any:
        token = answers.find(_workspace(call), token_id, now=call.now)
        if isinstance(token, Refusal):
            return token
        return {"range": asked} | usage_series(
            token, start=span.start, end=span.end, by=values.get("by", "day")
        )

    document = await in_thread(work)()
    return document if isinstance(document, Refusal) else _said(document)


def at_once(what: str) -> Callable[..., Awaitable[HttpResponseBase]]:
    """POST /v1/tokens/ID/WHAT."""

    async def view(call: Call, token_id: str) -> Answer | Refusal:
        body = await _body(call)
        if isinstance(body, Refusal):
            return body
        document = await _changed(call, answers.do, token_id, what, body)
        return document if isinstance(document, Refusal) else _said(document)

    return token_endpoint(view)
