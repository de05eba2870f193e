"""data_endpoint(): what stands before and after every request on a dataset.

Before: method, token, names, the checks of tokens.access. After: charge, meter, headers. A view in
between returns an Answer or a Refusal and knows nothing of either. This decorator is the one place
that turns a Refusal of the data plane into HTTP. Source: product.md, The checks on a request.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import wraps
from typing import Any

import psycopg
from django.http import HttpResponse, HttpResponseBase

from apperate.changes import Stale, changes
from apperate.problems import JSON, problem_response, unavailable
from apperate.refusals import Refusal
from datasets import catalog
from datasets.catalog import Metadata
from datasets.schema import dataset_id
from tokens import access, credits
from tokens.access import Allowed, Facts
from tokens.permissions import CORE, PREMIUM, Action, Snapshot, Target
from tokens.usage import meter


@dataclass(frozen=True, slots=True)
class Answer:
    """What a view wants to say: always 200. `records` is what is charged and counted."""

    body: bytes
    content_type: str = JSON
    records: int = 0
    is_free: bool = False
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Call:
    """A request that passed every check: who asks, what for, and when (the database's time)."""

    request: Any
    token: Snapshot
    target: Target
    dataset: Metadata | None
    action: Action
    allowed: Allowed
    now: datetime

    @property
    def dataset_id(self) -> int:
        """The dataset's id; data_endpoint() lets no call without a dataset pass."""
        if self.dataset is None:
            raise LookupError("a call of a workspace as a whole has no dataset")
        return self.dataset.id


View = Callable[..., Awaitable["Answer | Refusal"]]


def data_endpoint(action: Action) -> Callable[[View], Callable[..., Awaitable[HttpResponseBase]]]:
    """Let a view see only what was checked: it is called with a Call and the rest of the path."""

    def decorate(view: View) -> Callable[..., Awaitable[HttpResponseBase]]:
        @wraps(view)
        async def endpoint(request: Any, workspace: str, name: str, **rest: str) -> HttpResponseBase:
            try:
                call = await admit(request, action, workspace, name)
                answer = call if isinstance(call, Refusal) else await view(call, **rest)
                if isinstance(call, Call) and isinstance(answer, Answer):
                    return await pay(call, answer)
            except Stale:
                call = answer = unavailable()
            except psycopg.errors.QueryCanceled:
                answer = too_slow()
            return refuse(request, call, answer, action)

        endpoint.policy = "token"  # type: ignore[attr-defined]
        return endpoint

    return decorate


def workspace_endpoint(view: View) -> Callable[..., Awaitable[HttpResponseBase]]:
    """For what concerns a workspace as a whole: its secret token alone may."""

    @wraps(view)
    async def endpoint(request: Any, workspace: str, **rest: str) -> HttpResponseBase:
        try:
            call = admit_secret(request, workspace)
            answer = call if isinstance(call, Refusal) else await view(call, **rest)
            if isinstance(call, Call) and isinstance(answer, Answer):
                return await pay(call, answer)
        except Stale:
            call = answer = unavailable()
        return refuse(request, call, answer, Action.WRITE)

    endpoint.policy = "secret token"  # type: ignore[attr-defined]
    return endpoint


def admit_secret(request: Any, workspace: str) -> Call | Refusal:
    """The checks of workspace_endpoint(). Another workspace and one that does not exist are the same "no"."""
    token: Snapshot | None = request.token
    if token is None:
        refusal: Refusal = request.token_refusal
        return refusal
    name = dataset_id(workspace)
    if isinstance(name, Refusal):
        return name
    now = changes.now()
    no = access.check_settings(token, facts_of(request, Action.WRITE, None, needs_secret=True), now=now)
    if no is not None:
        return no
    if name != token.workspace.name:
        return Refusal(
            "secret-required",
            f"This action needs the secret token of the workspace {name}, if there is one of that name.",
            check="permission",
            received="the secret token of another workspace",
            needed="the workspace's own secret token",
            token=token.public_id,
        )
    return Call(request, token, Target(name, "", None), None, Action.WRITE, Allowed(), now)


async def admit(request: Any, action: Action, workspace: str, name: str) -> Call | Refusal:
    """The checks before a view, in order; the first "no" is the answer."""
    if request.token is None:
        refusal: Refusal = request.token_refusal
        return refusal
    workspace_name = dataset_id(workspace)
    if isinstance(workspace_name, Refusal):
        return workspace_name
    dataset_name = dataset_id(name)
    if isinstance(dataset_name, Refusal):
        return dataset_name
    dataset = await catalog.find(workspace_name, dataset_name)
    target = Target(workspace_name, dataset_name, dataset.id if dataset else None)
    now = changes.now()
    verdict = await access.check_access(request.token, facts_of(request, action, target), now=now)
    if isinstance(verdict, Refusal):
        return verdict
    return Call(request, request.token, target, dataset, action, verdict, now)


def facts_of(request: Any, action: Action, target: Target | None, *, needs_secret: bool = False) -> Facts:
    headers = request.headers
    return Facts(
        action=action,
        target=target,
        referer=headers.get("Referer"),
        origin=headers.get("Origin"),
        from_browser="Origin" in headers or "Sec-Fetch-Site" in headers,
        needs_secret=needs_secret,
    )


async def pay(call: Call, answer: Answer) -> HttpResponseBase:
    """Charge what the answer costs, count it, and send it; 402 sends nothing and charges nothing."""
    dataset, token = call.dataset, call.token
    is_free = answer.is_free or call.request.method == "HEAD" or dataset is None
    cost = 0 if is_free or dataset is None else answer.records * dataset.credits_per_record
    on_core = dataset is not None and dataset.workspace == CORE
    limit, used = call.allowed.limit, call.allowed.used
    if cost and on_core and limit is not None:
        charged = await credits.charge(token.token_id, cost, limit=limit, now=call.now)
        if isinstance(charged, Refusal):
            return refuse(call.request, call, charged.for_token(token.public_id), call.action)
        used = charged.used
    meter.meter(
        token.token_id,
        dataset_id=dataset.id if dataset else 0,
        operation=call.action,
        outcome="ok",
        now=call.now,
        records=answer.records,
        credits=cost,
        core_credits=cost if on_core else 0,
        is_charged=limit is not None,
    )
    response = HttpResponse(answer.body, content_type=answer.content_type, headers=answer.headers)
    premium = cost if dataset is not None and dataset.workspace == PREMIUM else 0
    for name, figure in (("credits", cost - premium), ("premium-credits", premium)):
        response.headers[f"iexcloud-{name}-used"] = str(figure)
        response.headers[f"iexcloud-{name.replace('credits', 'messages')}-used"] = str(figure)
    if limit is not None and used is not None:
        response.headers["Apperate-Credits-Remaining"] = str(max(0, limit - used))
    response.headers["Cache-Control"] = "private, no-cache"
    response.headers["Vary"] = "Accept, Accept-Encoding"
    share_with_origin(call, response)
    return response


def share_with_origin(call: Call, response: HttpResponse) -> None:
    """CORS of a 2xx answer: any origin, or for a token with domain rules the one that matched them."""
    origin = call.request.headers.get("Origin")
    restricted = any(version.allowed_domains for version in call.token.versions(now=call.now))
    if restricted and origin:
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Vary"] += ", Origin"
    else:
        response.headers["Access-Control-Allow-Origin"] = "*"


def refuse(request: Any, call: Call | Refusal, refusal: Any, action: Action) -> HttpResponse:
    """Count a refusal under its code when the token is known, and say it."""
    token: Snapshot | None = request.token
    if token is not None:
        try:
            now = changes.now()
        except Stale:
            now = None
        dataset = call.dataset if isinstance(call, Call) else None
        if now is not None:
            meter.meter(
                token.token_id,
                dataset_id=dataset.id if dataset else 0,
                operation=action,
                outcome=refusal.code,
                now=now,
            )
    return problem_response(refusal, request)


def too_slow() -> Refusal:
    return Refusal(
        "query-too-slow",
        "The query was stopped after five seconds. Ask for fewer records or a shorter span.",
        check="query",
        needed="a narrower query",
    )
