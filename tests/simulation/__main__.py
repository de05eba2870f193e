"""The simulation from a shell: runs seed after seed, and prints the one that fails and how to replay it."""

import argparse
import os
import sys
import time

import django


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds, counted from the first")
    parser.add_argument("--steps", type=int, default=1_000_000, help="steps of each run")
    parser.add_argument(
        "--replay", type=int, metavar="SEED", help="run this seed and print what happened last"
    )
    parser.add_argument("--lines", type=int, default=80, help="how many lines of a replay are printed")
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    django.setup()
    from tests.simulation.world import Run, Violation

    seeds = (
        [options.replay] if options.replay is not None else range(options.seed, options.seed + options.seeds)
    )
    for seed in seeds:
        begun = time.monotonic()

        def progress(run: Run, seed: int = seed, begun: float = begun) -> None:
            print(f"seed={seed} steps={run.steps} seconds={time.monotonic() - begun:.0f} so far", flush=True)

        run = Run(seed, options.steps, traced=options.lines, progress=progress)
        try:
            run.go()
            found = None
        except Violation as violation:
            found = violation
        seconds = time.monotonic() - begun
        if found is not None or options.replay is not None:
            for at, text in run.trace:
                print(f"{at:12.6f}  {text}")
        print(
            f"seed={seed} steps={run.steps} simulated_seconds={run.now:.0f} seconds={seconds:.1f} "
            f"steps_per_second={run.steps / seconds:.0f} trace={run.digest:016x} {dict(run.judge.seen)}",
            flush=True,
        )
        if found is not None:
            print(f"VIOLATION with seed {seed} at step {run.steps}: {found}")
            print(f"Again: python -m tests.simulation --replay {seed} --steps {options.steps}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
