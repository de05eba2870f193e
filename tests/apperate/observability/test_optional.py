"""Packages that are asked for by a variable: there, or one sentence that says how to get them."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from apperate.kernel.logs import Seldom
from apperate.observability.optional import REQUIREMENTS, refuse_missing
from tests.support.installation import ROOT


@pytest.mark.parametrize(
    ("package", "environ"),
    [
        ("sentry_sdk", {"SENTRY_DSN": "https://0123456789abcdef@sentry.example/1"}),
        ("opentelemetry", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}),
    ],
)
def test_a_package_that_is_missing_is_one_sentence(
    package: str, environ: dict[str, str], tmp_path: Path
) -> None:
    refuse_missing(environ)  # It is installed here.
    (tmp_path / f"{package}.py").write_text("raise ImportError")
    environment = os.environ | environ | {
        "PYTHONPATH": str(tmp_path), "APPERATE_DATA_DIR": str(tmp_path / "data"),
        "DJANGO_SETTINGS_MODULE": "apperate.settings",
    }  # fmt: skip

    done = subprocess.run(
        [sys.executable, "manage.py", "up"], cwd=ROOT, env=environment, capture_output=True, text=True
    )

    assert done.returncode == 2, done.stderr
    assert f"{next(iter(environ))} is set, and the package {package} is not installed" in done.stderr
    assert REQUIREMENTS in done.stderr and "Traceback" not in done.stderr
    assert (ROOT / REQUIREMENTS).exists()


def test_a_dsn_that_is_none_is_one_sentence() -> None:
    with pytest.raises(ImproperlyConfigured, match="SENTRY_DSN is not a DSN of Sentry") as refused:
        refuse_missing({"SENTRY_DSN": "https://secret-of-mine"})

    assert "secret-of-mine" not in str(refused.value)


def test_nothing_is_asked_for() -> None:
    refuse_missing({"SENTRY_DSN": "", "OTEL_EXPORTER_OTLP_ENDPOINT": ""})


def test_a_collector_that_is_away_is_one_line_a_minute() -> None:
    seldom = Seldom("opentelemetry")

    def passes(name: str, at: float) -> bool:
        record = logging.LogRecord(name, logging.ERROR, "", 0, "not sent", (), None)
        record.created = at
        return bool(seldom.filter(record))

    exporter = "opentelemetry.exporter.otlp"
    assert [passes(exporter, at) for at in (1_000.0, 1_008.0, 1_059.9, 1_061.0)] == [True, False, False, True]
    assert passes("apperate.requests", 1_062.0)
