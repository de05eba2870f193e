"""The way back to a moment, for the embedded server: a base backup, and the log up to that moment.

    moment_of("2026-11-30 12:00") -> datetime      UTC unless it says otherwise, None for "latest"
    recover(folder, until=…)                       raises Unusable; the data directory had no database before

The cluster is made beside its place and renamed at the end, so that one cut short is never served.
"""

import fcntl
import os
import shutil
import tarfile
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from django.conf import settings

from apperate.backup.manifest import Unusable
from apperate.backup.point_in_time import LOG, SEGMENT_BYTES, Base, bases
from apperate.database import disk
from apperate.database.embedded import binaries, launcher, watcher

DRAFT, RESTORED_LOG, AUTO = "pg.new", "restored_wal", "postgresql.auto.conf"
RECOVERY_SECONDS_MAX = 24 * 3_600
CHUNK_BYTES = 1 << 20


def moment_of(text: str) -> datetime | None:
    """None stands for "latest": as far as the log leads."""
    if text == "latest":
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Unusable(
            f"--until {text!r} is no time. Needed: one like '2026-11-30 12:00', in UTC, or with an offset "
            "like '2026-11-30T12:00:00+01:00', or latest."
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def base_for(folder: Path, until: datetime | None) -> Base:
    """The newest base backup from before that moment."""
    found = bases(folder)
    fitting = [base for base in found if until is None or base.ended_at <= until]
    if fitting:
        return fitting[-1]
    if not found:
        raise Unusable(f"{folder} holds no base backup: it is no folder of APPERATE_WAL_ARCHIVE, or too new.")
    raise Unusable(f"{folder} leads back to {found[0].ended_at:%Y-%m-%d %H:%M:%S} UTC at the earliest.")


def recover(folder: Path, *, until: datetime | None, say: Callable[[str], object]) -> None:
    """Make the cluster and leave it stopped in its place. Raises Unusable; then nothing of it is left."""
    if settings.DATABASES["default"]["ENGINE"] != "apperate.database.embedded":
        raise Unusable(
            "--until is for the embedded database alone: the server of DATABASE_URL has its own means for it."
        )
    base = base_for(folder, until)
    data = (Path(settings.DATA_DIR) / "db").absolute()
    if (data / "pg").exists():
        raise Unusable(f"There is a database in {data}: move that folder away, or set APPERATE_DATA_DIR.")
    log = segments(folder, base)
    room = disk.look(data)
    if not room.has_room(len(log) * SEGMENT_BYTES):
        raise Unusable(
            f"The log since {base.path.name} takes {len(log) * SEGMENT_BYTES / 1e9:.1f} GB here; the disk "
            f"has {room.free_bytes / 1e9:.1f} GB free: make room."
        )
    account = launcher.prepare_folders(data)
    cluster = data / DRAFT
    shutil.rmtree(cluster, ignore_errors=True)  # Of a recovery that was cut short.
    say(f"Unpacking {base.path.name} and {len(log)} files of the log …")
    try:
        _unpack(base, cluster)
        (cluster / RESTORED_LOG).mkdir(mode=0o700)
        for source in log:
            _copy(source, cluster / RESTORED_LOG / source.name.split(".")[0])
        own = (cluster / AUTO).read_text()
        (cluster / AUTO).write_text(own + _settings(until))
        (cluster / "recovery.signal").touch(mode=0o600)
        _give_to(account, cluster)
        say(f"Replaying the log up to {f'{until:%Y-%m-%d %H:%M:%S %Z}' if until else 'its end'} …")
        _run(data, account, cluster)
        (cluster / AUTO).write_text(own)
        shutil.rmtree(cluster / RESTORED_LOG)
        cluster.rename(data / "pg")
    except (OSError, tarfile.TarError) as error:
        raise Unusable(f"{base.path} cannot be unpacked into {cluster}: {error}.") from None
    finally:
        shutil.rmtree(cluster, ignore_errors=True)


def segments(folder: Path, base: Base) -> list[Path]:
    """The files of the log that follow the base backup, in its own timeline."""
    log = folder / LOG
    timeline = base.first_segment[:8]
    found = [
        path for path in log.glob(timeline + "[0-9A-F]" * 16 + "*") if path.name[:24] >= base.first_segment
    ]
    names = {path.name.split(".")[0] for path in found if not path.name.endswith(".partial")}
    # A part of a file counts only as long as the whole one is not there.
    whole = [
        path for path in found if not path.name.endswith(".partial") or path.name.split(".")[0] not in names
    ]
    return sorted(whole)


def _settings(until: datetime | None) -> str:
    target = {} if until is None else {"recovery_target_time": until.isoformat(sep=" ")}
    lines = {
        "restore_command": f"cp {RESTORED_LOG}/%f %p",
        **target,
        "recovery_target_action": "promote",
        # The log may come from a cluster that was recovered itself; its own timeline is followed.
        "recovery_target_timeline": "current",
        "hot_standby": "off",
    }
    return "".join(f"{name} = '{value}'\n" for name, value in lines.items())


def _unpack(base: Base, cluster: Path) -> None:
    cluster.mkdir(mode=0o700)
    with tarfile.open(base.path / "base.tar.gz", mode="r:gz") as tar:
        tar.extractall(cluster, filter="data")
    for path in cluster.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    (cluster / "pg_wal").mkdir(mode=0o700, exist_ok=True)


def _copy(source: Path, target: Path) -> None:
    """One file of the log, whole or as far as it was written, filled up with zeros to its size."""
    written = 0
    unpacker = zlib.decompressobj(wbits=31) if ".gz" in source.name else None
    with source.open("rb") as packed, target.open("wb") as out:
        while data := packed.read(CHUNK_BYTES):
            try:
                written += out.write(unpacker.decompress(data) if unpacker else data)
            except zlib.error:
                break  # The end of what was being written.
        if written < SEGMENT_BYTES:
            out.truncate(SEGMENT_BYTES)


def _give_to(account: binaries.Account, cluster: Path) -> None:
    if account.uid is None or account.gid is None:
        return
    for path in (cluster, *cluster.rglob("*")):
        os.chown(path, account.uid, account.gid, follow_symlinks=False)


def _run(data: Path, account: binaries.Account, cluster: Path) -> None:
    """Start the server on the cluster, wait until it has reached the moment, and stop it."""
    users = watcher.open_plain(data / ".users.lock")
    try:
        fcntl.flock(users, fcntl.LOCK_SH)  # It stays up as long as somebody uses it.
        try:
            launcher.run_on(data, account, cluster, seconds_max=RECOVERY_SECONDS_MAX)
        except binaries.EmbeddedPostgresError as error:
            if "recovery ended before configured recovery target" in str(error):
                raise Unusable(
                    "The log ends before that moment: give an earlier time, such as that of its last file."
                ) from None
            raise
    finally:
        os.close(users)
