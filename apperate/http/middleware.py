"""Request ids and security headers for every answer, and what htmx needs on the dashboard."""

import errno
import logging
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

import psycopg
from django.conf import settings
from django.contrib.messages import get_messages
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.template.loader import render_to_string
from psycopg_pool import PoolTimeout

from apperate.database import disk
from apperate.database.outage import UNAVAILABLE, outage
from apperate.database.shares import Busy
from apperate.http import exhaustion
from apperate.http.problems import internal_error, problem_response
from apperate.kernel.refusals import Refusal, storage_full, unavailable

GetResponse = Callable[[HttpRequest], HttpResponse]
AsyncGetResponse = Callable[[HttpRequest], Awaitable[HttpResponseBase]]
# SQLSTATEs of a database that is unreachable, starting, stopping, overloaded, timed out or wants a retry.
AWAY = ("08", "57P", "53300", "55P03", "40P01", "40001", "57014", "25P03")
DISK_FULL = "53100"
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}", re.ASCII)
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
UNKNOWN_OUTCOME = (
    "The database stopped answering, so this may or may not have been done. Look before you send it again, "
    "or send it with an Idempotency-Key."
)
logger = logging.getLogger("apperate.requests")


def request_id_of(headers: Mapping[str, str]) -> str:
    """The id that a proxy of ours gave the request, else a new one: its log and ours then agree."""
    given = headers.get("X-Request-Id", "") if settings.TRUSTED_PROXIES else ""
    return given if REQUEST_ID.fullmatch(given) else secrets.token_hex(8)


class RequestId:
    """Gives each request an id, for its answer and its log lines."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request.request_id = request_id_of(request.headers)  # type: ignore[attr-defined]
        response = self.get_response(request)
        response.headers["X-Request-Id"] = request.request_id  # type: ignore[attr-defined]
        return response


def failure_refusal(error: Exception) -> Refusal:
    """What an otherwise unhandled exception is to the caller: database away, disk full, or internal error."""
    if isinstance(error, Busy):
        return error.refusal
    if exhaustion.note(error):
        return unavailable()
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return storage_full()
    cause = error if isinstance(error, psycopg.Error) else error.__cause__
    state = getattr(cause, "sqlstate", None) or ""
    if state == DISK_FULL:
        return storage_full()
    is_away = state.startswith(AWAY) if state else isinstance(error, UNAVAILABLE)
    return unavailable() if is_away else internal_error()


def failure_response(request: HttpRequest, error: Exception) -> HttpResponse:
    """The refusal for an otherwise unhandled exception, logged under the request id."""
    request_id = getattr(request, "request_id", "")
    refusal = failure_refusal(error)
    if refusal.status == 500:
        logger.error("request failed request_id=%s", request_id, exc_info=error)
    elif refusal.code == "unavailable" and not isinstance(error, Busy | RuntimeError):  # It is the database.
        outage.note(error)
        if request.method not in SAFE_METHODS:
            has_begun = not isinstance(error.__cause__ or error, PoolTimeout)
            refusal = replace(refusal, detail=UNKNOWN_OUTCOME) if has_begun else disk.shortage() or refusal
    else:
        logger.warning("%s request_id=%s error=%s", refusal.code, request_id, type(error).__name__)
    return problem_response(refusal, request)


class SecurityHeaders:
    """Content-Security-Policy and similar headers on every page; the setting follows Django 6."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        self.policy = "; ".join(f"{name} {' '.join(values)}" for name, values in settings.SECURE_CSP.items())

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        response.headers.setdefault("Content-Security-Policy", self.policy)
        response.headers.setdefault("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
        if response.get("Content-Type", "").startswith("text/html"):
            response.headers.setdefault("Cache-Control", "private, no-store")
        return response


class HtmxLoginRedirect:
    """Sends a signed-out person's htmx request to a full sign-in page, not one inside a fragment."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: Any) -> HttpResponse:
        response = self.get_response(request)
        if (
            request.htmx
            and response.status_code == 302
            and response.headers["Location"].startswith("/account/login")
        ):
            redirect = HttpResponse(status=204)
            redirect.headers["HX-Redirect"] = response.headers["Location"].split("?")[0]
            return redirect
        return response


class Toasts:
    """Adds waiting messages to htmx answers as an out-of-band fragment."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: Any) -> HttpResponse:
        response = self.get_response(request)
        if (
            request.htmx
            and "HX-Redirect" not in response.headers
            and response.get("Content-Type", "").startswith("text/html")
            and not response.streaming
            and (waiting := list(get_messages(request)))
        ):
            response.content += render_to_string(
                "ui/toasts_oob.html", {"messages": waiting}, request
            ).encode()
        return response
