"""Logging: one JSON line per event, plain lines in a terminal; token values are masked in both."""

import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from tokens.token_format import mask_in_text


def mask_tokens(logger: Any, name: str, line: str | MutableMapping[str, Any]) -> Any:
    """The rendered line with every token value masked, wherever it came from (message, traceback)."""
    return mask_in_text(line) if isinstance(line, str) else line


RENDERER = (
    structlog.dev.ConsoleRenderer(colors=False)
    if sys.stderr.isatty()
    else structlog.processors.JSONRenderer()
)
LOGGING_CONFIGURATION: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {
            "()": structlog.stdlib.ProcessorFormatter,
            "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, RENDERER, mask_tokens],
            "foreign_pre_chain": [
                structlog.stdlib.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.format_exc_info,
            ],
        }
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
    "loggers": {"apperate": {"level": "INFO"}, "django.request": {"level": "ERROR"}},
}
