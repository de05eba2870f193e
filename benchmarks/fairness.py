"""Do others notice a hostile token? `python -m benchmarks.fairness [SECONDS]`.

An installation with two workers and a dataset of 300,000 records is asked 25 times a second for one record
by a token of another workspace and by one with a credit limit: quietly, and then beside 64 clients that ask
for something dear as often as they are answered. Nobody else may be refused, and all that is answered is
counted. The hostile clients are told what is wrong, and a token that is disabled meanwhile is refused within
a second.
"""

import sys
import threading
import time
from collections import Counter
from typing import Any

from tests.support.installation import started
from tests.support.load.hostile import (
    CLIENTS,
    Fair,
    Seen,
    attacked,
    batch,
    long,
    passed_after_disabling,
    probe,
    slow,
    write,
)

WANTED_MILLISECONDS = 100
TIMES_QUIET = 5
PER_SECOND = 25
REVOKED_SECONDS = 1.0
TOLD = {"200", "400 query-too-slow", "429 rate-limited"}


def beside(installation: Fair, seconds: float) -> tuple[Seen, Seen]:
    """What the two ordinary tokens see."""
    found: dict[str, Seen] = {}
    targets = {
        "quiet": f"/v1/data/QUIET/SMALL/k0000?last=1&token={installation.made['quiet']}",
        "limited": f"/v1/data/CORE/PRICED/k0000?last=1&token={installation.made['limited']}",
    }

    def ask(name: str) -> None:
        found[name] = probe(installation.port, targets[name], seconds, per_second=PER_SECOND)

    threads = [threading.Thread(target=ask, args=[name]) for name in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found["quiet"], found["limited"]


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 20
    with started(Fair) as installation:
        hostile = installation.made["hostile"]
        values = [*hostile, installation.made["quiet"], installation.made["limited"]]
        beside(installation, 2)
        quiet = beside(installation, seconds)
        wanted = max(WANTED_MILLISECONDS, TIMES_QUIET * max(seen.p99 for seen in quiet))
        say("nobody else", quiet)
        faults: list[str] = []
        for name, requests in {
            f"{CLIENTS} clients of one token, a slow question": [slow(hostile[0])] * CLIENTS,
            f"{CLIENTS} tokens of one workspace, a slow question": [slow(token) for token in hostile],
            f"{CLIENTS} clients of one token, a batch of 2,000": [batch(hostile[0])] * CLIENTS,
            f"{CLIENTS} clients of one token, long answers": [long(hostile[0])] * CLIENTS,
            f"{CLIENTS} clients of one token, long writes": [write(hostile[0])] * CLIENTS,
        }.items():
            time.sleep(2)
            before = installation.counted(*values)
            with attacked(installation.port, requests, seconds + 10) as attack:
                time.sleep(2)
                seen = beside(installation, seconds)
                revoked = passed_after_disabling(installation, installation.made["revoked"].pop())
            say(name, seen)
            print(f"    told: {dict(attack.answers)}; disabled and answered for {revoked:.2f} s")
            time.sleep(3)
            check_counts(installation.counted(*values), before, attack.answers, seen)
            claims = {
                "an ordinary client was refused": set(seen[0].answers + seen[1].answers) == {"200"},
                f"p99 is over {wanted:.0f} ms": max(one.p99 for one in seen) < wanted,
                f"a disabled token passed for {revoked:.2f} s": revoked < REVOKED_SECONDS,
                "a hostile client was not told why": not set(attack.answers) - TOLD,
            }
            faults += [f"{name}: {fault}" for fault, holds in claims.items() if not holds]
    assert not faults, "; ".join(faults)


def say(name: str, seen: tuple[Seen, Seen]) -> None:
    figures = [f"median {one.median:.1f} ms, p99 {one.p99:.1f} ms, {dict(one.answers)}" for one in seen]
    print(f"{name}:\n    free   {figures[0]}\n    priced {figures[1]}", flush=True)


def check_counts(
    after: dict[str, Any],
    before: dict[str, Any],
    told: Counter[str],
    seen: tuple[Seen, Seen],
) -> None:
    """What was counted is what was answered."""
    answered = told + seen[0].answers + seen[1].answers
    calls = Counter(after["calls"]) - Counter(before["calls"])
    refusals = Counter(after["refusals"]) - Counter(before["refusals"])
    expected = Counter({name.partition(" ")[2] or "ok": count for name, count in answered.items()})
    spent = after["credits"] - before["credits"]
    print(f"    counted: {dict(calls)}, refusals {dict(refusals)}, credits {spent}", flush=True)
    assert calls == expected, f"answered {expected}"
    expected.pop("ok", None)
    assert refusals == expected
    assert spent == seen[1].answers["200"]


if __name__ == "__main__":
    main()
