"""What a worker that is killed had counted and held is brought in by another one, once."""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.data_plane_client import DataPlaneClient
from tests.support.factories import TokenFactory
from tests.support.installation import ROOT
from tokens.gate.recovery import folder, recover
from tokens.metering import journal as journals
from tokens.metering import meter as meters
from tokens.metering.journal import Journal, Slot, Totals, left_behind
from tokens.models import CreditWindow, UsageCounter

MONTH = date(2026, 11, 1)
MINUTE = datetime(2026, 11, 30, 12, 34, tzinfo=UTC)
BATCH = uuid.UUID(int=7)
# A worker that counts, sends, counts on, holds credits, and says when it is there.
VICTIM = """
import sys, uuid
from datetime import UTC, date, datetime
from pathlib import Path
from tokens.metering.journal import Journal, Slot, Totals
minute, month = datetime(2026, 11, 30, 12, 34, tzinfo=UTC), date(2026, 11, 1)
journal = Journal()
journal.open(Path(sys.argv[1]))
token = int(sys.argv[2])
slot = Slot(token, 8, "read", "ok", minute)
journal.count(slot, Totals(1, 10, 10, 10, 0))
journal.count(slot, Totals(2, 20, 20, 20, 0))
journal.count(Slot(token, 0, "read", "domain-not-allowed", minute), Totals(1, 0, 0, 0, 0))
journal.seal(uuid.UUID(int=7))
journal.count(slot, Totals(1, 5, 5, 5, 5))
journal.hold(token, month, 40)
journal.hold(token, month, 38)
journal.hold(token + 1, month, 9)
journal.hold(token + 1, month, 0)
print("there", flush=True)
sys.stdin.read()
"""


def killed_worker(place: Path, token_id: int = 1) -> None:
    command = [sys.executable, "-c", VICTIM, str(place), str(token_id)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "there\n"
    if place != folder():
        assert left_behind(place) == []  # As long as it lives, what it counts is its own affair.
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal()
    journal.open(tmp_path)
    yield journal
    journal.end()


def test_what_a_killed_worker_counted_and_held_is_found(tmp_path: Path) -> None:
    killed_worker(tmp_path)

    (left,) = left_behind(tmp_path)

    ok, refused = (Slot(1, d, "read", o, MINUTE) for d, o in ((8, "ok"), (0, "domain-not-allowed")))
    (sent, first), (_, second) = left.counts
    assert (sent, first) == (BATCH, {ok: Totals(2, 20, 20, 20, 0), refused: Totals(1, 0, 0, 0, 0)})
    assert second == {ok: Totals(1, 5, 5, 5, 5)}
    assert left.held == {(1, MONTH): 38}
    left.done()
    assert list(tmp_path.iterdir()) == []


def test_whoever_tries_again_uses_the_same_ids(tmp_path: Path) -> None:
    killed_worker(tmp_path)
    (first,) = left_behind(tmp_path)
    assert left_behind(tmp_path) == []  # One at a time.
    first.leave()

    (second,) = left_behind(tmp_path)

    assert [batch for batch, _ in second.counts] == [batch for batch, _ in first.counts]
    assert second.held_batch == first.held_batch
    second.done()


def test_what_a_machine_left_that_lost_its_power_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk may be behind the database, so that a batch would be counted twice."""
    killed_worker(tmp_path)
    other = tmp_path / "boot_id"
    other.write_text(str(uuid.uuid4()))
    monkeypatch.setattr(journals, "BOOT_ID", other)

    assert left_behind(tmp_path) == []
    assert list(tmp_path.iterdir()) == [other]


@pytest.mark.parametrize("content", [b"", b"short", b"x" * journals.FILE_BYTES])
def test_a_file_that_is_no_journal_is_removed(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "odd.journal").write_bytes(content)

    assert left_behind(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_what_was_confirmed_is_not_left(journal: Journal, tmp_path: Path) -> None:
    journal.count(Slot(1, 8, "read", "ok", MINUTE), Totals(1, 1, 0, 0, 0))
    journal.seal(BATCH)
    journal.confirm()

    journal.end()

    assert list(tmp_path.iterdir()) == []


def test_counts_that_could_not_be_written_stay_for_a_worker_that_can(
    journal: Journal, tmp_path: Path
) -> None:
    journal.count(Slot(1, 8, "read", "ok", MINUTE), Totals(1, 1, 0, 0, 0))

    journal.end()

    (left,) = left_behind(tmp_path)
    assert [counted for _, counted in left.counts] == [
        {Slot(1, 8, "read", "ok", MINUTE): Totals(1, 1, 0, 0, 0)}
    ]
    left.done()


def test_what_does_not_fit_is_counted_in_memory_alone(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "SLOTS_MAX", 2)
    monkeypatch.setattr(journals, "HOLDS_MAX", 2)
    for number in range(5):
        journal.count(Slot(number, 8, "read", "ok", MINUTE), Totals(1, 1, 0, 0, 0))
        journal.hold(number, MONTH, 3)

    journal.end()

    (left,) = left_behind(tmp_path)
    assert [slot.token_id for slot in left.counts[0][1]] == [0, 1]
    assert left.held == {(0, MONTH): 3, (1, MONTH): 3}
    left.done()


def test_without_room_for_all_of_it_no_journal_is_begun(tmp_path: Path, monkeypatch: Any) -> None:
    """A page that finds no room on the disk ends the process that writes to it."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    journal = Journal()

    with pytest.raises(OSError, match="No space"):
        journal.open(tmp_path)

    journal.count(Slot(1, 8, "read", "ok", MINUTE), Totals(1, 1, 0, 0, 0))
    journal.hold(1, MONTH, 3)
    assert not journal.is_open
    assert list(tmp_path.iterdir()) == []


@pytest.mark.django_db(transaction=True)
def test_it_is_brought_in_once(api: DataPlaneClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when whoever brings it in is killed between two statements, or had been after the last."""
    for left in left_behind(folder()):  # of tests that were ended
        left.done()
    token = TokenFactory()
    CreditWindow.objects.create(token=token, month=MONTH, used=100)
    killed_worker(folder(), token.pk)
    give_back, done = "tokens.gate.recovery.leases.give_back", "tokens.metering.journal.Left.done"
    for place in (give_back, done):
        with monkeypatch.context() as cut, pytest.raises(ConnectionError):
            cut.setattr(place, cut_off)
            api.run(recover())

    assert api.run(recover()) in (0, 1)  # The worker's own look may have been first.

    counters = UsageCounter.objects.filter(token_id=token.pk)
    assert {(c.outcome, c.calls, c.credits) for c in counters} == {
        ("ok", 3, 25),
        ("domain-not-allowed", 1, 0),
    }
    # 100 were charged; 38 of them nobody spent, and 5 more had been used without a limit.
    assert CreditWindow.objects.get(token=token).used == 100 - 38 + 5
    assert not any(b"domain-not-allowed" in path.read_bytes() for path in folder().glob("*.journal"))


def cut_off(*_: object) -> None:
    raise ConnectionError("the worker ends here")


@pytest.mark.django_db(transaction=True)
def test_a_worker_writes_its_counts_where_a_kill_does_not_reach_them(api: DataPlaneClient) -> None:
    token = TokenFactory()
    meters.meter.meter(token.pk, operation="read", outcome="ok", now=MINUTE, records=3, credits=3)

    (path,) = [path for path in folder().glob("*.journal") if b"read" in path.read_bytes()]
    api.run(meters.meter.flush())

    assert UsageCounter.objects.get(token_id=token.pk).records == 3
    assert path.exists()
