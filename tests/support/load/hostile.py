"""Hostile clients beside an ordinary one: what the ordinary one sees, and whether all is counted.

`python -m tests.support.load.hostile PORT SECONDS` reads requests, one JSON list [method, target, body bytes]
a line, asks them all again and again, each by a client of its own, and prints how often what was answered.
"""

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.support.installation import ROOT, Demo

CLIENTS = 64
RECORDS = 300_000
KEYS = 2_000
# Run by `manage.py shell`; the last line it prints is JSON.
MAKE = """
import json
from django.db import connection
from apperate.accounts.models import Workspace
from tests.support.factories import DatasetFactory, TokenFactory
hostile = Workspace.objects.create(name="HOSTILE", title="Hostile", plan="business")
core, _ = Workspace.objects.get_or_create(name="CORE", defaults={"title": "Core"})
quiet = Workspace.objects.create(name="QUIET", title="Quiet", plan="business")
def fill(dataset, count, keys):
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        cursor.execute(
            '''INSERT INTO records (dataset_id, shard, key, subkey, date, updated, data)
            SELECT %(id)s, %(id)s %% 32, 'k' || lpad((n %% %(keys)s)::text, 4, '0'), '',
                   timestamptz '2000-01-01' + n * interval '1 minute', now(),
                   json_build_object('ticker', 'k' || n %% %(keys)s, 'close', n, 'v', repeat(md5(n::text), 4))
              FROM generate_series(1, %(count)s) n''', {"id": dataset.pk, "count": count, "keys": keys})
fill(DatasetFactory(workspace=hostile, name="LARGE"), RECORDS, KEYS)
fill(DatasetFactory(workspace=quiet, name="SMALL"), 100, 1)
fill(DatasetFactory(workspace=core, name="PRICED", credits_per_record=1), 100, 1)
def token(workspace, **settings):
    return TokenFactory(workspace=workspace, settings=settings).test_value
print(json.dumps({
    "hostile": [token(hostile, all_datasets_read=True, all_datasets_write=True) for _ in range(CLIENTS)],
    "quiet": token(quiet, all_datasets_read=True),
    "limited": token(quiet, core_credit_limit=1_000_000),
    "revoked": [token(quiet, all_datasets_read=True) for _ in range(12)],
}))
"""
DISABLE = """
import time
from django.utils import timezone
from tokens.services import lifecycle
from tokens.models import Token
lifecycle.disable(token=Token.objects.get(secrets__clear=VALUE), by=None, now=timezone.now())
print(time.time())
"""
COUNTED = """
import json
from django.db import connection
def sums(what, name):
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {name}, sum({what} JOIN tokens_secret s USING (token_id) "
                       "WHERE s.clear = ANY(%s) GROUP BY 1", [VALUES])
        return {name: int(count) for name, count in cursor.fetchall() if name != "ok" or "usage" in what}
print(json.dumps({
    "calls": sums("calls) FROM tokens_usagecounter", "outcome"),
    "refusals": sums("calls) FROM tokens_tokenrefusal", "code"),
    "credits": sum(sums("used) FROM tokens_creditwindow", "'used'").values()),
}))
"""


class Fair(Demo):
    """An installation with a large dataset of one workspace and small ones of others; `made`: the tokens."""

    def start(self) -> None:
        super().start()
        self.made = json.loads(self.shell(MAKE, RECORDS=RECORDS, KEYS=KEYS, CLIENTS=CLIENTS))

    def shell(self, script: str, **names: object) -> str:
        """The last line that a script prints, run by `manage.py shell` with these names set."""
        given = "".join(f"{name} = {value!r}\n" for name, value in names.items())
        return self.manage("shell", "-c", given + script).splitlines()[-1]

    def counted(self, *values: str) -> dict[str, Any]:
        """What is counted of these tokens by now."""
        found: dict[str, Any] = json.loads(self.shell(COUNTED, VALUES=list(values)))
        return found


def slow(token: str) -> list[object]:
    """A question that no record answers: all of them are looked at."""
    return ["GET", f"/v1/data/HOSTILE/LARGE?where=ticker%20eq%20zzz&token={token}", 0]


def batch(token: str) -> list[object]:
    keys = ",".join(f"k{number:04}" for number in range(KEYS))
    return ["GET", f"/v1/data/HOSTILE/LARGE/{keys}?where=ticker%20eq%20zzz&limit=5000&token={token}", 0]


def long(token: str) -> list[object]:
    return ["GET", f"/v1/data/HOSTILE/LARGE?limit=5000&format=csv&token={token}", 0]


def write(token: str) -> list[object]:
    return ["POST", f"/v1/record/HOSTILE/LARGE?duplicateKeyHandling=replace&token={token}", 2_000_000]


def record_body(size: int, client: int) -> bytes:
    one = {"ticker": f"w{client}", "date": "2024-01-01", "close": 1}
    count = size // 70
    return json.dumps(
        [one | {"date": f"{1990 + n // 300}-01-01T00:00:{n % 60:02}.{n:06}Z"} for n in range(count)]
    ).encode()


async def ask(port: int, method: str, target: str, body: bytes, end: float, answers: Counter[str]) -> None:
    while time.monotonic() < end:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                while time.monotonic() < end:
                    status, code = await exchange(reader, writer, method, target, body)
                    answers[f"{status} {code}".strip()] += 1
            finally:
                writer.close()
        except (OSError, asyncio.IncompleteReadError):
            answers["cut"] += 1


async def exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, method: str, target: str, body: bytes = b""
) -> tuple[int, str]:
    """One request on a kept connection: the status, and the code of a refusal."""
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    writer.write(f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n{length}\r\n".encode() + body)
    await writer.drain()
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    said = await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
    status = int(head.split()[1])
    return status, "" if status == 200 else json.loads(said).get("code", "")


async def attack(port: int, seconds: float, requests: list[list[object]]) -> Counter[str]:
    answers: Counter[str] = Counter()
    end = time.monotonic() + seconds
    bodies = [record_body(int(str(size)), n) if size else b"" for n, (_, _, size) in enumerate(requests)]
    await asyncio.gather(
        *(
            ask(port, str(method), str(target), body, end, answers)
            for (method, target, _), body in zip(requests, bodies, strict=True)
        )
    )
    return answers


@dataclass
class Attack:
    """What the hostile clients were answered, once they have ended."""

    answers: Counter[str] = field(default_factory=Counter)


@contextmanager
def attacked(port: int, requests: list[list[object]], seconds: float) -> Iterator[Attack]:
    """Hostile clients in a process of their own, for so long; waits for their last answers."""
    command = [sys.executable, "-m", "tests.support.load.hostile", str(port), str(seconds)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write("".join(json.dumps(one) + "\n" for one in requests))
    process.stdin.close()
    found = Attack()
    try:
        assert process.stdout.readline() == "begun\n"
        yield found
        found.answers.update(json.loads(process.stdout.read()))
    finally:
        process.kill()
        process.wait()


@dataclass
class Seen:
    """The answers to an ordinary client: milliseconds of each, and how many of each kind."""

    milliseconds: list[float] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)

    @property
    def p99(self) -> float:
        found = sorted(self.milliseconds)
        return found[min(len(found) - 1, int(len(found) * 0.99))]

    @property
    def median(self) -> float:
        return sorted(self.milliseconds)[len(self.milliseconds) // 2]


def probe(port: int, target: str, seconds: float, per_second: float = 10) -> Seen:
    """Ask so often on kept connections, whether or not the answer before has come."""

    async def one(seen: Seen, idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]) -> None:
        began = time.monotonic()
        pair = idle.pop() if idle else await asyncio.open_connection("127.0.0.1", port)
        status, code = await exchange(*pair, "GET", target)
        seen.milliseconds.append(1_000 * (time.monotonic() - began))
        seen.answers[f"{status} {code}".strip()] += 1
        idle.append(pair)

    async def all_of_them() -> Seen:
        seen, idle, asked = Seen(), [], []
        start = time.monotonic()
        for number in range(int(seconds * per_second)):
            await asyncio.sleep(max(0.0, start + number / per_second - time.monotonic()))
            asked.append(asyncio.create_task(one(seen, idle)))
        await asyncio.gather(*asked)
        for _, writer in idle:
            writer.close()
        return seen

    return asyncio.run(all_of_them())


def passed_after_disabling(installation: Fair, value: str) -> float:
    """For how many seconds a token was still answered after disabling it had been answered; at least 0."""
    target = f"/v1/data/QUIET/SMALL/k0000?token={value}"
    passed: list[float] = []
    stop = threading.Event()

    def watch() -> None:
        async def go() -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", installation.port)
            while not stop.is_set():
                status, _ = await exchange(reader, writer, "GET", target)
                if status == 200:
                    passed.append(time.time())
                await asyncio.sleep(0.02)
            writer.close()

        asyncio.run(go())

    # Two connections, so that both workers are asked.
    watchers = [threading.Thread(target=watch) for _ in range(4)]
    for watcher in watchers:
        watcher.start()
    time.sleep(0.5)
    disabled_at = float(installation.shell(DISABLE, VALUE=value))
    time.sleep(2)
    stop.set()
    for watcher in watchers:
        watcher.join()
    assert passed
    return max(0.0, max(passed) - disabled_at)


if __name__ == "__main__":
    lines = [json.loads(line) for line in sys.stdin]
    print("begun", flush=True)
    print(json.dumps(asyncio.run(attack(int(sys.argv[1]), float(sys.argv[2]), lines))))
