"""Reports faults to Sentry, where SENTRY_DSN is set: every error in the log, with its traceback.

A report has no request in it but its id and its route, no variables of the code, no address, and of a message
of the database only the first line, because those below quote rows. What is left is masked like the log.
"""

import logging
import os
import re
from collections.abc import Callable
from typing import Any

from apperate.kernel.version import VERSION

FLUSH_SECONDS = 2
# What follows a question mark in an address.
_QUERY = re.compile(r"\?[^\s\"'<>]*=[^\s\"'<>]*")


def begin(mask: Callable[[str], str]) -> None:
    """Report from this process on, if that is asked for. `mask` removes what must not be seen from a text."""
    dsn = os.environ.get("SENTRY_DSN")
    if not dsn:
        return
    import sentry_sdk
    from sentry_sdk.integrations.excepthook import ExcepthookIntegration
    from sentry_sdk.integrations.logging import LoggingIntegration

    sentry_sdk.init(
        dsn=dsn,
        release=f"apperate@{VERSION}",
        send_default_pii=False,
        include_local_variables=False,
        max_request_body_size="never",
        default_integrations=False,
        auto_enabling_integrations=False,
        integrations=[
            LoggingIntegration(),
            ExcepthookIntegration(),
        ],
        max_breadcrumbs=0,
        before_send=lambda event, hint: report(event, hint.get("log_record"), mask),
    )


def end() -> None:
    """Send what was not sent yet, at the end of the process, if that takes no longer than FLUSH_SECONDS."""
    if os.environ.get("SENTRY_DSN"):
        import sentry_sdk

        sentry_sdk.flush(FLUSH_SECONDS)


def report(event: Any, record: logging.LogRecord | None, mask: Callable[[str], str]) -> Any:
    """What is sent of an event that the library has made of a line of the log; None for nothing."""
    # A stranger's request with a wrong Host, or a collector of spans that is away, is no fault of the code.
    if record is not None and record.name.startswith(("django.security", "opentelemetry")):
        return None
    event.pop("extra", None)  # Django puts the request there, whose path may be a link that lets somebody in.
    request = getattr(record, "request", None)
    if request is not None:
        match = getattr(request, "resolver_match", None)
        event["logentry"] = {"message": "%s", "params": [f"Failed: {match.route if match else 'no route'}"]}
        event.setdefault("tags", {})["request_id"] = getattr(request, "request_id", "")
    for fault in event.get("exception", {}).get("values", ()):
        fault["value"] = str(fault.get("value") or "").partition("\n")[0]
    return scrubbed(event, mask)


def scrubbed(value: Any, mask: Callable[[str], str]) -> Any:
    """The same with every text in it masked, and without query strings."""
    if isinstance(value, str):
        return mask(_QUERY.sub("?…", value))
    if isinstance(value, dict):
        return {scrubbed(name, mask): scrubbed(one, mask) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [scrubbed(one, mask) for one in value]
    return value
