"""Logging: one JSON line per event, plain lines in a terminal; token values are masked in both."""

import logging
import re
import sys
from collections.abc import Callable, MutableMapping
from typing import Any

import structlog

SELDOM_SECONDS = 60.0
# Control characters and line endings.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def escape_controls(logger: Any, name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """For plain lines: no value can move the cursor or start a new line; tracebacks are indented."""
    for key, value in event.items():
        if key == "exception":
            event[key] = "\n".join(f"    {escaped(line)}" for line in str(value).split("\n"))
        elif isinstance(value, str):
            event[key] = escaped(value)
    return event


def escaped(text: str) -> str:
    return _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)


class Seldom(logging.Filter):
    """Lets through one line a minute of loggers that say the same again with every batch they send."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.names = names
        self._logged_at = -SELDOM_SECONDS

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith(self.names):
            return True
        if record.created - self._logged_at < SELDOM_SECONDS:
            return False
        self._logged_at = record.created
        return True


PLAIN = (escape_controls, structlog.dev.ConsoleRenderer(colors=False))
JSON = (structlog.processors.JSONRenderer(),)


def logging_configuration(mask: Callable[[str], str]) -> dict[str, Any]:
    """Django's LOGGING. `mask` removes what must not be seen from a line, whichever part of it that is in."""

    def masked(logger: Any, name: str, line: str | MutableMapping[str, Any]) -> Any:
        return mask(line) if isinstance(line, str) else line

    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {
                "()": structlog.stdlib.ProcessorFormatter,
                "processors": [
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    *(PLAIN if sys.stderr.isatty() else JSON),
                    masked,
                ],
                "foreign_pre_chain": [
                    structlog.stdlib.add_log_level,
                    structlog.processors.TimeStamper(fmt="iso", utc=True),
                    structlog.processors.format_exc_info,
                ],
            }
        },
        # A collector of spans that is away is said once a minute.
        "filters": {"seldom": {"()": lambda: Seldom("opentelemetry", "urllib3")}},
        "handlers": {
            "stderr": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["seldom"]}
        },
        "root": {"handlers": ["stderr"], "level": "WARNING"},
        "loggers": {
            "apperate": {"level": "INFO"},
            "django.request": {"level": "ERROR"},
            # Each try to connect or cancel is a line of it; database/outage.py says the same once a minute.
            "psycopg": {"level": "ERROR"},
        },
    }
