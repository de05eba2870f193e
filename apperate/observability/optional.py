"""Packages that an installation has only when it was asked for them, and the variables that ask."""

import importlib
from collections.abc import Mapping

from django.core.exceptions import ImproperlyConfigured

SPANS, REPORTS = "opentelemetry.exporter.otlp.proto.http.trace_exporter", "sentry_sdk"
REQUIREMENTS = "requirements-observability.txt"


def refuse_missing(environ: Mapping[str, str]) -> None:
    """Raise ImproperlyConfigured, with one sentence, for a package that is asked for and not installed."""
    asked = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": (environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"), SPANS),
        "SENTRY_DSN": (environ.get("SENTRY_DSN"), REPORTS),
    }
    for variable, (value, module) in asked.items():
        if not value:
            continue
        try:
            importlib.import_module(module)
        except ImportError:
            raise ImproperlyConfigured(
                f"{variable} is set, and the package {module.partition('.')[0]} is not installed: run "
                f"`.venv/bin/python -m pip install --require-hashes -r {REQUIREMENTS}`, or leave it unset."
            ) from None
    if dsn := environ.get("SENTRY_DSN"):
        from sentry_sdk.utils import BadDsn, Dsn

        try:
            Dsn(dsn)
        except (BadDsn, ValueError):
            raise ImproperlyConfigured(
                "SENTRY_DSN is not a DSN of Sentry. Needed: https://key@host/project."
            ) from None
