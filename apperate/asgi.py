"""The ASGI application: two Django handlers, chosen by path, and the work around them.

/v1/… goes to the data plane, an all-async chain; everything else to the dashboard, Django's own
handler with the full middleware. Background work starts with the worker and ends with it.
Source: docs/decisions/0001-server.md.
"""

import asyncio
import gc
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "apperate.settings")
django.setup(set_prefix=False)

from django.conf import settings  # noqa: E402  Needs django.setup().
from django.core.handlers.asgi import ASGIHandler  # noqa: E402
from django.http import HttpResponse, HttpResponseBase  # noqa: E402
from django.template.loader import render_to_string  # noqa: E402

from apperate.database import shares  # noqa: E402
from apperate.database.changes import changes  # noqa: E402
from apperate.database.pool import connection_arguments, pools  # noqa: E402
from apperate.database.pulse import pulse  # noqa: E402
from apperate.http import exhaustion, health, leaving  # noqa: E402
from apperate.http.data_plane import DataPlaneHandler, clean_headers, raw_path_of  # noqa: E402
from apperate.http.noting import note  # noqa: E402
from apperate.http.page_bodies import PageBody, send_refusal, with_headers  # noqa: E402
from apperate.http.problems import is_api_path  # noqa: E402
from apperate.observability import faults, tracing  # noqa: E402
from apperate.running import figures  # noqa: E402
from apperate.running.sampling import sampling  # noqa: E402
from tokens.gate.calls import ApiRequest  # noqa: E402
from tokens.gate.failed_values import failed_values  # noqa: E402
from tokens.gate.leases import leases  # noqa: E402
from tokens.gate.recovery import recovery  # noqa: E402
from tokens.gate.refusal_log import refusals  # noqa: E402
from tokens.gate.throttling import buckets  # noqa: E402
from tokens.metering.meter import meter  # noqa: E402
from tokens.rules.token_format import mask_in_text  # noqa: E402

# More than shares.py gives to requests, so that background work finds a free one too.
THREADS_MAX = 24
SWITCH_SECONDS = 0.001
# Allocations, net of frees, that trigger a collection; the default of 700 would trigger far too many.
GARBAGE_THRESHOLD = 50_000
STATIC = str(settings.STATIC_URL)


class DataPlane(DataPlaneHandler):
    request_class = ApiRequest


data_plane = DataPlane()


class Dashboard(ASGIHandler):
    """Django's handler for pages. A worker renders only a few at a time, so that the API keeps running."""

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        body = PageBody(scope, receive)
        try:
            await super().__call__(scope, body, send)
            if body.refusal:
                await send_refusal(body, body.refusal, send)
        except RuntimeError as error:
            if not exhaustion.note(error):
                raise
            with suppress(Exception):  # The answer may have begun.
                await respond_unavailable(send)

    async def get_response_async(self, request: Any) -> HttpResponseBase:
        begun = time.monotonic()
        response = await self._answered(request)
        leaving.mark(response)
        path = request.path_info
        plane = "health" if path in health.ANSWERS else "static" if path.startswith(STATIC) else "pages"
        seconds = time.monotonic() - begun
        note(request, response, plane=plane, seconds=seconds)
        return response

    async def _answered(self, request: Any) -> HttpResponseBase:
        if request.path_info in health.ANSWERS:  # They do not wait behind pages.
            return await super().get_response_async(request)
        try:
            async with shares.PAGES.place(shares.NOBODY):
                return await super().get_response_async(request)
        except shares.Busy:
            response = HttpResponse(render_to_string("503.html"), status=503)
            response.headers["Retry-After"] = "2"
            return with_headers(request, response)


async def respond_unavailable(send: Any) -> None:
    """503 by what needs no thread and no memory worth the name."""
    headers = [(b"retry-after", b"2"), (b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": b"The server is overloaded.\n"})


dashboard = Dashboard()


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """One entry point for every kind of connection the server hands over."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "http" and is_api_path(raw_path_of(scope)):
        await data_plane(scope, receive, send)
    elif scope["type"] == "http" and figures.is_asked_for(scope):
        await figures.answer(scope, send)
    elif scope["type"] == "http":
        await dashboard({**scope, "headers": clean_headers(scope["headers"])}, receive, send)
    else:
        await send({"type": "websocket.close"})


async def lifespan(receive: Any, send: Any) -> None:
    """The start and the end of a worker, for a server that knows this protocol; ours calls both itself."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await startup()
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            await shutdown()
            await send({"type": "lifespan.shutdown.complete"})
            return


async def startup() -> None:
    """Start background work with the worker.

    An unreachable database does not stop the worker: requests get 503 until it answers.
    """
    # Compute threads yield to the event loop sooner than after Python's default of 5 ms.
    sys.setswitchinterval(SWITCH_SECONDS)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS_MAX))
    tracing.begin(mask_in_text)
    shares.clear()
    pulse.start(connection_arguments)
    await pools.open()
    await changes.ensure_started()
    buckets.clear()
    failed_values.clear()
    await recovery.ensure_started()
    await leases.ensure_started()
    await meter.ensure_started()
    await refusals.ensure_started()
    await sampling.ensure_started()
    # What the start has made stays alive. Scanning it for garbage, as long bodies trigger, would stop the
    # worker for 50 ms each time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD)


async def shutdown() -> None:
    """Return credits, write counts, close the pools."""
    await sampling.stop()
    await leases.stop()
    await meter.stop()
    await refusals.stop()
    await recovery.stop()
    await changes.stop()
    await pools.close()
    await pulse.stop()
    await asyncio.gather(asyncio.to_thread(tracing.end), asyncio.to_thread(faults.end))
    gc.unfreeze()
