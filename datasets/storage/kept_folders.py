"""Where the files of a job or an upload are: in a folder of this host, or in the database for every host.

    folder = KeptFolder("job/…")
    with folder.receiving() as place: …; folder.share(place, BODY)     new files
    with folder.at_hand(BODY) as place: …                              files that are there, wherever

settings.UPLOADS says where new files go. They are found in either place, so that the setting can
be changed while jobs wait. What is in the database is copied to a working folder to be read: the readers of
files go back and forth in them. Source: docs/decisions/0023-files-of-jobs.md.
"""

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from apperate.database import disk
from apperate.kernel.refusals import Refusal
from datasets.storage import file_chunks

UPLOADS, WORKING = "uploads", "working"


@dataclass(frozen=True, slots=True)
class KeptFolder:
    """The files of one job or upload; `name` is "job/" or "upload/" and the public id."""

    name: str

    @property
    def place(self) -> Path:
        """Where the files are if they are on this host."""
        kind, _, public_id = self.name.partition("/")
        return Path(settings.INGEST_DIR) / (UPLOADS if kind == "upload" else "") / public_id

    @contextmanager
    def receiving(self, *, stays: bool = False) -> Iterator[Path]:
        """A new folder to write files into before they are shared. `stays`: they will be read here alone."""
        if settings.UPLOADS == "database" and not stays:
            with working_folder() as place:
                yield place
            return
        make_folder(self.place)
        yield self.place

    def share(self, place: Path, *names: str) -> Refusal | None:
        """Keep files that were written into `place`; why there is no room for them, if so. Raises OSError."""
        if place == self.place:
            return None
        # In a database on this disk they take their size again, and once more in its log.
        size_bytes = sum((place / name).stat().st_size for name in names)
        if refusal := disk.shortage(wants_bytes=2 * size_bytes):
            return refusal
        for name in names:
            file_chunks.write(self.name, name, place / name)
        return None

    @contextmanager
    def at_hand(self, name: str) -> Iterator[Path | None]:
        """A folder that has this file, and takes others beside it; None when it is nowhere."""
        if (self.place / name).exists():
            yield self.place
            return
        with working_folder() as place:
            yield place if file_chunks.copy_out(self.name, name, place / name) else None

    def has(self, name: str) -> bool:
        return (self.place / name).exists() or file_chunks.exists(self.name, name)

    def exists(self) -> bool:
        """Whether it has any file, wherever."""
        return self.place.exists() or file_chunks.has_any(self.name)

    def read(self, name: str, *, is_beginning: bool = False) -> bytes | None:
        """A file that is small enough for memory, or about a megabyte of it; None when it is nowhere."""
        with suppress(FileNotFoundError), (self.place / name).open("rb") as file:
            return file.read(file_chunks.CHUNK_BYTES if is_beginning else -1)
        return (file_chunks.beginning if is_beginning else file_chunks.read)(self.name, name)

    def remove(self) -> None:
        """Remove all files, from both places."""
        shutil.rmtree(self.place, ignore_errors=True)
        file_chunks.remove(self.name)


def make_folder(place: Path) -> None:
    """Make a folder, and its parents: customers' files must be private to this account."""
    make_private()
    place.parent.mkdir(mode=0o700, exist_ok=True)
    place.mkdir(mode=0o700)


def make_private() -> None:
    """Make the folder for customers' files, and close what others could look into."""
    root = Path(settings.INGEST_DIR)
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    for place in (root, root / UPLOADS, root / WORKING):
        if place.exists() and stat.S_IMODE(place.stat().st_mode) & 0o077:
            place.chmod(0o700)


@contextmanager
def working_folder() -> Iterator[Path]:
    """A private folder for files in use, gone afterwards.

    Its process holds a lock on it, so the folder of one that was killed is known, and removed by the next.
    """
    root = Path(settings.INGEST_DIR) / WORKING
    with suppress(FileExistsError):
        make_folder(root)
    with ExitStack() as stack:
        with ExitStack() as only:
            # Else a new folder could be taken for an abandoned one before it is locked.
            only.callback(os.close, _locked(root))
            remove_abandoned()
            place = Path(tempfile.mkdtemp(dir=root))
            stack.callback(os.close, _locked(place))
        stack.callback(shutil.rmtree, place, ignore_errors=True)
        yield place


def _locked(place: Path, *, waits: bool = True) -> int:
    """A descriptor that locks a folder until it is closed. Raises OSError when it is another's."""
    descriptor = os.open(place, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def remove_abandoned() -> None:
    """Remove the working folders of processes that are no more. Not beside a host that is making one."""
    for place in (Path(settings.INGEST_DIR) / WORKING).glob("*/"):
        with suppress(OSError):  # Somebody still has it, or is done with it just now.
            descriptor = _locked(place, waits=False)
            shutil.rmtree(place, ignore_errors=True)
            os.close(descriptor)
