"""Leaves of an npm lock file what an installation is checked by: versions, hashes, and who needs whom.

npm writes addresses beside them. Run by `make lock`: `python trim_npm_lock.py FILE`.
"""

import json
import sys
from pathlib import Path

KEPT = ("version", "integrity", "dependencies", "optionalDependencies")
# A program that is built for each kind of machine is a package for each: npm takes the one that fits.
KEPT_OF_A_BUILD = ("optional", "os", "cpu", "libc")


def trim(path: Path) -> None:
    lock = json.loads(path.read_text())
    for name, package in lock["packages"].items():
        if name:
            lock["packages"][name] = {
                fact: package[fact] for fact in KEPT + KEPT_OF_A_BUILD if fact in package
            }
    path.write_text(json.dumps(lock, indent=2) + "\n")


if __name__ == "__main__":
    trim(Path(sys.argv[1]))
