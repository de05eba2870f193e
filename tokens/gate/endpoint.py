"""answered(): what happens before and after every request of the API.

Before: method, token, names, the checks of tokens.gate.access. After: settle, meter, headers. The view in
between returns an Answer or a Refusal and knows nothing of these steps. Only this module turns a Refusal of
the data plane into HTTP. What a caller may ask for depends on the path: data_endpoint() decides for datasets,
token_endpoint() for tokens. Source: docs/architecture.md.
"""

import hashlib
from contextlib import suppress
from datetime import datetime

import psycopg
from django.http import HttpResponse, HttpResponseBase
from django.utils.http import http_date

from apperate.accounts.addresses import client_address
from apperate.accounts.audit import trail
from apperate.accounts.idempotency import HEADER, Claim, key_of
from apperate.database import disk, shares
from apperate.database.changes import Stale, changes
from apperate.database.shares import Asker, Busy
from apperate.http import delivery
from apperate.http.middleware import SAFE_METHODS
from apperate.http.problems import problem_response
from apperate.kernel.refusals import Refusal, unavailable
from tokens.gate import access, payment, signed_requests
from tokens.gate.access import Facts
from tokens.gate.answers import compressed, etag_of, say_cost, say_rate, share_with_origin
from tokens.gate.calls import Admit, Answer, ApiRequest, Bill, Call, Outdated, Part, View
from tokens.gate.refusal_log import refusals
from tokens.metering.meter import meter
from tokens.rules.permissions import CORE, Action, Target

# An answer of up to this many records is short, a longer one may not be. Once no more than this many bytes
# are left to send, it no longer matters how long sending takes.
FEW_RECORDS = 10
UNSENT_BYTES_MAX = 1_000_000
ADMISSIONS_MAX = 3


async def answered(
    request: ApiRequest, action: Action, admitted: Admit, view: View, **rest: str
) -> HttpResponseBase:
    """Admit, let the view answer, charge and count; hold a long answer's place until it is sent."""
    request.place = None
    try:
        response = await _answered(request, action, admitted, view, **rest)
    except BaseException:
        leave_place(request)
        raise
    if request.place is not None and not response.streaming and len(response.content) > UNSENT_BYTES_MAX:
        response._resource_closers.append(request.place.leave)
    else:
        leave_place(request)
    return response


async def take_place(call: Call, *, records_at_most: int) -> None:
    """Wait for a place for an answer that may be long. Raises Busy."""
    if records_at_most > FEW_RECORDS and call.request.place is None:
        place = shares.ANSWERS.place(shares.asker.get())
        await place.take()
        call.request.place = place


def leave_place(request: ApiRequest) -> None:
    if request.place is not None:
        request.place.leave()


async def _answered(
    request: ApiRequest, action: Action, admitted: Admit, view: View, **rest: str
) -> HttpResponseBase:
    """An outdated admission is repeated, checks included."""
    call: Call | None = None
    answer: Answer | Refusal | Outdated = unavailable()
    request.bill = Bill()
    token = request.token
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
            try:
                with trail.asked_by(address=client_address(request), actor=f"token {call.token.public_id}"):
                    answer = await view(call, **rest)
            except psycopg.errors.QueryCanceled:
                answer = too_slow()
            if not isinstance(answer, Outdated):
                break
        if isinstance(answer, Answer) and call is not None:
            return await pay(call, answer)
    except Stale:
        answer = unavailable()
    except psycopg.errors.QueryCanceled:  # A check or a charge that waited too long: not the caller's query.
        answer = unavailable()
    except Busy as busy:
        answer = busy.refusal if token is None else busy.refusal.for_token(token.public_id)
        if not (busy.has_begun or request.bill.is_read):
            request.bill.parts = ()
        elif call is not None and answer.status < 500:
            answer = await payment.pay_owed(call) or answer
    except BaseException:
        if call is not None:
            payment.give_up(call, is_owed=False)
        raise
    return refuse(request, call, answer if isinstance(answer, Refusal) else unavailable(), action)


async def prepared(request: ApiRequest) -> Refusal | None:
    """Wait for what a check needs in advance: the body of a signed request."""
    if request.token is None:
        request.signature = None
        return None
    return await signed_requests.present(request, now=changes.now())


def claim_of(call: Call) -> Claim | None:
    """The claim of a request with an Idempotency-Key whose body was read; None without one."""
    request = call.request
    key = key_of(request.headers.get(HEADER, ""))
    if not isinstance(key, str) or request.body_hash is None:
        return None
    asked = sorted((name, tuple(texts)) for name, texts in request.GET.lists() if name != "token")
    fingerprint = hashlib.sha256(repr(asked).encode() + request.body_hash.digest()).digest()
    # No POST path is case-sensitive.
    route = f"{request.method} {request.path.upper()}"
    return Claim(call.token.workspace.id, route, key, fingerprint)


def first_checks(request: ApiRequest, action: Action, *, needs_secret: bool = False) -> Refusal | None:
    """The checks that need no dataset: the token, whether it is active, signature and domain."""
    if request.token is None:
        return request.token_refusal or unavailable()
    facts = facts_of(request, action, None, needs_secret=needs_secret)
    return access.check_settings(request.token, facts, now=changes.now())


async def check_rate(request: ApiRequest) -> Refusal | None:
    """The refusal of a request above its token's rate. Counted once, however many datasets it names."""
    token = request.checked_token
    if request.rate is None:
        request.rate = await access.check_rate(token, now=changes.now())
    refusal = request.rate.refusal()
    return refusal.for_token(token.public_id) if refusal else None


def facts_of(
    request: ApiRequest, action: Action, target: Target | None, *, needs_secret: bool = False
) -> Facts:
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
    """Charge for the answer, build it, and count it; a 402 sends nothing and charges nothing."""
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
    workspace = parts[0].dataset.workspace if parts else ""  # All parts share one.
    used: int | Refusal = 0
    if limit is not None:
        # Whether it fits is decided as if it were new and short: a refusal must not reveal that it is not.
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
        response: HttpResponseBase = (
            HttpResponse(status=304) if is_unchanged else await compressed(call, answer)
        )
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


def count(
    call: Call,
    parts: tuple[Part, ...],
    costs: list[int],
    *,
    is_unchanged: bool = False,
    outcome: str = "ok",
) -> None:
    """Count an answer for each of its datasets, or once for a call about none."""
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


def refuse(request: ApiRequest, call: Call | None, refusal: Refusal, action: Action) -> HttpResponse:
    """Count a refusal under its code when the token is known, and send it."""
    if refusal.code == "unavailable" and request.method not in SAFE_METHODS:
        refusal = disk.shortage() or refusal  # That is why the database is away, and nothing was done yet.
    token = request.token
    now: datetime | None = None
    # A query that ran is owed for: why it has no answer depends on the data, except for our own errors.
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
                dataset_id=dataset.id if dataset else request.asked,
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
