"""What the figures for Prometheus cost a request: CPU microseconds, alone, in the files that workers share.

.venv/bin/python -m benchmarks.figures
"""

import os
import tempfile
import time

ROUNDS = 200_000
REPEATS = 5


def microseconds(work: object, rounds: int = ROUNDS) -> float:
    """CPU time of one call: the best of REPEATS, because whatever else runs only adds."""
    assert callable(work)
    best = float("inf")
    for _ in range(REPEATS):
        begun = time.process_time()
        for _ in range(rounds):
            work()
        best = min(best, time.process_time() - begun)
    return best / rounds * 1e6


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["APPERATE_METRICS_DIR"] = folder
        from apperate.observability import metrics

        assert metrics.is_on

        def read() -> None:
            metrics.request(plane="api", method="GET", status=200, seconds=0.0031)

        def refused() -> None:
            metrics.request(plane="api", method="GET", status=403, seconds=0.0011, code="token-invalid")

        print(f"a read that is served:  {microseconds(read):5.2f} µs")
        print(f"a read that is refused: {microseconds(refused):5.2f} µs")
        served = metrics.REQUESTS.labels("api", "GET", "2xx")._value.get()
        assert served == ROUNDS * REPEATS, served
        metrics.is_on = False
        print(f"where nobody asks:      {microseconds(read):5.2f} µs")


if __name__ == "__main__":
    main()
