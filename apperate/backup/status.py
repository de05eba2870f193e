"""What became of the backups of this installation, for the doctor and for a banner on the pages.

record_good(…), record_failed(…)        written by whoever makes a backup, to a file in the data directory
read() -> Status
lateness(status, now=…) -> str          a sentence when the last good one is too old, else ""
"""

import json
import logging
import time
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from django.conf import settings

from apperate.database.embedded import access

FILE = "backups.json"
# The pages ask at each request; a few seconds more or less do not matter to a backup.
ASKED_AGAIN_SECONDS = 15.0
logger = logging.getLogger("apperate.backup")


@dataclass(frozen=True, slots=True)
class Status:
    """Times in ISO 8601, "" for never. `since`: when regular backups were switched on."""

    good_at: str = ""
    good_file: str = ""
    good_bytes: int = 0
    good_seconds: float = 0.0
    failed_at: str = ""
    failed_why: str = ""
    since: str = ""

    @property
    def has_failed_since(self) -> bool:
        return self.failed_at > self.good_at


_seen: tuple[float, str] | None = None


def read() -> Status:
    try:
        return Status(**json.loads(_path().read_text()))
    except (OSError, ValueError, TypeError):
        return Status()


def record_good(*, file: str, size: int, seconds: float, now: datetime) -> None:
    at = now.astimezone(UTC).isoformat(timespec="seconds")
    _write(replace(read(), good_at=at, good_file=file, good_bytes=size, good_seconds=round(seconds, 1)))


def record_failed(why: str, *, now: datetime) -> None:
    logger.error("backup failed: %s", why)
    _write(replace(read(), failed_at=now.astimezone(UTC).isoformat(timespec="seconds"), failed_why=why))


def record_schedule(*, now: datetime) -> None:
    """Regular backups are on; said once, so that an installation without any is not late at once."""
    if not read().since:
        _write(replace(read(), since=now.astimezone(UTC).isoformat(timespec="seconds")))


def lateness(status: Status, *, now: datetime) -> str:
    """Why the last good backup is too old, in a sentence; "" when it is not, or none are wanted here."""
    if not settings.BACKUP_TO:
        return ""
    last = status.good_at or status.since
    if not last or (now - datetime.fromisoformat(last)).total_seconds() <= settings.BACKUP_MAX_AGE_SECONDS:
        return ""
    when = f"The last good backup is of {status.good_at[:16].replace('T', ' ')} UTC"
    said = when if status.good_at else "There is no good backup yet"
    return (
        f"{said}, older than {words_of(settings.BACKUP_MAX_AGE_SECONDS)}." if status.good_at else f"{said}."
    )


def banner(*, now: datetime) -> str:
    """lateness(), asked of the disk a few times a minute at most."""
    global _seen
    if not settings.BACKUP_TO:
        return ""
    if _seen is None or time.monotonic() - _seen[0] > ASKED_AGAIN_SECONDS:
        _seen = time.monotonic(), lateness(read(), now=now)
    return _seen[1]


def forget() -> None:
    """Ask the disk again next time."""
    global _seen
    _seen = None


def words_of(seconds: int) -> str:
    """A length of time in words: "2 days", "90 minutes"."""
    for unit, length in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds % length == 0 and seconds >= length:
            count = seconds // length
            return f"{count} {unit}{'s' * (count != 1)}"
    return f"{seconds} seconds"


def _path() -> Path:
    return Path(settings.DATA_DIR) / FILE


def _write(status: Status) -> None:
    try:
        access.put(_path(), json.dumps(asdict(status)), mode=0o600)
    except OSError as error:
        logger.error("the state of backups was not written to %s: %s", _path(), error.strerror)
