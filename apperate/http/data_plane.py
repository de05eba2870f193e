"""The data plane's handler: Django's async chain without the slow parts of its stock ASGI handler.

It keeps the raw, undecoded path (so that an escaped slash in a key stays escaped), drops header names
with an underscore, refuses repeated credential headers, limits the sizes of target and headers, and
leaves the body unread until a view asks for it, after the checks. Source: docs/decisions/0001-server.md.
"""

import asyncio
import hashlib
import io
import logging
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import unquote

from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler, ASGIRequest
from django.http import HttpResponseBase
from django.utils.module_loading import import_string

from apperate.database import disk
from apperate.http import leaving
from apperate.http.middleware import failure_response, request_id_of
from apperate.http.noting import note
from apperate.http.problems import API_PREFIXES, problem_response
from apperate.http.wire import refuse_wire
from apperate.kernel.refusals import Refusal

BODY_IN_MEMORY_MAX = 1_000_000
# What of a body is read after a refusal: the largest body of records, and a little.
DRAIN_BYTES_MAX = 16_000_000
DRAIN_SECONDS_MAX = 5.0
PART_BYTES = 256 * 1024
PATH_CHARS_LOGGED = 300
PART_SECONDS_MAX = 30.0
EXPOSED = (
    "X-Request-Id, Retry-After, RateLimit, RateLimit-Policy, iexcloud-credits-used, "
    "iexcloud-premium-credits-used, iexcloud-messages-used, iexcloud-premium-messages-used, "
    "Apperate-Credits-Remaining, Apperate-Next-Cursor, Apperate-Unconfirmed-Workers, ETag, Link"
)

CUT = Refusal(
    "invalid-values",
    "The body broke off before its end.",
    check="body",
    received="less than the whole body, or chunks that are not well-formed",
    needed="as many bytes as Content-Length says, or well-formed chunks up to the last one",
)
Headers = list[tuple[bytes, bytes]]
logger = logging.getLogger("apperate.requests")


class DataRequest(ASGIRequest):
    """A request whose body is read by read_body() or spool(), once a view decides to.

    hold_body() reads it earlier, for checks that need all of it; the view then reads the stored copy.
    """

    def __init__(self, scope: dict[str, Any], receive: Callable[[], Awaitable[dict[str, Any]]]) -> None:
        super().__init__(scope, io.BytesIO())
        self.request_id = request_id_of(self.headers)
        self._receive = receive
        self._has_ended = False
        # Idempotency and signature checks need the hash; other requests skip the work.
        is_compared = "Idempotency-Key" in self.headers or self._is_signed()
        self.body_hash = hashlib.sha256() if is_compared else None
        self._held: tempfile.SpooledTemporaryFile[bytes] | None = None
        self.raw_target: bytes = scope["raw_path"]

    async def chunks(self) -> Any:
        """The parts of the body as they arrive, once. Raises ConnectionAbortedError if the client leaves."""
        while not self._has_ended:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._has_ended = True
                raise ConnectionAbortedError("the client closed the connection before the end of the body")
            if part := message.get("body", b""):
                if self.body_hash is not None:
                    self.body_hash.update(part)
                yield part
            self._has_ended = not message.get("more_body")

    async def read_body(self, *, bytes_max: int, is_needed: bool = False) -> bytes | Refusal:
        """The whole body, at most bytes_max; a refusal when one is needed but the headers announce none."""
        if refusal := self._refused_by_headers(bytes_max, is_needed):
            return refusal
        if self._held is not None:
            held = self._held_within(bytes_max)
            return held if isinstance(held, Refusal) else held.read()
        parts: list[bytes] = []
        total = 0
        async for part in self.chunks():
            total += len(part)
            if total > bytes_max:
                return too_large(f"more than {bytes_max:,} bytes", bytes_max)
            parts.append(part)
        return b"".join(parts)

    async def spool(
        self, *, bytes_max: int, is_needed: bool = False
    ) -> "tempfile.SpooledTemporaryFile[bytes] | Refusal":
        """Like read_body(), into a file that moves to disk when it grows; positioned at its start."""
        if refusal := self._refused_by_headers(bytes_max, is_needed):
            return refusal
        if self._held is not None:
            return self._held_within(bytes_max)
        file = tempfile.SpooledTemporaryFile(max_size=BODY_IN_MEMORY_MAX)  # noqa: SIM115  The caller closes it.
        total = 0
        room = disk.Room()
        async for part in self.chunks():
            total += len(part)
            if total > bytes_max:
                file.close()
                return too_large(f"more than {bytes_max:,} bytes", bytes_max)
            # What fits in memory needs no disk.
            if total > BODY_IN_MEMORY_MAX and (refusal := room.take(len(part))):
                file.close()
                return refusal
            file.write(part)
        file.seek(0)
        return file

    async def hold_body(self, *, bytes_max: int) -> Refusal | None:
        """Read the whole body and store it for the next reader."""
        held = await self.spool(bytes_max=bytes_max)
        if isinstance(held, Refusal):
            return held
        self._held = held
        return None

    async def drain(self) -> bool:
        """Read the rest of an announced body and drop it, within limits; whether all of it has arrived.

        A client that is still sending when the connection is closed sees a broken pipe and not the answer.
        """
        declared = self.headers.get("Content-Length", "0")
        announces = declared != "0" or "Transfer-Encoding" in self.headers
        # Whoever waits for "100 Continue" has sent nothing yet.
        if self._has_ended or not announces or "Expect" in self.headers:
            return True
        if declared.isdigit() and int(declared) > DRAIN_BYTES_MAX:
            return False
        total = 0
        try:
            async with asyncio.timeout(DRAIN_SECONDS_MAX):
                async for part in self.chunks():
                    total += len(part)
                    if total > DRAIN_BYTES_MAX:
                        return False
        except (TimeoutError, ConnectionAbortedError):
            return False
        return True

    def let_go(self) -> None:
        """Drop the stored body and its file."""
        if self._held is not None:
            self._held.close()
            self._held = None

    def _held_within(self, bytes_max: int) -> "tempfile.SpooledTemporaryFile[bytes] | Refusal":
        file = self._held
        if file is None:
            raise LookupError("no body is held")
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        return too_large(f"{size:,} bytes", bytes_max) if size > bytes_max else file

    def _is_signed(self) -> bool:
        return not self.headers.get("Authorization", "bearer").lower().startswith("bearer")

    def _refused_by_headers(self, bytes_max: int, is_needed: bool) -> Refusal | None:
        """The faults of a body that can be seen before reading it."""
        return self._declared_too_large(bytes_max) or (self._unannounced() if is_needed else None)

    def _unannounced(self) -> Refusal | None:
        """Without one of these headers HTTP/1 has no body; later versions mark the end by themselves."""
        announces = "Content-Length" in self.headers or "Transfer-Encoding" in self.headers
        if announces or not self.scope.get("http_version", "1.1").startswith("1"):
            return None
        return Refusal(
            "length-required",
            "The request needs a body, and came without Content-Length and without Transfer-Encoding.",
            received="no body",
            needed="a body with its Content-Length, or sent in chunks",
            check="body",
        )

    def _declared_too_large(self, bytes_max: int) -> Refusal | None:
        declared = self.headers.get("Content-Length", "")
        return (
            too_large(f"{int(declared):,} bytes", bytes_max)
            if declared.isdigit() and int(declared) > bytes_max
            else None
        )


def too_large(received: str, bytes_max: int) -> Refusal:
    return Refusal(
        "body-too-large",
        f"The body may have at most {bytes_max:,} bytes.",
        check="body",
        received=received,
        needed=f"at most {bytes_max:,} bytes",
    )


class DataPlaneHandler(ASGIHandler):
    """Runs DATA_PLANE_MIDDLEWARE and the views, all on the event loop."""

    request_class: type[DataRequest] = DataRequest

    def load_middleware(self, is_async: bool = True) -> None:
        self._view_middleware: list[Any] = []
        self._template_response_middleware: list[Any] = []
        self._exception_middleware: list[Any] = []
        handler: Any = self._get_response_async  # type: ignore[attr-defined]  # The stubs leave it out.
        for path in reversed(settings.DATA_PLANE_MIDDLEWARE):
            handler = import_string(path)(handler)
        self._middleware_chain = handler

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        begun = time.monotonic()
        request = self.request_class(data_scope(scope), receive)
        request.urlconf = settings.DATA_PLANE_URLCONF
        try:
            refusal = refuse_wire(scope)
            if refusal is not None:
                response: HttpResponseBase = problem_response(refusal, request)
            else:
                response = await self._middleware_chain(request)
        except ConnectionAbortedError:  # If the client is still there, what it sent is not HTTP.
            response = problem_response(CUT, request)
            response.headers["Connection"] = "close"
        except Exception as error:  # A fault in a check is a refusal, never a pass.
            response = failure_response(request, error)
        finally:
            request.let_go()
        seconds = time.monotonic() - begun
        log_if_slow(request, response, seconds=seconds)
        note(request, response, plane="api", seconds=seconds)
        if response.status_code >= 400 and not await request.drain():
            response.headers["Connection"] = "close"
        await respond(request, finished(request, response), send)


def log_if_slow(request: DataRequest, response: HttpResponseBase, *, seconds: float) -> None:
    """One line for what took long to answer, its body included; without the query, which may hold a token."""
    if settings.SLOW_REQUEST_MS and seconds * 1_000 >= settings.SLOW_REQUEST_MS:
        path = request.raw_target.partition(b"?")[0].decode("latin-1")
        logger.warning(
            "slow request milliseconds=%d status=%d method=%s path=%s request_id=%s",
            seconds * 1_000, response.status_code, request.method, path[:PATH_CHARS_LOGGED],
            request.request_id,
        )  # fmt: skip


def finished(request: DataRequest, response: HttpResponseBase) -> HttpResponseBase:
    """Add what every answer of the API carries, refusals and faults included."""
    response.headers["X-Request-Id"] = request.request_id
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Access-Control-Allow-Origin", "*")
    response.headers.setdefault("Access-Control-Expose-Headers", EXPOSED)
    return response


async def respond(request: DataRequest, response: HttpResponseBase, send: Any) -> None:
    """Send an answer: whole with its length, or in parts when it streams."""
    if request.headers.get("Connection", "").lower() == "close":
        response.headers["Connection"] = "close"
    leaving.mark(response)
    is_head = request.method == "HEAD"
    if not response.streaming:
        content = response.content  # type: ignore[attr-defined]
        response.headers.setdefault("Content-Length", str(len(content)))
    headers = [(name.lower().encode("ascii"), value.encode("latin-1")) for name, value in response.items()]
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    if not response.streaming:
        try:
            await send_whole(send, b"" if is_head else content)
        finally:
            response.close()
        return
    parts: Any = response.__aiter__()  # type: ignore[attr-defined]
    try:
        # Any failure on the way cuts the connection, so that a part is never taken for the whole.
        while not is_head and (part := await anext(parts, None)) is not None:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    finally:
        await parts.aclose()
        await sync_to_async(response.close)()


async def send_whole(send: Any, content: bytes) -> None:
    """Send a body in parts: a client that accepts none of a part for PART_SECONDS_MAX is disconnected."""
    at = 0
    while len(content) - at > PART_BYTES:
        part = content[at : at + PART_BYTES]
        async with asyncio.timeout(PART_SECONDS_MAX):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        at += PART_BYTES
    await send({"type": "http.response.body", "body": content[at:]})


def raw_path_of(scope: Mapping[str, Any]) -> str:
    """The path as sent, with its escapes: the handler is chosen by the same path that is then routed."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return raw.split(b"?")[0].decode("latin-1")


def data_scope(scope: dict[str, Any]) -> dict[str, Any]:
    """The scope with the path below the version prefix as sent, without a trailing slash."""
    path = raw_path_of(scope)
    for prefix in API_PREFIXES:
        if f"{path}/".startswith(prefix):
            path = path[len(prefix) :]
            break
    # Django decodes nothing here: the `segment` converter decodes one segment at a time.
    raw = scope.get("raw_path") or scope["path"].encode()
    return {
        **scope,
        "path": "/" + path.strip("/"),
        "raw_path": raw,
        "headers": clean_headers(scope["headers"]),
    }


def clean_headers(headers: Headers) -> Headers:
    """The headers without those that have an underscore in the name: Django would read it as a dash."""
    return [(name, value) for name, value in headers if b"_" not in name]


class Segment:
    """A URL converter: one path segment, decoded after the path was split."""

    regex = "[^/]+"

    def to_python(self, value: str) -> str:
        return unquote(value, errors="strict")  # A UnicodeDecodeError is a ValueError: no such route.

    def to_url(self, value: str) -> str:
        return value
