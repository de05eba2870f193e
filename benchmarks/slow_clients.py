"""Do slow clients keep others waiting? `python -m benchmarks.slow_clients [SECONDS]`.

Holds 200 connections of each kind that never finish what they began, and asks ten times a second for a record
meanwhile: a probe has its answer within 500 ms in 99 of 100 cases. Beside it stands the same without them.
"""

import statistics
import sys
import time

from tests.support.installation import Demo, started
from tests.support.load.slow_clients import CONNECTIONS, KINDS, held, probe

WANTED_MILLISECONDS = 500


def probes(demo: Demo, seconds: float) -> list[float]:
    """Ask ten times a second; milliseconds until each answer is there."""
    found, start = [], time.monotonic()
    while (began := time.monotonic()) < start + seconds:
        assert probe(demo) == 200
        found.append(1_000 * (time.monotonic() - began))
        time.sleep(max(0.0, 0.1 - (time.monotonic() - began)))
    return found


def report(name: str, found: list[float]) -> None:
    p99 = statistics.quantiles(found, n=100)[98]
    print(
        f"{name}: {len(found)} probes, median {statistics.median(found):.1f} ms, p99 {p99:.1f} ms", flush=True
    )
    assert p99 < WANTED_MILLISECONDS


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 20
    with started(Demo) as demo:
        probes(demo, 2)
        report("nobody else", probes(demo, seconds))
        for kind in KINDS:
            with held(demo, kind) as slow:
                found = probes(demo, seconds)
                report(f"{len(slow.alive())} of {CONNECTIONS} that {kind}", found)


if __name__ == "__main__":
    main()
