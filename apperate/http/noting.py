"""What an answered request leaves behind for whoever watches: its figures, and its span."""

from typing import Any

from django.conf import settings
from django.http import HttpResponseBase

from apperate.observability import metrics, tracing


def note(request: Any, response: HttpResponseBase, *, plane: str, seconds: float) -> None:
    """`seconds`: until the answer was ready to be sent."""
    status, code = response.status_code, getattr(response, "refusal_code", "")
    metrics.request(plane=plane, method=request.method, status=status, seconds=seconds, code=code)
    if not tracing.is_on():
        return
    match = getattr(request, "resolver_match", None)
    # The path of a page may be a link that lets somebody in: an invitation, a new password.
    path = request.scope.get("raw_path", b"").partition(b"?")[0].decode("latin-1") if plane == "api" else ""
    tracing.request(
        method=request.method if request.method in metrics.METHODS else "_OTHER",
        route=f"{plane}: {match.route if match else 'no route'}",
        path=path,
        status=status,
        seconds=seconds,
        request_id=getattr(request, "request_id", ""),
        code=code,
        # A stranger does not decide which spans are kept, nor where they belong.
        parent=request.headers.get("traceparent", "") if settings.TRUSTED_PROXIES else "",
    )
