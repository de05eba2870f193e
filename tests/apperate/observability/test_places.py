"""Where processes keep their figures: a number each, whatever becomes of the one that had it before."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

from apperate.observability import places
from tests.support.installation import ROOT

# Counts a request for each word, and says whether anything is counted at all.
COUNTING = """
import sys
from apperate.observability import metrics
for method in sys.argv[1:]:
    metrics.request(plane="api", method=method, status=200, seconds=0.002)
print(metrics.is_on, flush=True)
if "WAIT" in sys.argv:
    sys.stdin.read()
"""


def counting(folder: Path, *methods: str, **more: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", COUNTING, *methods]
    environment = {**os.environ, places.FOLDER_VARIABLE: str(folder)}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, **more,
    )  # fmt: skip


def total(folder: Path, **labels: str) -> float:
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(folder))
    return sum(
        sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name == "apperate_requests_total" and labels.items() <= sample.labels.items()
    )


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.db")}


def test_processes_count_together_and_a_new_one_goes_on_where_a_killed_one_stopped(tmp_path: Path) -> None:
    folder = tmp_path / "metrics"
    with counting(folder, "GET", "GET", "WAIT") as first, counting(folder, "POST", "WAIT") as second:
        assert (first.stdout.readline(), second.stdout.readline()) == ("True\n", "True\n")  # type: ignore[union-attr]
        assert total(folder, method="GET") == 2 and total(folder, method="POST") == 1
        assert total(folder, method="other") == 2  # WAIT is no method of HTTP
        taken = files(folder)
        first.kill()
        second.kill()

    third = counting(folder, "GET")
    assert third.communicate(timeout=60)[0] == "True\n"

    assert total(folder, method="GET") == 3
    assert files(folder) == taken and {"counter_0.db", "counter_1.db"} <= taken
    assert folder.stat().st_mode & 0o077 == 0


def test_the_present_state_of_one_that_is_gone_is_forgotten_and_its_counts_are_not(tmp_path: Path) -> None:
    held = places.take(tmp_path)
    gone = held + 1
    (tmp_path / f"{gone}.lock").touch()
    for number in (held, gone):
        for kind in places.KINDS:
            (tmp_path / f"{kind}_{number}.db").touch()

    places.clear_gone(tmp_path)

    assert files(tmp_path) == {
        *(f"{kind}_{held}.db" for kind in places.KINDS), f"counter_{gone}.db", f"histogram_{gone}.db",
    }  # fmt: skip
    assert places.take(tmp_path) == gone


def test_a_file_that_lost_power_broke_is_begun_again(tmp_path: Path) -> None:
    (tmp_path / "counter_0.db").write_bytes(b"\xff\x0f\0\0" + bytes(4) + b"\xff\xff\0\0" * 20)

    process = counting(tmp_path, "GET")

    said, told = process.communicate(timeout=60)
    assert said == "True\n", told
    assert total(tmp_path) == 1


def test_without_room_for_the_files_a_process_counts_nothing_and_goes_on(tmp_path: Path) -> None:
    def no_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, 4_096))

    process = counting(tmp_path, "GET", preexec_fn=no_room)

    said, told = process.communicate(timeout=60)
    assert said == "False\n" and process.returncode == 0
    assert "no figures are kept by this process" in told


def test_more_processes_than_there_may_be_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "PLACES_MAX", 1)
    places.take(tmp_path)

    with pytest.raises(OSError, match="1 processes keep figures"):
        places.take(tmp_path)
