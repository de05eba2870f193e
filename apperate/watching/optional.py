"""Packages that an installation has only when it was asked for them, and the variables that ask."""

import importlib
from collections.abc import Mapping

from django.core.exceptions import ImproperlyConfigured

TRACES, FAULTS = "OTEL_EXPORTER_OTLP_ENDPOINT", "SENTRY_DSN"
MODULES = {TRACES: "opentelemetry.exporter.otlp.proto.http.trace_exporter", FAULTS: "sentry_sdk"}
REQUIREMENTS = "requirements-observability.txt"


def refuse_missing(environ: Mapping[str, str]) -> None:
    """Raise ImproperlyConfigured, with one sentence, for a package that is asked for and not installed."""
    for variable, module in MODULES.items():
        if not environ.get(variable):
            continue
        try:
            importlib.import_module(module)
        except ImportError:
            raise ImproperlyConfigured(
                f"{variable} is set, and the package {module.partition('.')[0]} is not installed: run "
                f"`.venv/bin/python -m pip install --require-hashes -r {REQUIREMENTS}`, or leave it unset."
            ) from None
    if dsn := environ.get(FAULTS):
        from sentry_sdk.utils import BadDsn, Dsn

        try:
            Dsn(dsn)
        except (BadDsn, ValueError):
            raise ImproperlyConfigured(
                f"{FAULTS} is not a DSN of Sentry. Needed: https://key@host/project."
            ) from None
