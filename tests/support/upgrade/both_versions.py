"""Clients that read, write and manage without a break, while two versions serve one database.

with Load(ports, value) as load:      one client of each kind for each port
    load.ports.append(port)           clients of another server join
load.failed                           every answer but a success, with what was asked
load.stored                           the keys of acknowledged records
"""

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from tests.support.installation import until

DATASET = "UPGRADE"
SECONDS_MAX = 30
PAUSE_SECONDS = 0.1


class Caller:
    """One connection, opened again when the server has closed it between two requests."""

    def __init__(self, port: int, value: str) -> None:
        self.port, self.value = port, value
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS_MAX)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
        content = json.dumps(body).encode() if isinstance(body, dict | list) else body
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        self.connection.request(method, path, content, {"Authorization": f"Bearer {self.value}", **named})
        reply = self.connection.getresponse()
        return reply.status, reply.read()

    def close(self) -> None:
        self.connection.close()


# One request; its name, status and answer.
Kind = Callable[[Caller, int], tuple[str, int, bytes]]


class Load:
    def __init__(self, port: int, value: str) -> None:
        self.value = value
        self.asked: Counter[str] = Counter()
        self.failed: list[str] = []
        self.stored: set[str] = set()
        self.slowest_seconds = 0.0
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._tokens = 0
        self.join(port)

    def join(self, port: int) -> None:
        """Let clients of each kind ask this port, until the end."""
        token = f"Upgrade {port}"
        first = Caller(port, self.value)
        # The first record makes the dataset.
        _, status, answer = self._write(first, f"{port}-first")
        assert status == 200, answer
        status, answer = first.ask("POST", "/v1/tokens", {"nickname": token})
        assert status == 200, answer
        public_id = json.loads(answer)["id"]
        first.close()
        # One after the other: a token may not change more than a few things at once.
        changes: list[Kind] = [
            lambda caller, step: self._write(caller, f"{port}-{step}"),
            lambda caller, step: (
                "rename",
                *caller.ask("PATCH", f"/v1/tokens/{public_id}", {"nickname": f"{token} {step}"}),
            ),
            lambda caller, step: (
                "file",
                *caller.ask(
                    "POST", f"/v1/data/DEMO/{DATASET}", f"key,day\n{port}-{step}f,2024-01-02\n".encode(),
                    Content_Type="text/csv",
                ),
            ),
        ]  # fmt: skip
        for kinds in (
            changes,
            [lambda caller, _: ("read", *caller.ask("GET", "/v1/data/DEMO/STOCKS/AAPL?last=2"))],
            [lambda caller, _: ("page", *caller.ask("GET", "/account/login/"))],
        ):
            thread = threading.Thread(target=self._repeat, args=[Caller(port, self.value), kinds])
            self._threads.append(thread)
            thread.start()

    def go_on(self, writes: int) -> None:
        """Until so many more writes were answered."""
        reached = self.asked["write"] + writes
        until(lambda: self.asked["write"] >= reached, seconds=SECONDS_MAX * writes, said=self.told)

    def told(self) -> str:
        return f"{dict(self.asked)}, failed: {self.failed[:3]}"

    def _write(self, caller: Caller, key: str) -> tuple[str, int, bytes]:
        status, answer = caller.ask("POST", f"/v1/record/DEMO/{DATASET}", [{"key": key, "day": "2024-01-02"}])
        if status == 200:
            self.stored.add(key)
        return "write", status, answer

    def _repeat(self, caller: Caller, kinds: list[Kind]) -> None:
        step = 0
        while not self._stop.wait(PAUSE_SECONDS):
            began = time.monotonic()
            try:
                name, status, answer = kinds[step % len(kinds)](caller, step)
                if status >= 300:
                    self.failed.append(f"{name} at {caller.port}: {status} {answer[:300]!r}")
            except (OSError, http.client.HTTPException) as error:
                name = "broken"
                self.failed.append(f"after {self.asked}: {error!r}")
            self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - began)
            self.asked[name] += 1
            step += 1
        caller.close()

    def __enter__(self) -> "Load":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
