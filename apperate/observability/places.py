"""Where each process keeps its figures: files in one folder, under a number that it holds.

    take(folder) -> int              the lowest free number, held until the process ends, however it ends
    clear_gone(folder)               removes what processes that have ended said of their present state

Files are named by number and not by process id, so that a worker that takes the place of a killed one counts
on where that one stopped, and any number of restarts leaves no more files than processes ever ran at a time.
"""

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from prometheus_client.mmap_dict import MmapedDict

# Set by `manage.py up` for its children: the folder.
FOLDER_VARIABLE = "APPERATE_METRICS_DIR"
PLACES_MAX = 1_000
# Taken at once: writing into a hole of a mapped file ends the process when the disk is full.
FILE_BYTES = 262_144
LIVE = ("livesum", "livemax", "livemin")
KINDS = ("counter", "histogram", *(f"gauge_{mode}" for mode in LIVE))


def take(folder: Path) -> int:
    """Hold a number and have its files ready. Raises OSError when there is no room for them."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for number in range(PLACES_MAX):
        lock = os.open(folder / f"{number}.lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        try:
            _make_ready(folder, number)
        except OSError:
            os.close(lock)
            raise
        return number  # The lock stays open, and so held, until the process ends.
    raise OSError(f"{PLACES_MAX:,} processes keep figures in {folder}")


def _make_ready(folder: Path, number: int) -> None:
    for kind in KINDS:
        path = folder / f"{kind}_{number}.db"
        if kind.startswith("gauge") or not _can_be_read(path):
            path.unlink(missing_ok=True)
        with path.open("ab") as file:
            os.posix_fallocate(file.fileno(), 0, FILE_BYTES)


def _can_be_read(path: Path) -> bool:
    """Whether a file is whole: a machine that lost power may have kept a part of it."""
    try:
        for _ in MmapedDict.read_all_values_from_file(path):
            pass
    except FileNotFoundError:
        return True
    except Exception:  # Whatever a broken file makes the library raise.
        return False
    return True


def clear_gone(folder: Path) -> None:
    for path in folder.glob("*.lock"):
        with suppress(OSError), path.open() as lock:
            # Shared, so that this never takes the place of a process that is about to start.
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            for mode in LIVE:
                (folder / f"gauge_{mode}_{path.stem}.db").unlink(missing_ok=True)
