"""data_endpoint(): what stands before and after every request on a dataset.

Before: method, token, names, the checks of tokens.gate.access. After: charge, meter, headers. A view in
between returns an Answer or a Refusal and knows nothing of either. This decorator is the one place
that turns a Refusal of the data plane into HTTP. Source: product.md, The checks on a request.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial, wraps
from typing import IO, Any

import psycopg
from django.http import HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.utils.http import http_date

from apperate.accounts.addresses import client_address
from apperate.accounts.audit import trail
from apperate.accounts.idempotency import HEADER, Claim, key_of
from apperate.database import shares
from apperate.database.changes import Stale, changes
from apperate.database.shares import Asker, Busy
from apperate.http import delivery
from apperate.http.problems import JSON, problem_response
from apperate.kernel.refusals import Refusal, invalid_value, unavailable
from datasets.api import payment
from datasets.api.payment import Part
from datasets.records.schema import dataset_id, is_storable
from datasets.storage import catalog
from datasets.storage.catalog import Metadata
from tokens.gate import access, signed_requests
from tokens.gate.access import Allowed, Facts
from tokens.gate.meter import meter
from tokens.gate.refusal_log import refusals
from tokens.rules import domains
from tokens.rules.permissions import CORE, PREMIUM, Action, Snapshot, Target


@dataclass(frozen=True, slots=True)
class Answer:
    """What a view wants to say: 200, or 304 to whoever has it. `records` is what is charged and counted.

    `parts` says of which dataset they are when it is not the call's alone. `file` has the body instead, from
    where it stands, with that many bytes left; it is closed here. `settled` runs when the answer is paid for.
    """

    body: bytes
    content_type: str = JSON
    records: int = 0
    is_free: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    parts: tuple[Part, ...] = ()
    file: IO[bytes] | None = None
    file_bytes: int = 0
    settled: Callable[[], Awaitable[None]] | None = None

    def etag(self, *more: str, key: bytes = b"") -> str:
        """Names the bytes of the answer, and the next page it leads to."""
        cursor = self.headers.get("Apperate-Next-Cursor", "")
        return delivery.etag_of(self.body, self.content_type, cursor, *more, key=key)


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
    def metadata(self) -> Metadata:
        """The dataset; data_endpoint() lets no call without one pass."""
        if self.dataset is None:
            raise LookupError("a call of a workspace as a whole has no dataset")
        return self.dataset


class Outdated:
    """What a view returns when it saw that the call was admitted by metadata that is no longer true."""


OUTDATED = Outdated()
SHORT_BYTES = 100_000
# Of so many records an answer is short, and of more it may be long. Once as little of it is left to be sent
# as this, it does not matter how long that takes.
FEW_RECORDS = 10
UNSENT_BYTES_MAX = 1_000_000
FILE_PART_BYTES = 256 * 1024
ADMISSIONS_MAX = 3
View = Callable[..., Awaitable["Answer | Refusal | Outdated"]]
Admit = Callable[[bool], Awaitable[Call | Refusal]]


def data_endpoint(action: Action) -> Callable[[View], Callable[..., Awaitable[HttpResponseBase]]]:
    """Let a view see only what was checked: it is called with a Call and the rest of the path."""

    def decorate(view: View) -> Callable[..., Awaitable[HttpResponseBase]]:
        @wraps(view)
        async def endpoint(request: Any, workspace: str, name: str, **rest: str) -> HttpResponseBase:
            async def admitted(is_repeat: bool) -> Call | Refusal:
                # What is cached serves reads alone: only they notice that it is no longer true.
                fresh = is_repeat or action is not Action.READ
                return await admit(request, action, workspace, name, rest, fresh=fresh)

            return await answered(request, action, admitted, view, **rest)

        endpoint.policy = "token"  # type: ignore[attr-defined]
        return endpoint

    return decorate


def workspace_endpoint(view: View) -> Callable[..., Awaitable[HttpResponseBase]]:
    """For what concerns a workspace as a whole: its secret token alone may."""

    @wraps(view)
    async def endpoint(request: Any, workspace: str, **rest: str) -> HttpResponseBase:
        async def admitted(is_repeat: bool) -> Call | Refusal:
            return admit_secret(request, workspace)

        return await answered(request, Action.WRITE, admitted, view, **rest)

    endpoint.policy = "secret token"  # type: ignore[attr-defined]
    return endpoint


async def answered(
    request: Any, action: Action, admitted: Admit, view: View, **rest: str
) -> HttpResponseBase:
    """Admit, let the view answer, charge and count; keep the place of a long answer until it is sent."""
    request.place = None
    try:
        response = await _answered(request, action, admitted, view, **rest)
    except BaseException:
        leave_place(request)
        raise
    if request.place is not None and not response.streaming and len(response.content) > UNSENT_BYTES_MAX:  # type: ignore[attr-defined]
        response._resource_closers.append(request.place.leave)  # type: ignore[attr-defined]
    else:
        leave_place(request)
    return response


async def take_place(call: Call, *, records_at_most: int) -> None:
    """Wait for a place for an answer that may be long. Raises Busy."""
    if records_at_most > FEW_RECORDS and call.request.place is None:
        place = shares.ANSWERS.place(shares.asker.get())
        await place.take()
        call.request.place = place


def leave_place(request: Any) -> None:
    if request.place is not None:
        request.place.leave()


async def _answered(
    request: Any, action: Action, admitted: Admit, view: View, **rest: str
) -> HttpResponseBase:
    """An outdated admission is made again, checks and all."""
    call: Call | None = None
    answer: Answer | Refusal | Outdated = unavailable()
    request.bill = payment.Bill()
    token: Snapshot | None = request.token
    if token is not None:
        shares.asker.set(Asker(token.token_id, token.workspace.id))
    try:
        if no := await prepared(request):
            return refuse(request, call, no, action)
        for number in range(ADMISSIONS_MAX):
            request.bill.parts, request.bill.is_read = (), False
            verdict = await admitted(number > 0)
            if not isinstance(verdict, Refusal):
                verdict = await check_rate(request) or verdict
            if number == 0 and not isinstance(verdict, Refusal):
                verdict = await signed_requests.claim(request, now=verdict.now) or verdict
            if isinstance(verdict, Refusal):
                return refuse(request, call, verdict, action)
            call = verdict
            key = key_of(request.headers.get(HEADER, ""))
            if isinstance(key, Refusal):
                return refuse(request, call, key, action)
            with trail.asked_by(address=client_address(request), actor=f"token {request.token.public_id}"):
                answer = await view(call, **rest)
            if not isinstance(answer, Outdated):
                break
        if isinstance(answer, Answer) and call is not None:
            return await pay(call, answer)
    except Stale:
        answer = unavailable()
    except psycopg.errors.QueryCanceled:
        answer = too_slow()
    except Busy as busy:
        answer = busy.refusal if token is None else busy.refusal.for_token(token.public_id)
        if not (busy.has_begun or request.bill.is_read):
            request.bill.parts = ()
    except BaseException:
        if call is not None:
            payment.give_up(call, is_owed=False)
        raise
    return refuse(request, call, answer if isinstance(answer, Refusal) else unavailable(), action)


async def prepared(request: Any) -> Refusal | None:
    """Make ready what a check needs that must be waited for: the body of a signed request."""
    if request.token is None:
        request.signature = None
        return None
    return await signed_requests.present(request, now=changes.now())


def claim_of(call: Call) -> Claim | None:
    """The claim of a request with an Idempotency-Key whose body was read; None without one."""
    request = call.request
    key = key_of(request.headers.get(HEADER, ""))
    if not isinstance(key, str):
        return None
    asked = sorted((name, tuple(texts)) for name, texts in request.GET.lists() if name != "token")
    fingerprint = hashlib.sha256(repr(asked).encode() + request.body_hash.digest()).digest()
    # No POST names anything whose case counts.
    route = f"{request.method} {request.path.upper()}"
    return Claim(call.token.workspace.id, route, key, fingerprint)


def first_checks(request: Any, action: Action, *, needs_secret: bool = False) -> Refusal | None:
    """The checks that need no name: the token, whether it is active, signature and domain."""
    if request.token is None:
        refusal: Refusal = request.token_refusal
        return refusal
    facts = facts_of(request, action, None, needs_secret=needs_secret)
    return access.check_settings(request.token, facts, now=changes.now())


def admit_secret(request: Any, workspace: str) -> Call | Refusal:
    """The checks of workspace_endpoint(). Another workspace and one that does not exist are the same "no"."""
    if no := first_checks(request, Action.WRITE, needs_secret=True):
        return no
    token: Snapshot = request.token
    name = dataset_id(workspace)
    if isinstance(name, Refusal):
        return name
    if name != token.workspace.name:
        return Refusal(
            "secret-required",
            f"This action needs the secret token of the workspace {name}, if there is one of that name.",
            check="permission",
            received="the secret token of another workspace",
            needed="the workspace's own secret token",
            token=token.public_id,
        )
    return Call(request, token, Target(name, "", None), None, Action.WRITE, Allowed(), changes.now())


async def admit(
    request: Any, action: Action, workspace: str, name: str, rest: Mapping[str, str], *, fresh: bool
) -> Call | Refusal:
    """The checks before a view, in order; the first "no" is the answer."""
    if no := first_checks(request, action):
        return no
    names = (dataset_id(workspace), dataset_id(name))
    for found in names:
        if isinstance(found, Refusal):
            return found
    workspace_name, dataset_name = str(names[0]), str(names[1])
    for part, text in rest.items():
        if not is_storable(text):
            return invalid_value(part, ascii(text)[1:-1], "text without NUL characters")
    was_cached = not fresh and catalog.catalog.get((workspace_name, dataset_name)) is not None
    dataset = await catalog.find(workspace_name, dataset_name, fresh=fresh)
    target = Target(workspace_name, dataset_name, dataset.id if dataset else None)
    # Of another workspace's dataset nobody may learn that it exists.
    request.asked = dataset.id if dataset and workspace_name == request.token.workspace.name else 0
    now = changes.now()
    facts = facts_of(request, action, target)
    verdict = await access.check_access(request.token, facts, partial(check_rate, request), now=now)
    if isinstance(verdict, Refusal):
        if was_cached and verdict.check == "permission":
            # A missing name is asked for each time; the answer must not come sooner for one that exists.
            renewed = await catalog.find(workspace_name, dataset_name, fresh=True)
            if renewed is not None and dataset is not None and renewed.id != dataset.id:
                # The one that was remembered is gone; its name belongs to another dataset now.
                return await admit(request, action, workspace, name, rest, fresh=True)
        return verdict
    return Call(request, request.token, target, dataset, action, verdict, now)


def say_rate(request: Any, response: HttpResponseBase) -> None:
    """How many more requests the token may send, on answers to requests that were counted."""
    if (rate := getattr(request, "rate", None)) is not None:
        for name, text in rate.headers.items():
            response.headers[name] = text


async def check_rate(request: Any) -> Refusal | None:
    """The refusal of a request above its token's rate. Counted once, however many datasets it is about."""
    if getattr(request, "rate", None) is None:
        request.rate = await access.check_rate(request.token, now=changes.now())
    refusal: Refusal | None = request.rate.refusal()
    return refusal.for_token(request.token.public_id) if refusal else None


def facts_of(request: Any, action: Action, target: Target | None, *, needs_secret: bool = False) -> Facts:
    headers = request.headers
    return Facts(
        action=action,
        target=target,
        referer=headers.get("Referer"),
        origin=headers.get("Origin"),
        from_browser="Origin" in headers or "Sec-Fetch-Site" in headers,
        needs_secret=needs_secret,
        signature=request.signature,
    )


async def pay(call: Call, answer: Answer) -> HttpResponseBase:
    """Charge what the answer costs, make it, and count it; 402 sends nothing and charges nothing."""
    limit = call.allowed.limit
    parts = answer.parts or ((Part(call.dataset, answer.records),) if call.dataset else ())
    is_priced = any(part.dataset.is_priced for part in parts)
    is_read = call.action is Action.READ and call.request.method in ("GET", "HEAD")
    etag = await etag_of(call, answer, is_priced=is_priced) if is_read and answer.file is None else ""
    given = call.request.headers.get("If-None-Match", "")
    is_unchanged = bool(etag) and delivery.is_unchanged(
        given, etag, takes_any=answer.is_free or not is_priced
    )
    costs = [0 if answer.is_free or is_unchanged else part.cost for part in parts]
    cost = sum(costs)
    workspace = parts[0].dataset.workspace if parts else ""  # All parts are of one.
    used: int | Refusal = 0
    if limit is not None:
        # Whether the answer fits is decided as if it were new and short: a "no" must not tell that it is not.
        used = await payment.settle(call, 0 if answer.is_free else sum(part.cost_of_found for part in parts))
        if not isinstance(used, Refusal) and call.request.bill.ahead != cost:
            used = await payment.settle(call, cost)
    else:
        payment.give_back(call, call.request.bill.ahead)  # It had a limit a moment ago.
    if isinstance(used, Refusal):
        if answer.file is not None:
            answer.file.close()
        call.request.bill.parts = ()
        return refuse(call.request, call, used, call.action)
    try:
        if answer.settled is not None and call.request.method != "HEAD":
            await answer.settled()
        response: HttpResponseBase = HttpResponse(status=304) if is_unchanged else await packed(call, answer)
    except BaseException:
        payment.give_up(call, is_owed=False)
        raise
    count(call, parts, costs, is_unchanged=is_unchanged)
    if etag:
        response.headers["ETag"] = etag
    say_cost(response, cost, workspace)
    say_rate(call.request, response)
    if limit is not None:
        response.headers["Apperate-Credits-Remaining"] = str(max(0, limit - used))
    response.headers.setdefault("Cache-Control", "private, no-cache")
    response.headers["Vary"] = "Accept, Accept-Encoding"
    share_with_origin(call, response)
    return response


async def etag_of(call: Call, answer: Answer, *, is_priced: bool) -> str:
    """The ETag of an answer. That of priced data is this token's alone, for this question alone: whoever has
    it has paid for the answer that it names.
    """
    if not is_priced or answer.is_free:
        return await aside(answer, answer.etag)
    asked = sorted(pair for pair in pairs(call.request.GET) if pair[0] != "token")
    more = (call.token.public_id, call.request.path, repr(asked))
    return await aside(answer, partial(answer.etag, *more, key=payment.etag_key()))


def say_cost(response: HttpResponseBase, cost: int, workspace: str) -> None:
    """What the answer costs, in the headers that older clients read; PREMIUM has its own."""
    premium = cost if workspace == PREMIUM else 0
    for name, figure in (("credits", cost - premium), ("premium-credits", premium)):
        response.headers[f"iexcloud-{name}-used"] = str(figure)
        response.headers[f"iexcloud-{name.replace('credits', 'messages')}-used"] = str(figure)


def count(
    call: Call, parts: tuple[Part, ...], costs: list[int], *, is_unchanged: bool = False, outcome: str = "ok"
) -> None:
    """Count an answer for each dataset it is of, or once for a call that concerns none."""
    token_id = call.token.token_id
    for part, cost in zip(parts, costs, strict=True):
        meter.meter(
            token_id,
            dataset_id=part.dataset.id,
            operation=call.action,
            outcome=outcome,
            now=call.now,
            records=0 if is_unchanged else part.records,
            credits=cost,
            core_credits=cost if part.dataset.workspace == CORE else 0,
            is_charged=call.allowed.limit is not None,
        )
    if outcome != "ok":
        return
    if not parts:
        meter.meter(token_id, dataset_id=0, operation=call.action, outcome="ok", now=call.now)
    origin, referer = call.request.headers.get("Origin"), call.request.headers.get("Referer")
    if origin or referer:
        refusals.note_caller(token_id, origin=origin, referer=referer, now=call.now)


def pairs(parameters: Any) -> list[tuple[str, str]]:
    """The query string's names and values, repeated names included."""
    return [(name, value) for name, values in parameters.lists() for value in values]


async def packed(call: Call, answer: Answer) -> HttpResponseBase:
    """The answer with its headers, compressed when it is long enough and the client takes that."""
    if answer.file is not None:
        headers = answer.headers | {"Content-Length": str(answer.file_bytes)}
        parts = file_parts(answer.file)
        sent = StreamingHttpResponse(parts, content_type=answer.content_type, headers=headers)
        sent._resource_closers.append(answer.file.close)  # type: ignore[attr-defined]
        return sent
    response = HttpResponse(answer.body, content_type=answer.content_type, headers=answer.headers)
    encoding = delivery.encoding_for(call.request.headers.get("Accept-Encoding", ""))
    if encoding and len(answer.body) >= delivery.COMPRESSED_BYTES_MIN:
        response.content = await aside(answer, lambda: delivery.compressed(answer.body, encoding))
        response.headers["Content-Encoding"] = encoding
    return response


async def file_parts(file: IO[bytes]) -> AsyncIterator[bytes]:
    """The rest of a file, read off the event loop."""
    while part := await asyncio.to_thread(file.read, FILE_PART_BYTES):
        yield part


async def aside(answer: Answer, work: Callable[[], Any]) -> Any:
    """The result of `work` on an answer's body, made off the event loop when the body is long."""
    return await shares.in_body_thread(work) if len(answer.body) > SHORT_BYTES else work()


def share_with_origin(call: Call, response: HttpResponseBase) -> None:
    """CORS of a 2xx answer: any origin, or for a token with domain rules the one that matched them.

    A Referer alone has an origin too. Rules that only report let every page pass, and every page read.
    """
    versions = call.token.versions(now=call.now)
    if not any(version.allowed_domains and not version.domains_report_only for version in versions):
        response.headers["Access-Control-Allow-Origin"] = "*"
        return
    headers = call.request.headers
    origin = headers.get("Origin") or domains.origin_of(headers.get("Referer", ""))
    response.headers["Access-Control-Allow-Origin"] = origin or "*"
    response.headers["Vary"] += ", Origin"


def refuse(request: Any, call: Call | None, refusal: Refusal, action: Action) -> HttpResponse:
    """Count a refusal under its code when the token is known, and say it."""
    token: Snapshot | None = request.token
    now: datetime | None = None
    # A question that was begun is owed for: why it has no answer depends on the data, but for our own faults.
    owed = payment.give_up(call, is_owed=refusal.status < 500) if call is not None else ()
    if token is not None:
        with suppress(Stale):
            now = changes.now()
        dataset = call.dataset if call else None
        if now is not None:
            if call is not None and owed:
                count(call, owed, [part.cost for part in owed], outcome=refusal.code)
            else:
                meter.meter(
                    token.token_id,
                    dataset_id=dataset.id if dataset else 0,
                    operation=action,
                    outcome=refusal.code,
                    now=now,
                )
            refusals.note(
                token.token_id,
                code=refusal.code,
                dataset_id=dataset.id if dataset else getattr(request, "asked", 0),
                origin=request.headers.get("Origin"),
                referer=request.headers.get("Referer"),
                now=now,
            )
    response = problem_response(refusal, request)
    say_rate(request, response)
    if owed:
        say_cost(response, payment.total(owed), owed[0].dataset.workspace)
    if refusal.check == "signature" and now is not None:
        response.headers["Date"] = http_date(
            now.timestamp()
        )  # The clock that the signature is compared with.
    return response


def too_slow() -> Refusal:
    return Refusal(
        "query-too-slow",
        "The query was stopped after five seconds. Ask for fewer records or a shorter span.",
        check="query",
        needed="a narrower query",
    )
