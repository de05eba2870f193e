"""A whole installation that is watched: what Prometheus, a collector of spans and Sentry are really sent."""

import gzip
import json
import os
import re
import signal
import urllib.request
from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.installation import Demo, free_port, started, until
from tests.support.receiver import Receiver, receiving

pytestmark = [pytest.mark.server, pytest.mark.database]
NEVER_A_TOKEN = "pk_00000000000000000000000000000000_00000000"
METRICS_PORT = free_port()
receivers: list[Receiver] = []


class Watched(Demo):
    """Every way to watch it at once; each request is slow enough for the log."""

    def environment(self, **changes: str) -> dict[str, str]:
        spans, faults = receivers
        watching = {
            "APPERATE_METRICS_PORT": str(METRICS_PORT),
            "APPERATE_SLOW_REQUEST_MS": "1",
            "OTEL_EXPORTER_OTLP_ENDPOINT": spans.url(""),
            "OTEL_BSP_SCHEDULE_DELAY": "200",
            "SENTRY_DSN": f"http://0123456789abcdef@127.0.0.1:{faults.port}/1",
        }
        return super().environment(**(watching | changes))


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    with receiving() as spans, receiving() as faults:
        receivers[:] = [spans, faults]
        with started(Watched) as installation:
            yield installation


def figures() -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{METRICS_PORT}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(number) for name, number in pairs}


def ask(watched: Watched, path: str, token: str = "") -> tuple[int, str]:
    """Status and request id of a read."""
    url = f"http://127.0.0.1:{watched.port}{path}"
    request = urllib.request.Request(f"{url}?token={token}" if token else url)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return answer.status, answer.headers["X-Request-Id"]
    except urllib.error.HTTPError as refused:
        with closing(refused):
            return refused.code, refused.headers["X-Request-Id"]


def bodies(receiver: Receiver) -> list[bytes]:
    return [
        gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body for _, body in tuple(receiver.requests)
    ]


def spans() -> list[dict[str, object]]:
    found = []
    for body in bodies(receivers[0]):
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    values = {one.key: one.value for one in span.attributes}
                    found.append({name: one.string_value or one.int_value for name, one in values.items()})
    return found


READS = 'apperate_requests_total{method="GET",plane="api",status="2xx"}'


def test_the_figures_of_all_workers_outlive_one_of_them(watched: Watched) -> None:
    token = watched.facts["publishable_token"]
    for _ in range(20):
        assert ask(watched, "/v1/data/DEMO/STOCKS/AAPL", token)[0] == 200
    ask(watched, "/v1/data/DEMO/STOCKS/AAPL", NEVER_A_TOKEN)
    before = figures()
    assert before[READS] == 20
    assert before['apperate_refusals_total{code="token-invalid"}'] == 1
    assert before['apperate_request_seconds_count{kind="read"}'] == 21
    until(lambda: figures()["apperate_workers"] == 2)
    until(lambda: figures()["apperate_job_workers"] == 1)
    assert figures()["apperate_database_bytes"] > 1_000_000
    worker = max(watched.pids("apperate.running.server"))

    os.kill(worker, signal.SIGKILL)

    until(lambda: figures()["apperate_workers"] == 1)
    until(lambda: figures()["apperate_workers"] == 2)
    assert figures()[READS] == 20
    assert ask(watched, "/v1/data/DEMO/STOCKS/AAPL", token)[0] == 200
    assert figures()[READS] == 21


def test_a_slow_request_is_found_in_the_log_by_the_id_of_its_answer(watched: Watched) -> None:
    token = watched.facts["publishable_token"]

    _, request_id = ask(watched, "/v1/data/DEMO/STOCKS/MSFT", token)

    until(lambda: request_id in watched.said())
    line = next(line for line in watched.said().splitlines() if request_id in line)
    said = json.loads(line)
    assert re.fullmatch(
        rf"slow request milliseconds=\d+ status=200 method=GET path=/v1/data/DEMO/STOCKS/MSFT "
        rf"request_id={request_id}", said["event"],
    )  # fmt: skip
    assert token not in watched.said()


def test_spans_name_the_request_and_never_the_token(watched: Watched) -> None:
    token = watched.facts["publishable_token"]
    _, served = ask(watched, "/v1/data/DEMO/CARS", token)
    _, refused = ask(watched, f"/v1/data/DEMO/{token}", NEVER_A_TOKEN)
    ask(watched, "/account/password/reset/key/1-secret-of-a-link/")

    def of(request_id: str) -> list[dict[str, object]]:
        return [span for span in spans() if span.get("apperate.request_id") == request_id]

    until(lambda: of(served) and of(refused))
    said = of(served)[0]
    assert said["url.path"] == "/v1/data/DEMO/CARS" and said["http.response.status_code"] == 200
    assert of(refused)[0]["apperate.refusal"] == "token-invalid"
    until(lambda: any("password/reset/key" in str(span["http.route"]) for span in spans()))
    everything = b"".join(bodies(receivers[0]))
    assert token.encode() not in everything and NEVER_A_TOKEN.encode() not in everything
    assert b"secret-of-a-link" not in everything


def test_a_fault_is_reported_with_its_place_and_without_the_token(watched: Watched) -> None:
    token = watched.facts["publishable_token"]
    url = json.loads(watched.manage("shell", "-v", "0", "-c", CONNECTION))
    with psycopg.connect(**{**url, "user": "apperate_owner"}, autocommit=True) as connection:
        connection.execute("ALTER TABLE records RENAME COLUMN data TO gone")
        try:
            status, request_id = ask(watched, "/v1/data/DEMO/STOCKS/AAPL", token)
        finally:
            connection.execute("ALTER TABLE records RENAME COLUMN gone TO data")
    assert status == 500

    until(lambda: request_id.encode() in b"".join(bodies(receivers[1])))

    report = next(body for body in bodies(receivers[1]) if request_id.encode() in body)
    event = json.loads(report.splitlines()[2])
    assert event["exception"]["values"][-1]["type"] == "UndefinedColumn"
    assert "\n" not in event["exception"]["values"][-1]["value"]
    assert "request" not in event and "user" not in event and "extra" not in event
    frames = event["exception"]["values"][-1]["stacktrace"]["frames"]
    assert frames and not any("vars" in frame for frame in frames)
    assert token.encode() not in b"".join(bodies(receivers[1]))


# psycopg's arguments as the owner of the tables.
CONNECTION = (
    "import json; from django.db import connection as c; p = c.get_connection_params();"
    "print(json.dumps({k: p[k] for k in ('dbname', 'user', 'passfile', 'host', 'port') if p.get(k)}))"
)
