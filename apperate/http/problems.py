"""Refusal → application/problem+json, the one error shape of the API. Source: RFC 9457, docs/api.md."""

from typing import Any

import simplejson
from django.http import HttpRequest, HttpResponse

from apperate.kernel.refusals import Refusal

JSON = "application/json; charset=utf-8"
PROBLEM = "application/problem+json; charset=utf-8"
CHALLENGE = 'Bearer realm="Apperate", IEX-HMAC-SHA256 realm="Apperate"'
API_PREFIXES = ("/v1/", "/stable/", "/latest/", "/beta/")


def is_api_path(path: str) -> bool:
    """Whether a path belongs to the data plane."""
    return path.startswith(API_PREFIXES) or f"{path}/" in API_PREFIXES


def problem(refusal: Refusal, request: HttpRequest) -> dict[str, Any]:
    """The members of the problem document, in reading order."""
    document = {
        "type": f"/docs/errors/#{refusal.code}",
        "title": refusal.title,
        "status": refusal.status,
        "detail": refusal.detail,
        "code": refusal.code,
        "check": refusal.check or None,
        "received": refusal.received,
        "needed": refusal.needed,
        "token": refusal.token,
        "errors": list(refusal.errors) or None,
        "request_id": getattr(request, "request_id", None),
        "docs": f"/docs/errors/#{refusal.code}",
    }
    return {name: value for name, value in document.items() if value is not None}


def problem_response(refusal: Refusal, request: HttpRequest) -> HttpResponse:
    """The HTTP answer for a Refusal."""
    text = simplejson.dumps(problem(refusal, request), ensure_ascii=False)
    # Half of a surrogate pair, echoed from the request, is written as its escape.
    body = text.encode("utf-8", "backslashreplace")
    response = HttpResponse(body, status=refusal.status, content_type=PROBLEM)
    response.refusal_code = refusal.code  # type: ignore[attr-defined]  # For the figures.
    if refusal.status == 401:
        response.headers["WWW-Authenticate"] = CHALLENGE
    if refusal.retry_after_seconds is not None:
        response.headers["Retry-After"] = str(max(1, refusal.retry_after_seconds))
    return response


def internal_error() -> Refusal:
    """Constant text: the log has the details, under the request id."""
    return Refusal("internal-error", "The error is logged under this request id.")
