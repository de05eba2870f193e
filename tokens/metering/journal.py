"""What a worker would lose with its memory: counts that are not written yet, and credits it holds.

    journal.open(folder)                   a file of this worker's own, mapped into its memory
    journal.count(slot, totals)            the counts of one slot since the last flush
    journal.seal(batch), confirm()         the counts are on their way under this id; they have arrived
    journal.hold(token_id, month, held)    the credits held of one token's month
    left_behind(folder) -> list[Left]      what workers left that were killed; each is kept until done()

A process that is killed leaves what it wrote to mapped memory to the kernel, so writing costs no system call.
What a machine leaves that lost its power is older than what the database has: it is dropped, because counts
may be lost but never doubled. Source: docs/decisions/0027-journal.md.
"""

import fcntl
import mmap
import os
import struct
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import NamedTuple

MAGIC = b"apperate usage 1"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # another one after each start of the machine
SLOTS_MAX = 16_384  # counted since the last flush; what is more is only in memory
HOLDS_MAX = 16_384
FOLDER_NAME = "counting"

# Magic, the machine's boot id, the batch of the credits held; of each half its number of slots and its batch.
HEAD = struct.Struct("<16s36s16sI16sI16s")
HEAD_BYTES = 4096
SLOT = struct.Struct("<qqq10s30sqqqqq")
HOLD = struct.Struct("<qqq")
HALF_BYTES = SLOT.size * SLOTS_MAX
FILE_BYTES = HEAD_BYTES + 2 * HALF_BYTES + HOLD.size * HOLDS_MAX
NO_BATCH = bytes(16)


class Slot(NamedTuple):
    """Calls with the same slot are counted together."""

    token_id: int
    dataset_id: int
    operation: str
    outcome: str
    minute: datetime


class Totals(NamedTuple):
    """What was counted in one slot. `uncharged`: CORE credits that still have to join the month's window."""

    calls: int
    records: int
    credits: int
    core_credits: int
    uncharged: int


@dataclass(slots=True)
class Half:
    batch: bytes = NO_BATCH
    places: dict[Slot, int] = field(default_factory=dict)


class Journal:
    """The file of one worker. Where none could be opened, everything does nothing."""

    def __init__(self) -> None:
        self._memory: mmap.mmap | None = None
        self._path: Path | None = None
        self._descriptor, self._boot = -1, b""
        self._active, self._halves = 0, [Half(), Half()]
        self._forget()

    @property
    def is_open(self) -> bool:
        return self._memory is not None

    def open(self, folder: Path) -> None:
        """Begin a new file. Raises OSError when it cannot be made, room for all of it included."""
        self._close()
        boot = BOOT_ID.read_bytes().strip()
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{uuid.uuid4().hex}.journal"
        # Under this name nobody takes it for one of a dead worker before it is locked.
        made = path.with_suffix(".new")
        descriptor = os.open(made, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.posix_fallocate(descriptor, 0, FILE_BYTES)  # A page without room would kill the worker.
            memory = mmap.mmap(descriptor, FILE_BYTES)
            made.rename(path)
        except BaseException:
            os.close(descriptor)
            made.unlink(missing_ok=True)
            raise
        self._descriptor, self._memory, self._path, self._boot = descriptor, memory, path, boot
        self._write_head()

    def count(self, slot: Slot, totals: Totals) -> None:
        if self._memory is None:
            return
        half = self._halves[self._active]
        place = half.places.get(slot)
        is_new = place is None
        if place is None:
            place = len(half.places)
            if place == SLOTS_MAX:
                return
            half.places[slot] = place
        SLOT.pack_into(
            self._memory, HEAD_BYTES + self._active * HALF_BYTES + place * SLOT.size,
            slot.token_id, slot.dataset_id, int(slot.minute.timestamp()), slot.operation.encode(),
            slot.outcome.encode(), *totals,
        )  # fmt: skip
        if is_new:
            self._write_head()

    def seal(self, batch: uuid.UUID) -> None:
        """What was counted so far is sent under this id; what comes now is counted apart."""
        self._halves[self._active].batch = batch.bytes
        self._write_head()
        self._active = 1 - self._active

    def confirm(self) -> None:
        """The sealed half is in the database."""
        self._halves[1 - self._active] = Half()
        self._write_head()

    def hold(self, token_id: int, month: date, held: int) -> None:
        """What is held now; before credits are spent or given back, never after."""
        if self._memory is None:
            return
        key = token_id, month
        place = self._holds.get(key)
        if place is None:
            if not held:
                return
            place = self._free.pop() if self._free else len(self._holds)
            if place >= HOLDS_MAX:
                return
            self._holds[key] = place
        start = HEAD_BYTES + 2 * HALF_BYTES + place * HOLD.size
        HOLD.pack_into(self._memory, start, token_id, month.toordinal(), held)
        if not held:
            del self._holds[key]
            self._free.append(place)

    def end(self) -> None:
        """Remove the file. One with counts that could not be written stays, for a worker that can."""
        if self._path is not None and not any(half.places for half in self._halves):
            self._path.unlink(missing_ok=True)
        self._close()

    def _write_head(self) -> None:
        if self._memory is None:
            return
        first, second = self._halves
        HEAD.pack_into(
            self._memory, 0, MAGIC, self._boot, NO_BATCH,
            len(first.places), first.batch, len(second.places), second.batch,
        )  # fmt: skip

    def _close(self) -> None:
        if self._memory is not None:
            self._memory.close()
            os.close(self._descriptor)
        self._memory = self._path = None
        self._forget()

    def _forget(self) -> None:
        self._active, self._halves = 0, [Half(), Half()]
        self._holds: dict[tuple[int, date], int] = {}
        self._free: list[int] = []


@dataclass(slots=True)
class Left:
    """What one killed worker left: batches of counts, and credits that nobody will spend any more."""

    counts: list[tuple[uuid.UUID, dict[Slot, Totals]]]
    held: dict[tuple[int, date], int]
    held_batch: uuid.UUID
    _path: Path
    _descriptor: int

    def done(self) -> None:
        """All of it is in the database."""
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)

    def leave(self) -> None:
        """Somebody else may try, with the same ids."""
        os.close(self._descriptor)


def left_behind(folder: Path) -> list[Left]:
    """What killed workers left, locked for the caller. Files from before the machine's start are removed."""
    found: list[Left] = []
    for path in sorted(folder.glob("*.journal")):
        with suppress(FileNotFoundError):
            if (left := _opened(path)) is not None:
                found.append(left)
    return found


def _opened(path: Path) -> Left | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with mmap.mmap(descriptor, FILE_BYTES) as memory:
            magic, boot, held_batch, *halves = HEAD.unpack_from(memory, 0)
            if magic != MAGIC or boot != BOOT_ID.read_bytes().strip():
                path.unlink(missing_ok=True)
                os.close(descriptor)
                return None
            # Whoever comes after a second death uses the same ids, so that nothing is added twice.
            held_batch = held_batch if held_batch != NO_BATCH else uuid.uuid4().bytes
            batches = [batch if batch != NO_BATCH else uuid.uuid4().bytes for batch in halves[1::2]]
            HEAD.pack_into(memory, 0, MAGIC, boot, held_batch, halves[0], batches[0], halves[2], batches[1])
            counts = [
                (uuid.UUID(bytes=batch), _slots(memory, half, number))
                for half, (number, batch) in enumerate(zip(halves[::2], batches, strict=True))
                if number
            ]
            return Left(counts, _holds(memory), uuid.UUID(bytes=held_batch), path, descriptor)
    except BlockingIOError:  # Its worker lives.
        os.close(descriptor)
        return None
    except ValueError:  # It is shorter than a journal.
        path.unlink(missing_ok=True)
        os.close(descriptor)
        return None


def _slots(memory: mmap.mmap, half: int, number: int) -> dict[Slot, Totals]:
    found = {}
    for place in range(number):
        start = HEAD_BYTES + half * HALF_BYTES + place * SLOT.size
        token_id, dataset_id, minute, operation, outcome, *totals = SLOT.unpack_from(memory, start)
        what, end = (text.rstrip(b"\0").decode() for text in (operation, outcome))
        found[Slot(token_id, dataset_id, what, end, datetime.fromtimestamp(minute, UTC))] = Totals(*totals)
    return found


def _holds(memory: mmap.mmap) -> dict[tuple[int, date], int]:
    found = {}
    for start in range(HEAD_BYTES + 2 * HALF_BYTES, FILE_BYTES, HOLD.size):
        token_id, month, held = HOLD.unpack_from(memory, start)
        if held > 0:
            found[token_id, date.fromordinal(month)] = held
    return found


journal = Journal()
