"""What goes in comes out in numbers: files through the HTTP API and the worker of `manage.py up`.

The file has the form of the United Nations' population figures: place, year, sex, age group. Each record is
unique as a whole, and without the sex each index occurs twice. benchmarks/ingest.py takes the real file.
"""

import csv
import http.client
import io
import itertools
import json
import os
import signal
from collections.abc import Iterable
from typing import Any

import pytest

from tests.support.installation import Demo, until

pytestmark = [pytest.mark.server, pytest.mark.database]

HEADER = "LocID,Location,Year,Sex,AgeGrp,AgeGrpStart,Value"
PLACES, YEARS, AGES = range(4, 24), range(1950, 1985), range(0, 105, 5)
INDEX = {"key": "LocID", "subkey": "AgeGrp", "date": "Year"}
HALF = len(PLACES) * len(YEARS) * len(AGES)


def lines(places: Iterable[int] = PLACES) -> list[str]:
    """The file's lines, with its header."""
    return [
        HEADER,
        *(
            f'{place},"Place {place}, new",{year},{sex},{age}-{age + 4},{age},{place * year + age}'
            for place, year, sex, age in itertools.product(places, YEARS, ("Male", "Female"), AGES)
        ),
    ]


class Client:
    """Requests with the secret token of the demo's workspace."""

    def __init__(self, demo: Demo) -> None:
        self.demo = demo

    def ask(self, method: str, path: str, body: Any = None) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.demo.port, timeout=60)
        connection.request(method, path, body, {"X-API-Key": self.demo.facts["secret_token"]})
        reply = connection.getresponse()
        text = reply.read().decode()
        connection.close()
        assert reply.status == 200, text
        return text

    def make(self, name: str, mapping: dict[str, str], sample: Iterable[str]) -> None:
        """A dataset of the inferred types and the given index."""
        schema = json.loads(self.ask("POST", "/v1/generate-schema/DEMO", "\n".join(sample).encode()))
        document = {
            "datasetId": name,
            "schema": {"properties": schema["properties"]},
            "columnMapping": mapping,
        }
        self.ask("POST", "/v1/datasets/DEMO", json.dumps({"dataset": document}))

    def send(self, name: str, text: str) -> str:
        """The address of the job that a file became."""
        return str(json.loads(self.ask("POST", f"/v1/data/DEMO/{name}", text.encode()))["jobUrl"])

    def job(self, url: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.ask("GET", url))
        return found

    def ended(self, url: str) -> dict[str, Any]:
        until(lambda: self.job(url)["status"] in ("INGESTED", "ERROR", "CANCELLED"), seconds=90)
        return self.job(url)

    def records(self, name: str) -> int:
        return int(json.loads(self.ask("GET", f"/v1/datasets/DEMO/{name}"))["records"])


@pytest.fixture
def client(demo: Demo) -> Client:
    return Client(demo)


def counts(job: dict[str, Any]) -> tuple[str, int, int, int]:
    return job["status"], job["recordsIngested"], job["duplicates"], job["invalid"]


def test_every_record_is_stored_under_the_generated_key(client: Client) -> None:
    file = lines()
    client.make("PEOPLE_ALL", {}, file[:100])

    job = client.ended(client.send("PEOPLE_ALL", "\n".join(file)))

    assert counts(job) == ("INGESTED", 2 * HALF, 0, 0), job["message"]
    assert client.records("PEOPLE_ALL") == 2 * HALF


def test_each_second_record_of_an_index_is_a_duplicate(client: Client) -> None:
    file = lines()
    client.make("PEOPLE_INDEXED", INDEX, file[:100])

    job = client.ended(client.send("PEOPLE_INDEXED", "\n".join(file)))

    assert counts(job) == ("INGESTED", HALF, HALF, 0), job["message"]
    assert client.records("PEOPLE_INDEXED") == HALF
    (found,) = json.loads(client.ask("GET", "/v1/data/DEMO/PEOPLE_INDEXED/4/50-54?range=1951"))
    assert (found["Year"], found["Sex"]) == (1951, "Male"), "a number as the date is a year"


def test_exactly_the_broken_lines_are_reported(client: Client) -> None:
    """One line in a hundred is broken, in turn by a column more, a word for a number, and an empty index."""
    file = lines()
    client.make("PEOPLE_BROKEN", INDEX, file[:100])
    reasons = {
        "received 8 columns, needed 7": lambda line: f"{line},more",
        '"Value": received "many", needed an integer': lambda line: f"{line.rpartition(',')[0]},many",
        '"LocID": received an empty cell, needed an integer, because it is required': (
            lambda line: line[line.index(",") :]
        ),
    }
    expected = dict(zip(range(101, len(file) + 1, 100), itertools.cycle(reasons), strict=False))
    for number, reason in expected.items():
        file[number - 1] = reasons[reason](file[number - 1])

    url = client.send("PEOPLE_BROKEN", "\n".join(file))
    job = client.ended(url)

    log = list(csv.DictReader(io.StringIO(client.ask("GET", f"{url}/invalid-records-log"), newline="")))
    assert {int(row["lineNumber"]): row["error"] for row in log} == expected
    assert {row["jobId"] for row in log} == {job["jobId"]}
    assert (job["status"], job["invalid"]) == ("INGESTED", len(expected))
    assert job["recordsIngested"] + job["duplicates"] + job["invalid"] == 2 * HALF


def test_a_worker_killed_in_the_middle_leaves_the_dataset_and_the_job_is_finished(client: Client) -> None:
    """kill -9: nobody sees half of the file, before or after; the next worker takes the job up by itself."""
    file = lines(range(4, 64))
    client.make("PEOPLE_KILLED", {}, file[:100])
    client.ended(client.send("PEOPLE_KILLED", "\n".join(file[:11])))
    (worker,) = client.demo.pids("procrastinate worker")
    url = client.send("PEOPLE_KILLED", "\n".join(file))

    until(lambda: client.job(url)["status"] != "CREATED")
    os.kill(worker, signal.SIGKILL)

    assert client.job(url)["status"] in ("VALIDATING", "PROCESSING")
    assert client.records("PEOPLE_KILLED") == 10
    until(lambda: set(client.demo.pids("procrastinate worker")) - {worker})
    # The dead worker's last sign of life becomes older than it would have to be to be waited for.
    aging = "UPDATE procrastinate_workers SET last_heartbeat = last_heartbeat - interval '1 minute'"
    client.demo.manage("shell", "-c", f"from django.db import connection as c; c.cursor().execute({aging!r})")

    assert counts(client.ended(url)) == ("INGESTED", len(file) - 11, 10, 0)
    assert client.records("PEOPLE_KILLED") == len(file) - 1
