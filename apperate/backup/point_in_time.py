"""The embedded server's write-ahead log, kept aside as it is written, and a base backup to begin from.

    receive()               pg_receivewal: each change is in the archive within moments of its commit
    keep_base(folder)       makes a base backup when one is due, and removes what no kept one needs
    bases(folder)           those there are, oldest first

The folder holds `wal/`, written by pg_receivewal, and `base-TIME/` with pg_basebackup's files. The server
keeps what the archive has not got yet for its replication slot, up to a limit (embedded/watcher.py), so that
an archive that is away does not fill its disk. What is lost that way is a gap: a new base backup follows.
"""
# ruff: noqa: S603 - every command is a list built here, and no part of it comes from a request.

import json
import shutil
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from django.conf import settings

from apperate.backup import programs
from apperate.backup.manifest import Unusable, major
from apperate.running.supervisor import die_with_parent

SLOT = "apperate_archive"
LOG, BASE, FACTS, GAP = "wal", "base-{:%Y%m%dT%H%M%SZ}", "base.json", "gap"
BASE_EVERY = timedelta(days=7)
BASES_KEPT = 2
SEGMENT_BYTES = 16 << 20
STDERR_CHARS = 600


@dataclass(frozen=True, slots=True)
class Base:
    """A finished base backup. `ended_at`: the earliest moment that it leads to."""

    path: Path
    ended_at: datetime
    timeline: int
    first_segment: str  # the first file of the log that it needs
    apperate: str


def receive() -> None:
    """Make sure of the slot and run pg_receivewal, which goes on for ever. Raises Unusable when it ended."""
    place = Path(settings.WAL_ARCHIVE) / LOG
    _make_folder(place)
    with programs.session() as session:
        version = session.execute("SELECT current_setting('server_version')").fetchone()
        program = programs.find("pg_receivewal", at_least=major(str(version and version[0])))
        _ensure_slot(session, place.parent)
    command = [
        str(program.path), "--directory", str(place), "--slot", SLOT, "--synchronous",
        "--compress=gzip:1", "--no-password",
    ]  # fmt: skip
    ended = subprocess.run(
        command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False, cwd="/",
        env=programs.environment(), preexec_fn=die_with_parent,  # noqa: PLW1509, this process has one thread
    )  # fmt: skip
    raise Unusable(f"pg_receivewal {program.version} ended: {' '.join(ended.stderr.split())[-STDERR_CHARS:]}")


def _ensure_slot(session: psycopg.Connection[Any], folder: Path) -> None:
    row = session.execute(
        "SELECT wal_status FROM pg_replication_slots WHERE slot_name = %s", [SLOT]
    ).fetchone()
    try:
        if row is not None and row[0] == "lost":
            session.execute("SELECT pg_drop_replication_slot(%s)", [SLOT])
            row = None
        if row is None:
            session.execute("SELECT pg_create_physical_replication_slot(%s, true)", [SLOT])
            (folder / GAP).write_text(datetime.now(UTC).isoformat())
    except psycopg.Error as error:
        first = str(error).strip().partition("\n")[0]
        raise Unusable(f"The log cannot be kept aside: {first}. Stop Apperate and start it again.") from None


def keep_base(folder: Path, *, apperate: str, now: datetime) -> Base | None:
    """Make a base backup if the newest is too old or older than a gap. Raises Unusable."""
    found = bases(folder)
    gap = _gap(folder)
    if found and now - found[-1].ended_at < BASE_EVERY and (gap is None or gap < found[-1].ended_at):
        return None
    _make_folder(folder)
    for left in folder.glob("base-*.partial"):
        shutil.rmtree(left)  # Of a base backup that was killed.
    with programs.session() as session:
        version = session.execute("SELECT current_setting('server_version')").fetchone()
    program = programs.find("pg_basebackup", at_least=major(str(version and version[0])))
    place = folder / BASE.format(now)
    draft = place.with_name(f"{place.name}.partial")
    command = [
        str(program.path), "--pgdata", str(draft), "--format=tar", "--gzip", "--wal-method=none",
        "--checkpoint=fast", "--no-password",
    ]  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd="/", env=programs.environment()
    )
    if done.returncode:
        shutil.rmtree(draft, ignore_errors=True)
        said = " ".join(done.stderr.split())[-STDERR_CHARS:]
        raise Unusable(f"pg_basebackup {program.version} failed: {said}")
    part = json.loads((draft / "backup_manifest").read_text())["WAL-Ranges"][0]
    facts = {
        "ended_at": datetime.now(UTC).isoformat(),
        "timeline": part["Timeline"],
        "first_segment": segment_of(part["Timeline"], part["Start-LSN"]),
        "apperate": apperate,
    }
    (draft / FACTS).write_text(json.dumps(facts))
    draft.rename(place)
    _remove_old(folder)
    return bases(folder)[-1]


def bases(folder: Path) -> list[Base]:
    found = []
    for path in sorted(folder.glob("base-*Z")):
        try:
            facts = json.loads((path / FACTS).read_text())
            ended_at = datetime.fromisoformat(facts["ended_at"])
            found.append(Base(path, ended_at, facts["timeline"], facts["first_segment"], facts["apperate"]))
        except (OSError, ValueError, KeyError, TypeError):
            continue  # Not whole, or not ours.
    return found


def segment_of(timeline: int, lsn: str) -> str:
    """The file of the log that holds a position like "0/3000028"."""
    high, low = (int(part, 16) for part in lsn.split("/"))
    return f"{timeline:08X}{high:08X}{low // SEGMENT_BYTES:08X}"


def _gap(folder: Path) -> datetime | None:
    try:
        return datetime.fromisoformat((folder / GAP).read_text())
    except (OSError, ValueError):
        return None


def _remove_old(folder: Path) -> None:
    """Keep the newest base backups, and of the log what they need."""
    found = bases(folder)
    for old in found[:-BASES_KEPT]:
        shutil.rmtree(old.path)
    first = found[-BASES_KEPT:][0].first_segment
    for path in (folder / LOG).glob("[0-9A-F]" * 24 + "*"):
        # Position alone, whatever the timeline: one that was recovered to shares the positions before it.
        if path.name[8:24] < first[8:]:
            path.unlink()


def _make_folder(place: Path) -> None:
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Unusable(f"The folder {place} cannot be made: {error.strerror}.") from None
