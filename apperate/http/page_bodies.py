"""What a page may be sent: a form from anybody, a file where one is taken from whoever is signed in.

Django stores all of a body in a temporary file before any of its code looks at the request, so without this
anybody could fill the disk. What is too much is refused while it arrives; nothing of it is kept.
"""

from collections.abc import Awaitable, Callable
from importlib import import_module
from io import BytesIO
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpResponse
from django.middleware.clickjacking import XFrameOptionsMiddleware
from django.middleware.security import SecurityMiddleware
from django.template.loader import render_to_string
from django.urls import Resolver404, resolve

from apperate.database import disk
from apperate.database.threads import in_thread
from apperate.http.data_plane import CUT, DataRequest, respond, too_large
from apperate.http.middleware import SecurityHeaders, failure_refusal
from apperate.http.wire import refused_coding
from apperate.kernel.refusals import Refusal

Receive = Callable[[], Awaitable[dict[str, Any]]]


def takes_files(view: Any) -> Any:
    """Marks a view whose form has a field for a file."""
    view.takes_files = True
    return view


class PageBody:
    """The receive() of a request to a page, which ends the body where it becomes too much.

    `refusal` then says why. Django is told that the client has left, and so drops what it has stored.
    """

    def __init__(self, scope: dict[str, Any], receive: Receive) -> None:
        self.refusal: Refusal | None = None
        self.has_ended = False
        self.request = DataRequest(scope, receive)
        self._scope = scope
        self._receive = receive
        self._bytes = 0
        self._bytes_max: int = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        self._room: disk.Room | None = None

    async def __call__(self) -> dict[str, Any]:
        if self._bytes == 0:
            self.refusal = await self._refused_by_headers()
        if self.refusal is None:
            message = await self._receive()
            self.refusal = await self._refused_part(message)
        return {"type": "http.disconnect"} if self.refusal else message

    async def _refused_by_headers(self) -> Refusal | None:
        coding = self.request.headers.get("Transfer-Encoding", "chunked")
        if coding.lower() != "chunked":
            return refused_coding(coding)
        declared = self.request.headers.get("Content-Length", "")
        return await self._refused(int(declared)) if declared.isdigit() else None

    async def _refused_part(self, message: dict[str, Any]) -> Refusal | None:
        if message["type"] == "http.disconnect":
            # Before the end: if the client is still there, what it sent is not HTTP.
            return None if self.has_ended else CUT
        self.has_ended = not message.get("more_body")
        part = len(message.get("body", b""))
        self._bytes += part
        return await self._refused(self._bytes) or (self._room.take(part) if self._room else None)

    async def _refused(self, total: int) -> Refusal | None:
        """Why a body of so many bytes is not taken. Whether it may be a file is asked when it is too long."""
        if total <= self._bytes_max:
            return None
        if self._room is None and takes_file(self._scope["path"]):
            try:
                if await in_thread(is_signed_in)(self._scope):
                    self._room = disk.Room()
                    self._bytes_max += settings.UPLOAD_BYTES_MAX
            except Exception as error:  # The database is away: it is not known who this is.
                return failure_refusal(error)
        return too_large(f"{total:,} bytes", self._bytes_max) if total > self._bytes_max else None


def takes_file(path: str) -> bool:
    try:
        return getattr(resolve(path).func, "takes_files", False)
    except Resolver404:
        return False


def is_signed_in(scope: dict[str, Any]) -> bool:
    """Whether the request has the session of a person."""
    request: Any = ASGIRequest(scope, BytesIO())
    sessions = import_module(settings.SESSION_ENGINE)
    request.session = sessions.SessionStore(request.COOKIES.get(settings.SESSION_COOKIE_NAME))
    return get_user(request).is_authenticated


async def send_refusal(body: PageBody, refusal: Refusal, send: Any) -> None:
    """Answer with a page, once what is on its way has arrived or is too much to wait for."""
    request: Any = body.request
    response = with_headers(request, refused_page(refusal, request.request_id))
    response.headers["X-Request-Id"] = request.request_id
    if not (body.has_ended or await request.drain()):
        response.headers["Connection"] = "close"
    await respond(request, response, send)


def refused_page(refusal: Refusal, request_id: str = "") -> HttpResponse:
    context = {"refusal": refusal, "request_id": request_id}
    response = HttpResponse(render_to_string("refused.html", context), status=refusal.status)
    if refusal.retry_after_seconds:
        response.headers["Retry-After"] = str(refusal.retry_after_seconds)
    return response


def with_headers(request: Any, response: HttpResponse) -> HttpResponse:
    """The headers of every page, on one that is answered before the middleware runs."""

    response = SecurityMiddleware(lambda _: response).process_response(request, response)
    response = XFrameOptionsMiddleware(lambda _: response).process_response(request, response)
    return SecurityHeaders(lambda _: response)(request)
