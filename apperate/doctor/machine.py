"""The machine: the data directory, free disk, static files. No check of it needs the database."""

import os
import stat
from pathlib import Path

from django.conf import settings

from apperate.database import disk
from apperate.doctor.findings import FAIL, OK, WARN, Finding
from apperate.kernel import keyring

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


def static_files() -> Finding:
    manifest = Path(settings.STATIC_ROOT) / "staticfiles.json"
    wants_manifest = "Manifest" in settings.STORAGES["staticfiles"]["BACKEND"]
    if wants_manifest and not manifest.exists():
        advice = "`manage.py up` collects them; otherwise run `manage.py collectstatic`."
        return Finding(FAIL, "Static files", "They are not collected: pages would fail.", advice)
    return Finding(OK, "Static files", "They are in place.")
