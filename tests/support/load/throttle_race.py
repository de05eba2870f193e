"""Many client processes against many server workers on one throttled token: how many requests pass, and when?

race(installation, RATE, times_rate=10) -> Outcome
"""

import http.client
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

from tests.support.load.credit_race import Race
from tokens.gate.throttling import Rate

CLIENTS = 8
REQUESTS_PER_CONNECTION = 5  # so that each client meets every worker


@dataclass(frozen=True)
class Answer:
    """When a request was sent and when its answer had come, on the clock that all processes share."""

    status: int
    sent: float
    received: float


@dataclass(frozen=True)
class Outcome:
    rate: Rate
    answers: list[Answer]

    @property
    def passed(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.status == 200]

    @property
    def worst(self) -> float:
        """The greatest part of burst + rate × t that passed in any span of t seconds; 1 is all of it.

        What was sent after its begin and answered before its end did pass within a span, whatever the
        network and the processes did meanwhile.
        """
        passed = sorted(self.passed, key=lambda answer: answer.received)
        worst = 0.0
        for begin in passed:
            inside = 0
            for end in passed:
                if end.sent >= begin.sent:
                    inside += 1
                    bound = self.rate.burst + self.rate.per_second * (end.received - begin.sent)
                    worst = max(worst, inside / bound)
        return worst


def client(port: int, target: str, per_second: float, wait_seconds: float, requests: int) -> list[Answer]:
    """Ask at an even pace or slower; who is late does not catch up."""
    answers = []
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    due = time.monotonic() + wait_seconds
    for number in range(requests):
        time.sleep(max(0.0, due - time.monotonic()))
        sent = time.monotonic()
        due = sent + 1 / per_second
        connection.request("GET", target)
        reply = connection.getresponse()
        reply.read()
        answers.append(Answer(reply.status, sent, time.monotonic()))
        if number % REQUESTS_PER_CONNECTION == 0:
            connection.close()
    connection.close()
    return answers


def race(installation: Race, rate: Rate, *, times_rate: float, seconds: float) -> Outcome:
    value = installation.make_token(requests_per_second=rate.per_second, burst=rate.burst)
    target = f"/v1/data/CORE/RACE?token={value}&last=1"
    each = rate.per_second * times_rate / CLIENTS
    with ProcessPoolExecutor(CLIENTS, mp_context=get_context("spawn")) as processes:
        asked = [
            # One after the other, so that they do not ask at the same instant.
            processes.submit(
                client, installation.port, target, each, number / each / CLIENTS, int(each * seconds)
            )
            for number in range(CLIENTS)
        ]
        return Outcome(rate, [answer for one in asked for answer in one.result()])
