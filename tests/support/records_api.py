"""Records over the API as the workspace ACME: the caller, its dataset, and the worker of the queue.

The fixtures are found by name in every test (`pytest_plugins` in tests/conftest.py).
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import connection

from apperate.accounts.models import Workspace
from datasets.models import Dataset
from datasets.storage import writes
from tests.support.data_plane_client import DataPlaneClient, Reply
from tests.support.factories import DatasetFactory, TokenFactory
from tokens.models import Token
from tokens.rules.token_format import TokenKind


@pytest.fixture
def ingest_dir(settings: LazySettings, tmp_path: Path) -> Path:
    settings.INGEST_DIR = tmp_path
    return tmp_path


@pytest.fixture
def empty_queue(transactional_db: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_jobs")


@pytest.fixture
def prices(workspace: Workspace) -> Dataset:
    return DatasetFactory(workspace=workspace, name="PRICES")


@pytest.fixture
def secret(workspace: Workspace) -> Token:
    return TokenFactory(workspace=workspace, kind=TokenKind.SECRET)


class Caller:
    """Requests of the workspace ACME with its secret token."""

    def __init__(self, api: DataPlaneClient, token: Token) -> None:
        self.api, self.value = api, token.test_value

    def url(self, path: str, query: str = "") -> str:
        return f"/v1/{path}?token={self.value}{'&' if query else ''}{query}"

    def get(self, path: str, query: str = "", **kwargs: Any) -> Reply:
        return self.api.get(self.url(f"data/ACME/{path}", query), **kwargs)

    def post(self, path: str, body: Any, query: str = "", **kwargs: Any) -> Reply:
        return self.api.post(self.url(path, query), body, **kwargs)

    def delete(self, path: str, query: str = "") -> Reply:
        return self.api.delete(self.url(f"data/ACME/{path}", query))

    def fill(self, records: list[dict[str, Any]], path: str = "record/ACME/PRICES") -> None:
        reply = self.post(path, records)
        assert reply.status == 200, reply.body


@pytest.fixture
def call(api: DataPlaneClient, secret: Token) -> Caller:
    return Caller(api, secret)


WORKER = """
import sys
from pathlib import Path
from django.conf import settings
settings.DATABASES["default"]["NAME"], settings.INGEST_DIR = sys.argv[1], Path(sys.argv[2])
import django
django.setup()
from apperate.running.supervisor import die_with_parent
die_with_parent()
from django.core.management import call_command
call_command("procrastinate", "worker", "--no-listen-notify", "--fetch-job-polling-interval", "0.1")
"""


@pytest.fixture
def worker(call: Caller, ingest_dir: Path) -> Iterator[None]:
    """The worker of the queue, in a process of its own as under `manage.py up`, until the test ends."""
    arguments = [str(connection.settings_dict["NAME"]), str(ingest_dir)]
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings"}
    process = subprocess.Popen([sys.executable, "-c", WORKER, *arguments], env=environment)
    yield
    process.send_signal(signal.SIGKILL)
    process.wait()


def refused(reply: Reply, status: int = 400, code: str = "invalid-values") -> dict[str, Any]:
    assert (reply.status, reply.code) == (status, code), reply.body
    return dict(reply.json())


def count(dataset: Dataset) -> int:
    found = writes.sizes([dataset.pk]).get(dataset.pk)
    return found.records if found else 0
