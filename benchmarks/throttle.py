"""Does a token's rate hold over workers? `python benchmarks/throttle.py [SECONDS]`.

Eight client processes ask four server workers with one token at 0.8, 0.9, 1 and 10 times its rate. The worst
span of any length passes at most 1.05 × (burst + rate × its seconds); at 0.8 nothing is refused.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.support.installation import started  # noqa: E402
from tests.support.load.credit_race import Race  # noqa: E402  The path is set first.
from tests.support.load.throttle_race import race  # noqa: E402
from tokens.gate.throttling import Rate  # noqa: E402

RATES = (Rate(20, 20), Rate(50, 10), Rate(100, 100))


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 5
    with started(Race) as installation:
        for rate in RATES:
            for times in (0.8, 0.9, 1, 10):
                found = race(installation, rate, times_rate=times, seconds=seconds)
                passed, asked = len(found.passed), len(found.answers)
                print(
                    f"{rate.per_second}/s, burst {rate.burst}, asked {times} times that: "
                    f"{passed:,} of {asked:,} passed, worst span {found.worst:.2f}",
                    flush=True,
                )
                assert found.worst <= 1.05
                assert times > 0.8 or passed == asked


if __name__ == "__main__":
    main()
