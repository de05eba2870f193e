"""Does anybody notice a migration? `python -m benchmarks.upgrade [RECORDS]`, E-M1.

The last release and this version serve one database with a million records, and clients read, write, upload,
rename tokens and open pages through both. Meanwhile what is newer than the release is migrated forwards,
backwards and forwards. No request may fail, and nobody may wait for a lock for more than two seconds.
"""

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg

from apperate.database.embedded import access
from apperate.database.schema.released import LAST
from tests.support.installation import ROOT, Installation, started
from tests.support.upgrade.both_versions import DATASET, Load
from tests.support.upgrade.version_before import Before, Beside, database_url

FILL = """
INSERT INTO records (dataset_id, key, date, data)
SELECT (SELECT id FROM datasets_dataset WHERE name = %s), 'b' || n %% 1000,
       timestamptz '2000-01-01' + n / 1000 * interval '1 hour', json_build_object('key', 'b' || n %% 1000)
  FROM generate_series(1, %s) n
"""
# How long each session that waits has waited so far.
WAITS = """
SELECT coalesce(max(extract(epoch FROM clock_timestamp() - waitstart)), 0)::float
  FROM pg_locks WHERE NOT granted
"""
OURS = ("accounts", "datasets", "tokens")


class Watch(threading.Thread):
    """Asks again and again who waits for a lock."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.url, self.longest, self.stopped = url, 0.0, threading.Event()

    def run(self) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            while not self.stopped.wait(0.01):
                self.longest = max(self.longest, connection.execute(WAITS).fetchone()[0])


def migrate(first: Installation, *arguments: str) -> int:
    """Run it, and say how often it was tried again."""
    done = subprocess.run(
        [sys.executable, "manage.py", "migrate", *arguments],
        cwd=ROOT, env=first.environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stderr.count("waits for others")


@contextmanager
def prepared(folder: Path) -> Iterator[Before]:
    """The last release, with a demo."""
    if Installation.copies is None:
        Installation.copies = folder
        folder.chmod(0o755)  # The account of the database enters it.
    with started(Before) as first:
        yield first


def main() -> None:
    records = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory(prefix="apperate-") as folder, prepared(Path(folder)) as first:
        url = database_url(first.home, access.APP)
        with Load(first.port, first.facts["secret_token"]) as load:
            with closing(psycopg.connect(url, autocommit=True)) as connection:
                connection.execute(FILL, (DATASET, records))
            watch = Watch(url)
            watch.start()
            steps = {"forwards": [[]], "backwards": [[app, LAST[app]] for app in OURS], "again": [[]]}
            beside = Beside(Path(folder) / "after", first)
            try:
                for name, commands in steps.items():
                    began, before = time.monotonic(), sum(load.asked.values())
                    tries = sum(migrate(first, *command) for command in commands)
                    print(
                        f"{name}: {time.monotonic() - began:.1f} s, tried again {tries} times, "
                        f"{sum(load.asked.values()) - before} requests meanwhile",
                        flush=True,
                    )
                    if name == "forwards":
                        beside.start()
                        load.join(beside.port)
            finally:
                load.__exit__()
                beside.end()
            watch.stopped.set()
            watch.join()
        print(f"{records:,} records; asked {dict(load.asked)}, failed {len(load.failed)} {load.failed[:3]}")
        print(f"longest wait for a lock {watch.longest:.2f} s, slowest request {load.slowest_seconds:.2f} s")
        assert not load.failed and watch.longest <= 2


if __name__ == "__main__":
    main()
