"""Many client processes against many server workers on one limited token: how many records are served?

race(installation, clients=8, quiet_seconds=3, kill_every_seconds=None) -> Outcome
"""

import http.client
import json
import os
import random
import signal
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from tests.support.installation import Demo

LIMIT = 1_000
SETTLE_SECONDS_MAX = 30
REQUESTS_PER_CONNECTION = 25  # so that each client meets every worker
# Run by `manage.py shell`; the last line it prints is the token.
MAKE_CORE = """
from apperate.accounts.models import Workspace
from tests.support.factories import DatasetFactory, TokenFactory
core, _ = Workspace.objects.get_or_create(name="CORE")
DatasetFactory(workspace=core, name="RACE", credits_per_record=1)
print(TokenFactory(workspace=core, settings={"all_datasets_write": True}).test_value)
"""
MAKE_TOKEN = """
from apperate.accounts.models import Workspace
from tests.support.factories import TokenFactory
racer, _ = Workspace.objects.get_or_create(name="RACER")
print(TokenFactory(workspace=racer, settings={settings!r}).test_value)
"""
CHARGED = """
from tokens.models import CreditWindow
from django.db.models import Sum
from tokens.models import UsageCounter
window = CreditWindow.objects.get(token__secrets__clear={value!r})
ok = UsageCounter.objects.filter(token_id=window.token_id, outcome="ok")
print(window.used, ok.aggregate(calls=Sum("calls"))["calls"] or 0)
"""


class Race(Demo):
    """An installation with four workers, and CORE/RACE with one record."""

    def environment(self, **changes: str) -> dict[str, str]:
        return super().environment(**({"APPERATE_WORKERS": "4"} | changes))

    def start(self) -> None:
        super().start()
        writer = self.manage("shell", "-c", MAKE_CORE).split()[-1]
        body = json.dumps({"ticker": "A", "date": "2024-01-02", "close": 1})
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        connection.request("POST", f"/v1/record/CORE/RACE?token={writer}", body)
        reply = connection.getresponse()
        assert reply.status == 200, reply.read()
        connection.close()

    def make_token(self, **settings: int) -> str:
        """The value of a token that reads CORE and has these settings."""
        return self.manage("shell", "-c", MAKE_TOKEN.format(settings=settings)).split()[-1]


@dataclass(frozen=True)
class Outcome:
    """`cut_max`: so many answers at most were lost with a worker after they had been paid for and counted."""

    served: int
    charged: int
    counted: int
    kills: int
    cut_max: int


def client(port: int, target: str, quiet_seconds: float) -> tuple[int, float]:
    """Ask until 402 has been the only answer for quiet_seconds; how many records came, and when the last."""
    served, served_at = 0, 0.0
    last_other = time.monotonic()
    while time.monotonic() - last_other < quiet_seconds:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            for _ in range(REQUESTS_PER_CONNECTION):
                connection.request("GET", target)
                reply = connection.getresponse()
                body = reply.read()
                if reply.status == 200:
                    served += len(json.loads(body))
                    served_at = time.monotonic()
                if reply.status != 402:
                    last_other = time.monotonic()
                elif time.monotonic() - last_other >= quiet_seconds:
                    break
        except (OSError, http.client.HTTPException):
            last_other = time.monotonic()  # The worker was killed.
        finally:
            connection.close()
    return served, served_at


def race(
    installation: Race, *, clients: int = 8, quiet_seconds: float = 3, kill_every_seconds: float | None = None
) -> Outcome:
    value = installation.make_token(core_credit_limit=LIMIT)
    target = f"/v1/data/CORE/RACE?token={value}&last=1"
    kills: list[float] = []
    with ProcessPoolExecutor(clients, mp_context=get_context("spawn")) as processes:
        asked = [processes.submit(client, installation.port, target, quiet_seconds) for _ in range(clients)]
        while kill_every_seconds and not all(one.done() for one in asked):
            time.sleep(kill_every_seconds)
            if kill_a_worker(installation):
                kills.append(time.monotonic())
        served = sum(one.result()[0] for one in asked)
        last = max(one.result()[1] for one in asked)
    # Whoever is killed later than a second after the last record had written and returned everything.
    cut_max = clients * sum(at < last + 1 for at in kills)
    until = time.monotonic() + SETTLE_SECONDS_MAX
    while True:  # What killed workers held follows when another one takes it over.
        told = installation.manage("shell", "-c", CHARGED.format(value=value)).split()[-2:]
        charged, counted = (int(figure) for figure in told)
        if charged - served <= cut_max and counted >= served or time.monotonic() > until:
            return Outcome(served, charged, counted, len(kills), cut_max)


def kill_a_worker(installation: Race) -> int:
    """kill -9 of a random server worker, never of their main process; how many were killed."""
    servers = set(installation.pids("apperate.running.server"))
    workers = [pid for pid in servers if parent_of(pid) in servers]
    if not workers:
        return 0
    os.kill(random.choice(workers), signal.SIGKILL)
    return 1


def parent_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0
