"""The reserve of free disk: below it nothing more is stored, while reading and the rest go on.

    shortage(wants_bytes=0) -> Refusal | None     whether this machine has room for that many more bytes
    Room().take(bytes) -> Refusal | None          the same for long writes: checked once per STEP_BYTES

The reserve is for what must go on when nothing more is stored: sorting, usage, the audit log, sessions. The
disks checked are that of the data directory (the embedded database, the files of jobs), that of its
write-ahead log where it has its own, and that of temporary files. The disk of an external database cannot
be seen from here: its own error says when it is full.
"""

import logging
import os
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from apperate.kernel.refusals import Refusal, storage_full

# Unless the operator says otherwise, at most this share of a disk is reserved, so that a small one is usable.
RESERVE_SHARE = 0.05
MEGABYTE = 1_000_000
ASKED_AGAIN_SECONDS = 0.5
LOGGED_AGAIN_SECONDS = 60.0
STEP_BYTES = 8_000_000
logger = logging.getLogger("apperate.database.disk")


@dataclass(frozen=True, slots=True)
class Disk:
    """What is free on a folder's disk, and how much of that is reserved."""

    folder: Path
    free_bytes: int
    reserve_bytes: int

    def has_room(self, wants_bytes: int = 0) -> bool:
        return not self.reserve_bytes or self.free_bytes - wants_bytes >= self.reserve_bytes


_seen: tuple[float, list[Disk]] | None = None
_logged_at = -LOGGED_AGAIN_SECONDS


def shortage(*, wants_bytes: int = 0) -> Refusal | None:
    """Why nothing more may be written, if so. No query, and the system is asked at most twice a second."""
    if settings.DISK_RESERVE_MB == 0:
        return None
    full = next((disk for disk in disks() if not disk.has_room(wants_bytes)), None)
    if full is None:
        return None
    _log(full, wants_bytes)
    return storage_full(
        "Nothing was stored, because the server's disk is nearly full; what is left is kept for reading."
    )


def folders() -> list[Path]:
    """What is written to: the data directory, parts of the database on other disks, temporary files."""
    data = Path(settings.DATA_DIR)
    elsewhere = [data / "db" / "pg" / name for name in ("pg_wal", "base")]
    with suppress(OSError):  # Not there, or not ours to look into.
        device = data.stat().st_dev
        elsewhere = [place for place in elsewhere if place.stat().st_dev != device]
        return [data, *elsewhere, Path(tempfile.gettempdir())]
    return [data, Path(tempfile.gettempdir())]


def disks() -> list[Disk]:
    """The disk of each folder, as of the last half second."""
    global _seen
    now = time.monotonic()
    if _seen is None or now - _seen[0] >= ASKED_AGAIN_SECONDS:
        _seen = now, [look(folder) for folder in folders()]
    return _seen[1]


def look(folder: Path) -> Disk:
    """A folder's disk as it is now; for a folder that does not exist yet, that of its nearest parent."""
    place = next((place for place in (folder, *folder.parents) if place.exists()), Path("/"))
    found = os.statvfs(place)
    share = int(found.f_blocks * found.f_frsize * RESERVE_SHARE)
    reserve = settings.DISK_RESERVE_MB * MEGABYTE
    if not settings.DISK_RESERVE_IS_SET:
        reserve = min(reserve, share)
    return Disk(folder, found.f_bavail * found.f_frsize, reserve)


def forget() -> None:
    """Ask the system again next time."""
    global _seen
    _seen = None


def _log(disk: Disk, wants_bytes: int) -> None:
    """Tell the operator, at most once a minute."""
    global _logged_at
    now = time.monotonic()
    if now - _logged_at < LOGGED_AGAIN_SECONDS:
        return
    _logged_at = now
    logger.error(
        "writes are refused: the disk of %s has %s bytes free, %s are kept back, %s were asked for",
        disk.folder, disk.free_bytes, disk.reserve_bytes, wants_bytes,
    )  # fmt: skip


class Room:
    """Checks for room while writing, so that a long write stops before the disk is full."""

    def __init__(self) -> None:
        self._next = 0
        self.bytes = 0

    def take(self, more_bytes: int) -> Refusal | None:
        self.bytes += more_bytes
        if self.bytes < self._next:
            return None
        self._next = self.bytes + STEP_BYTES
        return shortage()
