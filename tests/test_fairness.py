"""Beside hostile clients others are served, and all is counted. How fast, benchmarks/fairness.py measures."""

import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.hostile import CLIENTS, Fair, attacked, probe, slow
from tests.installation import started

pytestmark = [pytest.mark.server, pytest.mark.django_db]
SECONDS = 4.0


@pytest.fixture(scope="module")
def installation() -> Iterator[Fair]:
    with started(Fair) as found:
        yield found


@pytest.mark.parametrize("tokens", [1, CLIENTS], ids=["of one token", "of a workspace's tokens"])
def test_beside_slow_questions_others_are_served_and_all_is_counted(installation: Fair, tokens: int) -> None:
    hostile, limited = installation.made["hostile"][-tokens:], installation.made["limited"]
    target = f"/v1/data/CORE/PRICED/k0000?last=1&token={limited}"
    before = installation.counted(*hostile, limited)

    requests = [slow(hostile[number % tokens]) for number in range(CLIENTS)]
    with attacked(installation.port, requests, SECONDS + 1) as attack:
        time.sleep(1)
        seen = probe(installation.port, target, SECONDS)

    assert set(seen.answers) == {"200"}
    assert attack.answers["429 rate-limited"] > CLIENTS / 2
    assert not set(attack.answers) - {"200", "400 query-too-slow", "429 rate-limited"}
    expected = Counter(
        {name.partition(" ")[2] or "ok": n for name, n in (attack.answers + seen.answers).items()}
    )
    until_counted(installation, [*hostile, limited], before, expected, credits=seen.answers["200"])


def until_counted(
    installation: Fair, values: list[str], before: dict[str, Any], expected: Counter[str], *, credits: int
) -> None:
    """Counts are written once a second, and credits that were held go back."""
    deadline = time.monotonic() + 15
    while True:
        now = installation.counted(*values)
        calls = Counter(now["calls"]) - Counter(before["calls"])
        refused = Counter(now["refusals"]) - Counter(before["refusals"])
        spent = now["credits"] - before["credits"]
        told = Counter({code: count for code, count in expected.items() if code != "ok"})
        if (calls, refused, spent) == (expected, told, credits):
            return
        assert time.monotonic() < deadline, f"{calls} {refused} {spent}, expected {expected} and {credits}"
