"""E-N1 to E-N3 and E-Z1: many connections, slow ones, too large ones, and ones that make no sense."""

import asyncio
import contextlib
import socket
import time

from benchmarks.slow_clients import probes
from tests.support.installation import Demo
from tests.support.load import hostile
from tests.support.load.slow_clients import CONNECTIONS, KINDS, held
from tests.torture import faults
from tests.torture.faults import raise_descriptors
from tests.torture.stage import BATCHES, Stage, memory_mb
from tests.torture.trial import Trial, experiment
from tests.torture.wire import LOST, Wire

STORM = 2_000
RECORD_BYTES_MAX = 10_000_000
SESSIONS = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = current_user"
)


@experiment("E-N1", f"{CONNECTIONS} connections that send or read slowly, of each kind")
def slow(trial: Trial) -> None:
    with trial.stage(Demo(trial.folder / "data")) as demo:
        for kind in KINDS:
            with held(demo, kind):
                found = sorted(probes(demo, trial.long(15, 3)))
            p99 = found[int(len(found) * 0.99)]
            trial.mark(f"p99 beside those that {kind}", "< 500 ms", round(p99), p99 < 500)


@experiment("E-N2", f"{STORM:,} connections within a second, and as many kept open")
def storm(trial: Trial) -> None:
    raise_descriptors()
    count = trial.times(STORM, 400)
    with trial.embedded() as stage, stage.connect() as connection:
        workers = stage.servers()
        answers, seconds = asyncio.run(storm_of(stage, count))
        trial.outcome.figures["answers"] = answers
        trial.outcome.figures["seconds until the last answer"] = round(seconds, 1)
        row = connection.execute(SESSIONS).fetchone()
        assert row is not None
        # Of each worker: the pools of the data plane, and that of the pages.
        wanted = stage.workers * (4 + 6 + 10 + 2 + 10) + 10
        trial.mark("connections to the database", f"<= {wanted}", row[0], row[0] <= wanted)
        lost = {name: found for name, found in answers.items() if not name[0].isdigit()}
        trial.mark("requests without an answer", "0", lost or 0, not lost)
        odd = {name: found for name, found in answers.items() if name.startswith("500")}
        trial.mark("500", "0", odd or 0, not odd)
        kept = [socket.create_connection(("127.0.0.1", stage.port), timeout=5) for _ in range(count)]
        target = f"/v1/data/{BATCHES}/none?token={stage.cast['reader']}"
        seen = hostile.probe(stage.port, target, trial.long(10, 2))
        for wire in kept:
            wire.close()
        p99 = round(seen.p99)
        trial.mark(f"p99 beside {count:,} kept connections", "< 500 ms", p99, p99 < 500)
        trial.mark("workers that ended", "none", "none" if stage.servers() == workers else "some",
                   stage.servers() == workers)  # fmt: skip


async def storm_of(stage: Stage, count: int) -> tuple[dict[str, int], float]:
    """So many new connections, spread over one second, each with one read."""

    async def one(number: int) -> str:
        await asyncio.sleep(number / count)
        wire = Wire(stage.port)
        try:
            answer = await wire.ask(
                "GET", f"/v1/data/{BATCHES}/none", token=stage.cast["reader"], seconds_max=60
            )
        except LOST as error:
            return type(error).__name__
        finally:
            wire.close()
        return f"{answer.status} {answer.code}".strip()

    began = time.monotonic()
    found: dict[str, int] = {}
    for answer in await asyncio.gather(*(one(number) for number in range(count))):
        found[answer] = found.get(answer, 0) + 1
    return found, time.monotonic() - began


@experiment("E-N3", "requests that are too large, in each part of them")
def oversize(trial: Trial) -> None:
    with trial.embedded() as stage:
        workers = stage.servers()[1]
        before = sum(map(memory_mb, workers))
        target, token = f"/v1/record/{BATCHES}", stage.cast["writer"]
        head = f"POST {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
        get = f"GET /v1/data/{BATCHES}/none HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
        body = b'[{"batch":"large","number":"1","filler":"' + b"x" * RECORD_BYTES_MAX
        chunk = b"%x\r\n%s\r\n" % (65_536, b"x" * 65_536)
        length = f"Content-Length: {RECORD_BYTES_MAX + 1}\r\n\r\n"
        requests = {
            "a body one byte too large": (head + length, body[: RECORD_BYTES_MAX + 1], {413}),
            "a body of 1 GB, announced": (head + "Content-Length: 1000000000\r\n\r\n", b"", {413}),
            "chunks without an end": (head + "Transfer-Encoding: chunked\r\n\r\n", chunk * 400, {413}),
            "a URL of 100 kB": (get.replace("/none", "/none?x=" + "a" * 100_000) + "\r\n", b"", {414}),
            "a header of 40 kB": (get + "X-Long: " + "a" * 40_000 + "\r\n\r\n", b"", {431}),
            "100,000 headers": (get + "X: a\r\n" * 100_000 + "\r\n", b"", {400, 413, 414, 431, 0}),
        }  # fmt: skip
        for name, (first, rest, wanted) in requests.items():
            status, seconds = raw(stage.port, first.encode(), rest)
            holds = status in wanted and seconds <= 5
            shown = f"{status or 'closed'} in {seconds:.2f} s"
            trial.mark(name, f"{sorted(wanted)} within 5 s", shown, holds)
        grown = sum(map(memory_mb, workers)) - before
        trial.mark("memory of all workers grew by", "< 50 MB", f"{grown:.0f} MB", grown < 50)
        trial.mark(
            "an ordinary read afterwards", "200", stage.status("/readyz"), stage.status("/readyz") == 200
        )


def raw(port: int, first: bytes, rest: bytes, seconds_max: float = 20) -> tuple[int, float]:
    """The status of the answer to these bytes, 0 when there was none before the end; and the seconds."""
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=seconds_max) as wire:
        with contextlib.suppress(OSError):
            wire.sendall(first)
            wire.sendall(rest)
        answer = b""
        with contextlib.suppress(OSError):
            while b"\r\n" not in answer and (part := wire.recv(65_536)):
                answer += part
    parts = answer.split(None, 2)
    return (int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else 0), time.monotonic() - began


@experiment("E-Z1", "requests with random changes: bytes flipped, repeated, cut out")
def nonsense(trial: Trial) -> None:
    with trial.embedded() as stage:
        token = stage.cast["writer"]
        body = b'[{"batch": "t1", "number": "1", "filler": "x"}]'
        seeds = [
            f"GET /v1/data/{BATCHES}/k?limit=5&where=number%20eq%201&token={token} HTTP/1.1\r\nHost: x\r\n"
            f"Referer: https://a.example.com/x\r\nConnection: close\r\n\r\n".encode(),
            f"GET /v1/data/{BATCHES}?from=2020-01-01&format=csv HTTP/1.1\r\nHost: x\r\n"
            f"Authorization: Bearer {token}\r\nConnection: close\r\n\r\n".encode(),
            f"POST /v1/record/CORE/NONE?token={token} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode() + body,
        ]  # fmt: skip
        end = time.monotonic() + trial.long(60, 4)
        answers: dict[str, int] = {}
        slowest, worst = 0.0, b""
        while time.monotonic() < end:
            request = bytearray(trial.random.choice(seeds))
            for _ in range(trial.random.randint(1, 4)):
                mutate(trial, request)
            status, seconds = one(stage.port, bytes(request))
            name = str(status or "closed")
            answers[name] = answers.get(name, 0) + 1
            if status >= 500:
                worst = bytes(request)
            slowest = max(slowest, seconds)
        trial.outcome.figures["answers"] = answers
        wrong = {name: count for name, count in answers.items() if name.startswith("5")}
        trial.mark("5xx", "0", f"{wrong} such as {worst[:300]!r}" if wrong else 0, not wrong)
        trial.mark("the slowest answer", "<= 1 s", slowest, slowest <= 1)
        faults.wait(0)


def mutate(trial: Trial, request: bytearray) -> None:
    place = trial.random.randrange(len(request))
    way = trial.random.randrange(3)
    if way == 0:
        request[place] = trial.random.randrange(256)
    elif way == 1:
        request[place:place] = request[place : place + trial.random.randrange(20)]
    else:
        del request[place : place + trial.random.randrange(1, 8)]


def one(port: int, request: bytes) -> tuple[int, float]:
    """As raw(), but nothing more is sent: the server sees the end and need not wait for the rest."""
    began = time.monotonic()
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as wire, contextlib.suppress(OSError):
        wire.sendall(request)
        wire.shutdown(socket.SHUT_WR)
        while b"\r\n" not in answer and (part := wire.recv(65_536)):
            answer += part
    parts = answer.split(None, 2)
    return (int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else 0), time.monotonic() - began
