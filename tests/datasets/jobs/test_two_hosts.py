"""Two hosts on one database: each `manage.py up` has a data directory of its own, and shares nothing else."""

import http.client
import json
import os
import signal
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from django.db import connection

from apperate.database.pool import connection_arguments
from apperate.management.commands import up
from datasets.models import Dataset, FileChunk, IngestJob, StagedFile
from datasets.storage import recount, writes
from tests.support.factories import DatasetFactory, TokenFactory, WorkspaceFactory
from tests.support.installation import Installation, until
from tokens.rules.token_format import TokenKind

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.server]

UPLOADS = 40
HEADER = "ticker,date,close,volume\n"
KEYS = {
    "APPERATE_SECRET_KEY": "the same on every host of this database",
    "APPERATE_SECRET_KEYS": b64encode(b"k" * 32).decode(),
}


class Host(Installation):
    """An installation on the database of the tests, `at`."""

    at: str

    def environment(self, **changes: str) -> dict[str, str]:
        return super().environment(**({"DATABASE_URL": self.at, "APPERATE_WORKERS": "1"} | KEYS | changes))

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
        asked = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            asked.request(method, path, body=body, headers=headers)
            answer = asked.getresponse()
            return answer.status, answer.read()
        finally:
            asked.close()


def url() -> str:
    """The DATABASE_URL of the database that the tests use."""
    found = {
        name: str(value)
        for name, value in connection_arguments().items()
        if name in {"host", "port", "user", "password", "passfile", "dbname"} and value
    }
    return f"postgresql:///{quote(found.pop('dbname'))}?{urlencode(found)}"


@pytest.fixture(scope="module")
def hosts(django_db_setup: None, django_db_blocker: Any, tmp_path_factory: Any) -> Iterator[list[Host]]:
    """Both at once, as after the power is back."""
    home = tmp_path_factory.mktemp("hosts")
    both = [Host(home / name) for name in ("a", "b")]
    with django_db_blocker.unblock():
        for host in both:
            host.at = url()
    try:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(Host.start, both))
        yield both
    finally:
        for host in both:
            host.end()


@pytest.fixture
def prices(transactional_db: None) -> Dataset:
    return DatasetFactory(workspace=WorkspaceFactory(name="ACME"), name="PRICES")


@pytest.fixture
def secret(prices: Dataset) -> dict[str, str]:
    token = TokenFactory(workspace=prices.workspace, kind=TokenKind.SECRET)
    return {"X-API-Key": token.test_value}


def ended() -> bool:
    return not IngestJob.objects.exclude(status__in=IngestJob.ENDED).exists()


def files_on_disk(hosts: list[Host]) -> list[Path]:
    return [place for host in hosts for place in (host.home / "ingest").rglob("*") if place.is_file()]


def test_hosts_that_start_together_change_the_tables_one_after_the_other(prices: Dataset) -> None:
    """Django's migrations expect to be alone: on an empty database the second host ended with an error."""
    entered: list[str] = []

    def start() -> None:
        with up.one_host_at_a_time():
            entered.append("second")

    with ThreadPoolExecutor(1) as pool, up.one_host_at_a_time():
        starting = pool.submit(start)
        until(lambda: _waits_for_the_lock(up.TABLES_LOCK))
        entered.append("first")
    starting.result(timeout=60)

    assert entered == ["first", "second"]


def _waits_for_the_lock(key: int) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = %s AND NOT granted", [key]
        )
        return bool(cursor.fetchone()[0])


def test_every_upload_to_either_host_is_stored(
    hosts: list[Host], prices: Dataset, secret: dict[str, str]
) -> None:
    """Each file has one line that is not valid, whose list is the same on both hosts."""

    def send(number: int) -> str:
        body = f"{HEADER}A{number},2024-01-02,1,\nA{number},yesterday,1,\n"
        status, answer = hosts[number % 2].ask("POST", "/v1/data/ACME/PRICES", body, **secret)
        assert status == 200, answer
        return str(json.loads(answer)["jobId"])

    with ThreadPoolExecutor(4) as pool:
        ids = list(pool.map(send, range(UPLOADS)))
    until(ended, seconds=240)

    assert {*IngestJob.objects.values_list("status", "stored", "invalid")} == {("INGESTED", 1, 1)}
    assert IngestJob.objects.count() == len(set(ids)) == UPLOADS
    assert writes.sizes([prices.pk])[prices.pk].records == UPLOADS
    for job_id in (ids[0], ids[1]):
        path = f"/v1/jobs/ACME/ingest/{job_id}/invalid-records-log"
        lists = [host.ask("GET", path, **secret) for host in hosts]
        assert lists[0] == lists[1] and lists[0][0] == 200
        assert lists[0][1].startswith(f"jobId,lineNumber,error\r\n{job_id},3,".encode())
    assert {*FileChunk.objects.values_list("name", flat=True)} == {"invalid.csv"}
    until(lambda: not files_on_disk(hosts))
    assert not StagedFile.objects.exists() and recount.recount(prices.workspace_id) == 0


def test_what_one_host_took_in_the_other_stores_when_it_has_no_worker(
    hosts: list[Host], prices: Dataset, secret: dict[str, str]
) -> None:
    (worker,) = hosts[0].pids("procrastinate worker")
    os.kill(worker, signal.SIGSTOP)
    try:
        status, answer = hosts[0].ask(
            "POST", "/v1/data/ACME/PRICES?wait=true", f"{HEADER}A,2024-01-02,1,\n", **secret
        )
        assert status == 200, answer
    finally:
        os.kill(worker, signal.SIGCONT)

    assert IngestJob.objects.get().status == "INGESTED"


def test_one_key_on_two_hosts_at_once_stores_one_file(
    hosts: list[Host], prices: Dataset, secret: dict[str, str]
) -> None:
    """Both are answered alike; whoever is told that the first is still running asks again, as it says."""
    rounds = 20

    def send(host: Host, number: int) -> bytes:
        found: list[bytes] = []

        def is_answered() -> bool:
            status, answer = host.ask(
                "POST", "/v1/data/ACME/PRICES", f"{HEADER}A{number},2024-01-02,1,\n",
                **(secret | {"Idempotency-Key": f"round-{number}"}),
            )  # fmt: skip
            assert status == 200 or b"still-running" in answer, answer
            found.append(answer)
            return status == 200

        until(is_answered)
        return found[-1]

    with ThreadPoolExecutor(2) as pool:
        for number in range(rounds):
            first, second = pool.map(send, hosts, [number, number])
            assert first == second
    until(ended, seconds=120)

    assert [*IngestJob.objects.values_list("status", "stored")] == [("INGESTED", 1)] * rounds
    assert writes.sizes([prices.pk])[prices.pk].records == rounds
    assert not FileChunk.objects.exists() and not StagedFile.objects.exists()
