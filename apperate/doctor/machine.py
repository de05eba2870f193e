"""The machine: the data directory, free disk, static files. No check of it needs the database."""

import json
import os
import resource
import stat
import tempfile
from pathlib import Path

from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.contrib.staticfiles.storage import ManifestFilesMixin
from django.utils.module_loading import import_string

from apperate.database import disk
from apperate.doctor.findings import FAIL, OK, WARN, Finding
from apperate.kernel import keyring

INODES_MIN = 1_000
OPEN_FILES_MIN = 1_024
FILES_LOOKED_AT = 200
# Files of the data directory that must be private to their owner.
PRIVATE_FILES = (keyring.KEY_FILE, "session.key", "demo.json", "db.key")


def data_directory() -> Finding:
    """Can it be written, and are its secrets private to their owner?"""
    place, subject = Path(settings.DATA_DIR), "Data directory"
    if not os.access(place if place.exists() else place.parent, os.W_OK):
        return Finding(FAIL, subject, f"{place} cannot be written.", "Set APPERATE_DATA_DIR, or its owner.")
    open_files = [name for name in PRIVATE_FILES if is_open_to_others(place / name)]
    if open_files:
        return Finding(
            FAIL,
            subject,
            f"Others can read {', '.join(open_files)} in {place}.",
            f"Run: chmod 600 {' '.join(str(place / name) for name in open_files)}",
        )
    return Finding(OK, subject, str(place))


def is_open_to_others(path: Path) -> bool:
    return path.exists() and bool(stat.S_IMODE(path.stat().st_mode) & 0o077)


def disk_space() -> Finding:
    """Is there room, well above the reserve?"""
    disk.forget()
    found = disk.disks()
    least = min(found, key=lambda one: one.free_bytes - one.reserve_bytes)
    kept = f"{least.reserve_bytes / 1e9:.1f} GB of it are kept back."
    detail = f"{least.free_bytes / 1e9:.1f} GB free on the disk of {least.folder}; {kept}"
    if not least.has_room():
        return Finding(FAIL, "Disk space", detail, "Writes are refused until there is more: make room.")
    if least.free_bytes < 2 * least.reserve_bytes:
        return Finding(WARN, "Disk space", detail, "Below what is kept back writes are refused: make room.")
    return Finding(OK, "Disk space", detail)


def files_to_come() -> Finding:
    """Can more files be made: in the folders that are written, by this account, and on their disks?"""
    subject = "Files"
    folders = [Path(settings.DATA_DIR), Path(settings.INGEST_DIR), Path(tempfile.gettempdir())]
    folders = [folder for folder in folders if folder.exists()]
    for folder in folders:
        if not os.access(folder, os.W_OK | os.X_OK):
            owner, mode = folder.stat().st_uid, stat.S_IMODE(folder.stat().st_mode)
            detail = f"This account may not write in {folder}, which is of user {owner}, mode {mode:o}."
            return Finding(FAIL, subject, detail, f"Run: chown -R {os.getuid()} {folder}; chmod 700 {folder}")
        if foreign := _of_another(folder):
            detail = f"{foreign} is of another account: it cannot be changed or removed."
            return Finding(FAIL, subject, detail, f"Run: chown -R {os.getuid()} {folder}")
    if (ingest := Path(settings.INGEST_DIR)).exists() and is_open_to_others(ingest):
        detail = f"Others can look into {ingest}, where uploads of customers are."
        return Finding(FAIL, subject, detail, f"Run: chmod 700 {ingest}")
    for folder in folders:
        found = os.statvfs(folder)
        # A file system without a fixed number says 0.
        if found.f_files and found.f_favail < INODES_MIN:
            detail = f"{found.f_favail:,} more files fit on the disk of {folder}, however much room is free."
            level = FAIL if not found.f_favail else WARN
            return Finding(level, subject, detail, "Remove what is small and many: old logs, caches, mail.")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < OPEN_FILES_MIN:
        detail = f"A process may have {soft:,} open files, and each connection of a client is one."
        advice = f"Raise `ulimit -n` (LimitNOFILE of systemd) to {OPEN_FILES_MIN:,}; {hard:,} are allowed."
        return Finding(WARN, subject, detail, advice)
    return Finding(OK, subject, "Folders can be written, and there is room for more files.")


def _of_another(folder: Path) -> Path | None:
    """Something right below a folder of ours that this account does not own and may not write."""
    if folder == Path(tempfile.gettempdir()):
        return None
    for path in sorted(folder.iterdir())[:FILES_LOOKED_AT]:
        # The embedded server has an account of its own when it is started by root.
        if path.name != "db" and path.lstat().st_uid != os.getuid() and not os.access(path, os.W_OK):
            return path
    return None


def static_files() -> Finding:
    """Are they collected, and those of this version?"""
    subject, root = "Static files", Path(settings.STATIC_ROOT)
    manifest = root / "staticfiles.json"
    backend = import_string(settings.STORAGES["staticfiles"]["BACKEND"])
    wants_manifest = issubclass(backend, ManifestFilesMixin)
    advice = "`manage.py up` collects them; otherwise run `manage.py collectstatic`."
    if wants_manifest and not manifest.exists():
        return Finding(FAIL, subject, "They are not collected: pages would fail.", advice)
    if manifest.exists():
        names = json.loads(manifest.read_text(encoding="utf-8")).get("paths", {})
        for path, storage in (one for finder in get_finders() for one in finder.list([])):
            collected = root / str(names.get(path, path))
            if path in names and not collected.exists():
                return Finding(FAIL, subject, f"{path} was collected and is gone: pages lack it.", advice)
            source = Path(storage.path(path))
            if wants_manifest and path not in names:
                return Finding(
                    WARN, subject, f"{path} is not collected: they are of another version.", advice
                )
            if source.stat().st_mtime > manifest.stat().st_mtime and not is_same(source, root / path):
                return Finding(WARN, subject, f"{path} has changed since they were collected.", advice)
    return Finding(OK, subject, "They are in place.")


def is_same(one: Path, other: Path) -> bool:
    return other.exists() and one.read_bytes() == other.read_bytes()
