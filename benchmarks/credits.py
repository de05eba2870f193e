"""Is a credit limit exact? `python benchmarks/credits.py [RUNS]`.

Eight client processes ask four server workers with one token (limit 1,000, price 1) until 402 has been the
only answer for three seconds. RUNS times undisturbed: exactly 1,000 records are served. RUNS times with a
random worker killed every second: never more than 1,000, and what is charged but was not served is at most
what the killed workers held.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.support.installation import started  # noqa: E402
from tests.support.load.credit_race import LIMIT, Race, race  # noqa: E402  The path is set first.


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 6
    with started(Race) as installation:
        for number in range(runs):
            found = race(installation)
            print(f"{number + 1}. served {found.served:,}, charged {found.charged:,}", flush=True)
            assert found.served == found.charged == LIMIT
        for number in range(runs):
            found = race(installation, kill_every_seconds=1)
            lost = found.charged - found.served
            print(
                f"{number + 1}. with {found.kills} kills: served {found.served:,}, "
                f"charged {found.charged:,}, lost {lost} of at most {found.cut_max}, "
                f"counted {found.counted:,}",
                flush=True,
            )
            assert found.served <= found.charged <= LIMIT and lost <= found.cut_max + LIMIT // 64


if __name__ == "__main__":
    main()
