"""Who gets the figures, and who does not."""

import re
import subprocess
import sys
from http import HTTPStatus

import pytest
from django.conf import LazySettings
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError

from apperate.running import exposition, figures
from apperate.running.configuration import Metrics, metrics
from tests.support.data_plane_client import DataPlaneClient
from tests.support.installation import ROOT

TOKEN = "a-token-of-24-characters"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, (False, False)),
        ({"APPERATE_METRICS_PORT": "9100"}, (True, False)),
        ({"APPERATE_METRICS_PORT": "9100", "APPERATE_METRICS_HOST": "::1"}, (True, False)),
        ({"APPERATE_METRICS_TOKEN": TOKEN}, (True, True)),
        ({"APPERATE_METRICS_TOKEN": TOKEN, "APPERATE_METRICS_PORT": "9100"}, (True, False)),
        (
            {"APPERATE_METRICS_TOKEN": TOKEN, "APPERATE_METRICS_PORT": "9100",
             "APPERATE_METRICS_HOST": "192.0.2.1"},
            (True, False),
        ),
    ],
)  # fmt: skip
def test_where_they_are_published(environ: dict[str, str], expected: tuple[bool, bool]) -> None:
    found = metrics(environ)

    assert (found.is_on, found.on_main_port) == expected


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"APPERATE_METRICS_PORT": "70000"}, "APPERATE_METRICS_PORT=70000 is out of range"),
        ({"APPERATE_METRICS_TOKEN": "short"}, "APPERATE_METRICS_TOKEN has 5 characters: use 16 or more"),
        ({"APPERATE_METRICS_TOKEN": "with a space in it"}, "without spaces"),
        ({"APPERATE_METRICS_TOKEN": "ümlautümlautümlaut"}, "printable"),
        ({"APPERATE_METRICS_PORT": "9100", "APPERATE_METRICS_HOST": "192.0.2.1"}, "is open to the network"),
        ({"APPERATE_METRICS_PORT": "9100", "APPERATE_METRICS_HOST": "10.0.0.5"}, "APPERATE_METRICS_TOKEN"),
    ],
)
def test_they_are_never_open(environ: dict[str, str], said: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=re.escape(said)) as refused:
        metrics(environ)

    assert environ.get("APPERATE_METRICS_TOKEN", "nothing") not in str(refused.value)


@pytest.mark.django_db(transaction=True)
def test_the_main_port_has_them_for_the_token_alone(settings: LazySettings, api: DataPlaneClient) -> None:
    assert api.get("/metrics", headers=BEARER).status == 404  # nothing is set

    settings.METRICS = Metrics(token=TOKEN)
    settings.ALLOWED_HOSTS, settings.SECURE_SSL_REDIRECT = ["data.example.com"], True

    given = api.get("/metrics", headers=BEARER)
    assert given.status == 200 and given.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert given.headers["cache-control"] == "no-store"
    assert b"apperate_database_up 1.0" in given.body and b"apperate_build_info{" in given.body
    assert api.request("HEAD", "/metrics", headers=BEARER).body == b""
    for headers in (
        {}, {"Authorization": f"Bearer {TOKEN}x"}, {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": "Bearer "}, [("Authorization", f"Bearer {TOKEN}")] * 2,
    ):  # fmt: skip
        refused = api.get("/metrics", headers=headers)
        assert refused.status == 401 and b"apperate_" not in refused.body
        assert refused.headers["www-authenticate"] == 'Bearer realm="Apperate metrics"'
    assert api.get(f"/metrics?token={TOKEN}").status == 401
    assert api.request("POST", "/metrics", headers=BEARER).status == 405

    settings.METRICS = Metrics(port=9100, token=TOKEN)
    settings.ALLOWED_HOSTS, settings.SECURE_SSL_REDIRECT = ["*"], False
    assert api.get("/metrics", headers=BEARER).status == 404


@pytest.mark.django_db
def test_a_database_that_is_away_is_said_and_the_rest_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    class Away:
        def cursor(self) -> None:
            raise OperationalError("connection refused")

        def close(self) -> None:
            pass

    monkeypatch.setattr(exposition, "installation", exposition.Installation())
    monkeypatch.setattr(exposition, "connection", Away())

    status, body, _ = figures.respond("GET", [])

    assert status == HTTPStatus.OK
    assert b"apperate_database_up 0.0" in body and b"apperate_disk_free_bytes" in body
    assert b"apperate_queue" not in body


@pytest.mark.django_db(transaction=True)
def test_the_queue_is_told_by_its_names(monkeypatch: pytest.MonkeyPatch) -> None:
    from datasets.jobs.queue import ingest

    ingest.configure(schedule_in={"hours": 1}).defer(job_id=0)
    ingest.defer(job_id=0)
    monkeypatch.setattr(exposition, "installation", exposition.Installation())

    said = exposition.text().decode()

    assert 'apperate_queue_waiting{queue="ingest"} 1.0' in said  # what is due later does not wait
    seconds = re.search(r'apperate_queue_oldest_seconds\{queue="ingest"\} (\S+)', said)
    assert seconds and 0 <= float(seconds[1]) < 600
    assert "apperate_job_workers 0.0" in said and "apperate_database_bytes " in said


def test_a_port_that_is_taken_is_one_sentence() -> None:
    program = (
        "import socket; from apperate.running import figures; taken = socket.create_server(('127.0.0.1', 0));"
        "figures.main('127.0.0.1', taken.getsockname()[1])"
    )

    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)

    assert done.returncode == 2
    assert re.fullmatch(r"APPERATE_METRICS_PORT=\d+ on 127.0.0.1 cannot be listened on: .*\n", done.stderr)
