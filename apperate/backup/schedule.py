"""A backup into a folder under a name with its time, regularly if wanted; old ones are removed by a rule.

to_folder(folder, …) -> Done        made beside its place, read again from the disk, then renamed
run(folder, every_seconds=…, …)     for ever: the process that `manage.py up` starts for APPERATE_BACKUP_TO
"""

import fcntl
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from django.conf import settings

from apperate.backup import archive, making, revocations, status
from apperate.backup.manifest import Manifest, Unusable
from apperate.backup.retention import Keep

NAME = "apperate-{:%Y%m%dT%H%M%SZ}.tar"
NAME_FORM = re.compile(r"apperate-(\d{8}T\d{6}Z)\.tar")
PARTIAL = ".partial"
# After a failure it is tried again sooner than the next is due.
AGAIN_SECONDS_MAX = 600
TICK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Done:
    path: Path
    manifest: Manifest
    seconds: float
    removed: list[Path]


def to_folder(
    folder: Path,
    *,
    passphrase: str | None,
    keep: Keep | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> Done:
    """Make a backup in the folder; with `keep` remove those that the rule does not keep. Raises Unusable."""
    if not folder.is_dir():
        try:
            folder.mkdir(mode=0o700, parents=True)
        except OSError as error:
            raise Unusable(f"The folder {folder} cannot be made: {error.strerror}.") from None
    done = to_file(folder / NAME.format(datetime.now(UTC)), passphrase=passphrase, progress=progress)
    try:
        # Elsewhere a copy would not go on, and look as if nothing had been revoked after the backup.
        if settings.BACKUP_TO and folder == Path(settings.BACKUP_TO).absolute():
            revocations.complete_copy(folder)
        removed = remove_old(folder, keep) if keep else []
    except OSError as error:
        raise Unusable(f"The backup is good, and {folder} could not be tidied: {error.strerror}.") from None
    return Done(done.path, done.manifest, done.seconds, removed)


def to_file(
    path: Path, *, passphrase: str | None, progress: Callable[[int], object] = lambda _: None
) -> Done:
    """Make a backup under this name, which must be free. It has the name only when it was read back whole."""
    began = time.monotonic()
    if path.exists():
        raise Unusable(f"{path} exists already: choose another name, or name a folder.")
    draft = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    try:
        _remove_left(path.parent)
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as out:
            fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
            manifest = making.make(out, passphrase=passphrase, folder=path.parent, progress=progress)
            out.flush()
            os.fsync(out.fileno())
        archive.read(draft)
        draft.rename(path)
        _sync(path.parent)
    except OSError as error:
        raise Unusable(f"{path} cannot be written: {error.strerror or error}.") from None
    finally:
        draft.unlink(missing_ok=True)
    seconds = time.monotonic() - began
    status.record_good(file=str(path), size=path.stat().st_size, seconds=seconds, now=datetime.now(UTC))
    return Done(path, manifest, seconds, [])


def _remove_left(folder: Path) -> None:
    """Remove what killed backups left. One that is being written is locked by its process."""
    for left in folder.glob(f".apperate-*{PARTIAL}"):
        with left.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            left.unlink(missing_ok=True)


def remove_old(folder: Path, keep: Keep) -> list[Path]:
    """Remove what the rule does not keep. Only files named as backups are looked at; the newest stays."""
    found = {}
    for path in folder.iterdir():
        if named := NAME_FORM.fullmatch(path.name):
            found[datetime.strptime(named[1], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)] = path
    kept = keep.chosen(found)
    removed = [path for at, path in sorted(found.items()) if at not in kept]
    for path in removed:
        path.unlink()
    return removed


def seconds_until_due(state: status.Status, *, every_seconds: int, now: datetime) -> float:
    """How long to wait for the next backup; 0 or less when it is due."""
    waits = []
    if state.good_at:
        waits.append(every_seconds - (now - datetime.fromisoformat(state.good_at)).total_seconds())
    if state.has_failed_since:
        again = min(every_seconds, AGAIN_SECONDS_MAX)
        waits.append(again - (now - datetime.fromisoformat(state.failed_at)).total_seconds())
    return min(max(waits, default=0.0), float(every_seconds))


def run(
    folder: Path,
    *,
    every_seconds: int,
    keep: Keep,
    passphrase: str | None,
    say: Callable[[str], object],
) -> None:
    """Make a backup whenever one is due, for ever. A failure is logged and noted, and tried again."""
    status.record_schedule(now=datetime.now(UTC))
    while True:
        if seconds_until_due(status.read(), every_seconds=every_seconds, now=datetime.now(UTC)) <= 0:
            try:
                done = to_folder(folder, passphrase=passphrase, keep=keep)
                say(f"backup: {done.path}, {done.seconds:.0f} s, {len(done.removed)} old ones removed")
            except Unusable as error:
                status.record_failed(str(error), now=datetime.now(UTC))
            except Exception as error:
                # Whatever it was: this process must be there for the next one.
                status.record_failed(f"{type(error).__name__}: {error}", now=datetime.now(UTC))
        time.sleep(TICK_SECONDS)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
