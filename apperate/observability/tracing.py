"""Spans of requests and jobs for OpenTelemetry, where OTEL_EXPORTER_OTLP_ENDPOINT is set.

    begin(), end()                                              in each process that makes spans
    request(method=, route=, status=, seconds=, …)              one that was answered
    job(kind=, status=, seconds=, …)                            one that ended

A span is made when its work is done, and sent by a thread of the SDK, which reads its other variables
(OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_HEADERS, …). A query string never gets into one.
"""

import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from apperate.kernel.version import VERSION

PATH_CHARS_MAX = 300
SERVICE = "apperate"
# A collector that does not answer must not keep a worker from stopping.
SEND_SECONDS_MAX = 3
END_SECONDS_MAX = 2
_tracer: Any = None
_provider: Any = None
_mask: Callable[[str], str] = str


def begin(mask: Callable[[str], str]) -> None:
    """Have a tracer, if one is asked for. `mask` removes what must not be seen from a text."""
    global _tracer, _provider, _mask
    if not os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or _tracer is not None:
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    name = os.environ.get("OTEL_SERVICE_NAME", "") or SERVICE
    timeout = None if os.environ.get("OTEL_EXPORTER_OTLP_TIMEOUT") else SEND_SECONDS_MAX
    resource = Resource.create({"service.name": name, "service.version": VERSION})
    # At the exit of the process it would wait for the collector, however long that takes.
    _provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    _provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(timeout=timeout)))
    _tracer, _mask = _provider.get_tracer(SERVICE, VERSION), mask


def end() -> None:
    """Send what was not sent yet, at the end of the process, if that takes no longer than END_SECONDS_MAX."""
    if _provider is not None:
        # A thread that nobody waits for: the SDK has no limit of its own here.
        sending = threading.Thread(target=_provider.force_flush, daemon=True)
        sending.start()
        sending.join(END_SECONDS_MAX)


def is_on() -> bool:
    return _tracer is not None


def request(
    *,
    method: str,
    route: str,
    path: str,
    status: int,
    seconds: float,
    request_id: str,
    code: str = "",
    parent: str = "",
) -> None:
    """Make a span of a request. `path` may be empty; `parent` is a traceparent header that is believed."""
    facts: dict[str, str | int] = {
        "http.request.method": method,
        "http.route": route,
        "http.response.status_code": status,
        "apperate.request_id": request_id,
    }
    if path:
        facts["url.path"] = _mask(path)[:PATH_CHARS_MAX]
    if code:
        facts["apperate.refusal"] = code
    _span(
        f"{method} {route}", facts, seconds=seconds, is_server=True, has_failed=status >= 500, parent=parent
    )


def job(*, kind: str, status: str, seconds: float, job_id: str, records: int) -> None:
    if _tracer is None:
        return
    facts = {
        "apperate.job.id": job_id,
        "apperate.job.status": status.lower(),
        "apperate.job.records": records,
    }
    _span(f"job {kind.lower()}", facts, seconds=seconds, has_failed=status == "ERROR")


def _span(
    name: str,
    facts: Mapping[str, Any],
    *,
    seconds: float,
    has_failed: bool,
    is_server: bool = False,
    parent: str = "",
) -> None:
    from opentelemetry.trace import SpanKind, StatusCode
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    end = time.time_ns()
    context = TraceContextTextMapPropagator().extract({"traceparent": parent}) if parent else None
    span = _tracer.start_span(
        name, context=context, kind=SpanKind.SERVER if is_server else SpanKind.INTERNAL,
        attributes=facts, start_time=end - int(seconds * 1e9),
    )  # fmt: skip
    if has_failed:
        span.set_status(StatusCode.ERROR)
    span.end(end)
