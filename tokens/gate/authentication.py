"""TokenAuthentication: finds the token of an API request, and adds what every API answer carries.

It sets request.token to the Snapshot, or request.token_refusal to the reason there is none.
Sessions are ignored: a cookie never authorises the API. Source: docs/api.md.
"""

import json
import time

from asgiref.sync import markcoroutinefunction
from django.conf import settings
from django.http import HttpResponse, HttpResponseBase

from apperate.accounts.addresses import client_address
from apperate.database.changes import Stale
from apperate.database.outage import UNAVAILABLE
from apperate.http.middleware import AsyncGetResponse
from apperate.http.problems import JSON
from apperate.kernel.hosts import is_loopback
from apperate.kernel.refusals import Refusal, unavailable
from tokens.gate import snapshots
from tokens.gate.calls import ApiRequest
from tokens.gate.failed_values import failed_values, too_many_failures
from tokens.rules import signing, token_format

METHODS = "GET, POST, PUT, PATCH, DELETE"
SIGNATURE_SCHEME = signing.ALGORITHM
TOKEN_BODY_BYTES_MAX = 65_536


class TokenAuthentication:
    """The data plane's authentication; sets request.token or request.token_refusal."""

    async_capable, sync_capable = True, False

    def __init__(self, get_response: AsyncGetResponse) -> None:
        self.get_response = get_response
        markcoroutinefunction(self)

    async def __call__(self, request: ApiRequest) -> HttpResponseBase:
        if request.method == "OPTIONS":
            return preflight(request)
        request.token, request.token_refusal, request.token_value = None, None, ""
        value = credential(request)
        if isinstance(value, Refusal) and value.code == "token-missing" and may_be_in_body(request):
            value = await in_body(request) or value
        if isinstance(value, Refusal):
            request.token_refusal = value
        else:
            await self._look_up(request, value)
        return await self.get_response(request)

    async def _look_up(self, request: ApiRequest, value: str) -> None:
        parsed = token_format.parse(value)
        if parsed is None:
            request.token_refusal = failed(request, value)
            return
        try:
            snapshot = await snapshots.for_value(parsed)
        except (Stale, *UNAVAILABLE):
            request.token_refusal = unavailable()
            return
        if snapshot is None:
            request.token_refusal = failed(request, value)
        else:
            request.token, request.token_value = snapshot, value


def credential(request: ApiRequest) -> str | Refusal:
    """A request's one token value, or why there is none: `?token=`, Bearer or X-API-Key."""
    if refusal := https_refusal(request):
        return refusal
    found: list[tuple[str, str]] = [
        ("token in the URL", value)
        for value in request.GET.getlist("token")
        if value not in {"", "undefined", "null"}
    ]
    scheme, _, rest = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and rest.strip():
        found.append(("Authorization: Bearer", rest.strip()))
    elif scheme and scheme.upper() != SIGNATURE_SCHEME:
        # The value is not echoed: it may be a token sent without the word Bearer.
        return Refusal(
            "token-invalid",
            "The Authorization header is not understood: it begins with neither Bearer nor a signature.",
            check="value",
            received="Authorization with another scheme",
            needed=f"Authorization: Bearer <token>, or a signature with {SIGNATURE_SCHEME}",
        )
    if value := request.headers.get("X-API-Key", "").strip():
        found.append(("X-API-Key", value))
    if not found:
        return Refusal(
            "token-missing",
            "Send a token: ?token=…, Authorization: Bearer …, or X-API-Key: ….",
            check="value",
            needed="one token",
        )
    places = [place for place, _ in found]
    if len({value for _, value in found}) > 1 or len(set(places)) < len(places):
        return Refusal(
            "invalid-values",
            "Send one token, once: the request has several.",
            check="value",
            received=", ".join(places),
            needed="one token in one place",
        )
    return found[0][1]


def may_be_in_body(request: ApiRequest) -> bool:
    """Older clients send the token of their account calls in the body."""
    return request.method == "POST" and request.path.startswith("/account/")


async def in_body(request: ApiRequest) -> str | Refusal | None:
    """The "token" of a JSON body of at most 64 KB, if there is one."""
    body = await request.read_body(bytes_max=TOKEN_BODY_BYTES_MAX)
    if isinstance(body, Refusal):
        return body
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    value = document.get("token") if isinstance(document, dict) else None
    return value if isinstance(value, str) and value else None


def failed(request: ApiRequest, value: str) -> Refusal:
    """The refusal of a value that belongs to no token, counted against its client address."""
    wait_seconds = failed_values.count(client_address(request), at=time.monotonic())
    return unknown_token(value) if wait_seconds is None else too_many_failures(wait_seconds)


def unknown_token(value: str) -> Refusal:
    return Refusal(
        "token-invalid",
        "No token has this value. Compare it with the one on the API Tokens page; it may have been rotated.",
        check="value",
        received=token_format.mask(value[:100]),
        needed="a value of this installation: pk_ or sk_ and 40 hexadecimal characters",
    )


def https_refusal(request: ApiRequest) -> Refusal | None:
    """A token must not cross a network in clear text when the installation serves https."""
    if not settings.SERVES_HTTPS or request.scheme == "https" or stays_on_this_machine(request):
        return None
    return Refusal(
        "https-required",
        "This token travelled unencrypted. Use https, and rotate the token if it is a secret one.",
        check="value",
        received="http",
        needed="https",
    )


def stays_on_this_machine(request: ApiRequest) -> bool:
    """Whether a program on this machine called directly: a local proxy speaks for remote callers."""
    if any(name.startswith("X-Forwarded-") or name == "Forwarded" for name in request.headers):
        return False
    host = request.headers.get("Host", "").rsplit(":", 1)[0].strip("[]")
    return is_loopback(request.META.get("REMOTE_ADDR", "")) and is_loopback(host)


def preflight(request: ApiRequest) -> HttpResponse:
    """The same answer for everybody: no token is looked up, and nothing is revealed about one."""
    return HttpResponse(
        "{}",
        content_type=JSON,
        headers={
            "Access-Control-Allow-Origin": "*",
            "Access-Control-Allow-Methods": METHODS,
            "Access-Control-Allow-Headers": request.headers.get("Access-Control-Request-Headers", "*")[
                :1_000
            ],
            "Access-Control-Max-Age": "600",
            "Vary": "Access-Control-Request-Headers",
        },
    )
