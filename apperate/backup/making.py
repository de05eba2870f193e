"""Makes a backup while the service runs: one file, written as a stream.

    make(out, passphrase=…) -> Manifest      raises Unusable

The dump and the counts of rows come out of one snapshot of the database, which a session of its own exports
and holds until pg_dump has ended. Files of open jobs are linked aside before and after the snapshot is taken,
so that a job which ends meanwhile cannot take its file away. Two backups at once refuse each other.
"""
# ruff: noqa: S603 - every command is a list built here, and no part of it comes from a request.

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Any

import psycopg
from django.conf import settings
from psycopg import sql

from apperate.backup import archive, programs, sealed_keys
from apperate.backup.manifest import LEFT_OUT, SEALED, Manifest, Unusable, major
from apperate.database import disk
from apperate.kernel.version import VERSION
from datasets.models import IngestJob
from datasets.storage import job_files

# Of Apperate alone; one backup at a time, whichever host makes it.
LOCK = "SELECT pg_try_advisory_lock(7236828302)"
STAGING = "backup.staging"
STEP_BYTES = 8_000_000
STDERR_CHARS = 600
# A change is noted after its commit, so one that the snapshot holds may carry a time from before it.
NOTED_LATER = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A moment of the database, held open: `session` must stay until the dump has ended."""

    session: psycopg.Connection[Any]
    id: str
    at: datetime
    version: str


class Counted:
    """Passes bytes on, says how many, and stops while the disk still has its reserve."""

    def __init__(self, out: IO[bytes], folder: Path | None, progress: Callable[[int], object]) -> None:
        self._out, self._folder, self._progress = out, folder, progress
        self.bytes = self._next = 0

    def write(self, data: bytes) -> int:
        self.bytes += len(data)
        if self.bytes >= self._next:
            self._next = self.bytes + STEP_BYTES
            self._progress(self.bytes)
            if self._folder is not None and not disk.look(self._folder).has_room(len(data)):
                found = disk.look(self._folder)
                raise Unusable(
                    f"The disk of {self._folder} has {found.free_bytes / 1e9:.1f} GB free, and of them "
                    f"{found.reserve_bytes / 1e9:.1f} are kept back: make room, or take another disk."
                )
        self._out.write(data)
        return len(data)


def make(
    out: IO[bytes],
    *,
    passphrase: str | None,
    folder: Path | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> Manifest:
    """Write a backup to `out`. Without a passphrase the keys are left out. `folder`: whose disk it fills."""
    counted = Counted(out, folder, progress)
    data_dir = Path(settings.DATA_DIR)
    try:
        with programs.session() as asking, staged(Path(settings.INGEST_DIR)) as stage:
            server = _server_version(asking)
            pg_dump = programs.find("pg_dump", at_least=major(server))
            if asking.execute(LOCK).fetchone() != (True,):
                raise Unusable("Another backup of this database is being made: wait until it has ended.")
            stage.link()
            with snapshot(server) as moment:
                stage.link()
                writer = archive.Writer(counted)  # type: ignore[arg-type]  # It writes, and no more is asked.
                manifest = described(moment, pg_dump.version, keys=LEFT_OUT if passphrase is None else SEALED)
                if passphrase is not None:
                    keys = sealed_keys.collect(os.environ, data_dir)
                    writer.add(archive.KEYS, sealed_keys.seal(keys, passphrase, bound_to=manifest.id))
                _dump(writer, pg_dump, moment)
                for job_id in open_jobs(moment):
                    for path in stage.files_of(job_id):
                        writer.add_file(f"{archive.JOB_FILES}{job_id}/{path.name}", path)
            return writer.close(manifest)
    except psycopg.Error as error:
        raise Unusable(f"The database cannot be backed up: {_first_line(error)}") from None


@contextmanager
def snapshot(version: str) -> Iterator[Snapshot]:
    with programs.session() as session:
        session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        row = session.execute("SELECT pg_export_snapshot(), clock_timestamp()").fetchone()
        assert row is not None  # noqa: S101  One row by its form.
        yield Snapshot(session, row[0], row[1], version)


def described(moment: Snapshot, pg_dump: str, *, keys: str) -> Manifest:
    applied = moment.session.execute(
        "SELECT DISTINCT ON (app) app, name FROM django_migrations ORDER BY app, id DESC"
    )
    return Manifest(
        id=secrets.token_hex(16),
        made_at=moment.at.isoformat(),
        apperate=VERSION,
        postgresql=moment.version,
        pg_dump=pg_dump,
        migrations=dict(applied.fetchall()),
        tables=row_counts(moment.session),
        keys=keys,
        open_jobs=len(open_jobs(moment)),
        revocations_until=(moment.at - NOTED_LATER).isoformat(),
    )


def row_counts(session: psycopg.Connection[Any] | psycopg.Cursor[Any]) -> dict[str, int]:
    """The rows of each table, as this transaction sees them."""
    found = session.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' "
        "ORDER BY relname"
    )
    counts = {}
    for (name,) in found.fetchall():
        row = session.execute(
            sql.SQL("SELECT count(*) FROM public.{}").format(sql.Identifier(name))
        ).fetchone()
        counts[name] = row[0] if row else 0
    return counts


def open_jobs(moment: Snapshot) -> list[str]:
    """The ids of the jobs that had not ended at the snapshot."""
    found = moment.session.execute(
        sql.SQL("SELECT public_id FROM {} WHERE status <> ALL (%s) ORDER BY public_id").format(
            sql.Identifier(IngestJob._meta.db_table)
        ),
        [[str(status) for status in IngestJob.ENDED]],
    )
    return [public_id for (public_id,) in found.fetchall()]


@dataclass(frozen=True, slots=True)
class Staged:
    """Links to the files of jobs, which stay when a job ends and its own are removed."""

    source: Path
    place: Path

    def link(self) -> None:
        for found in self.source.glob("[0-9a-f]" * 32 + "/*"):
            target = self.place / found.parent.name / found.name
            target.parent.mkdir(mode=0o700, exist_ok=True)
            try:
                target.hardlink_to(found)
            except (FileExistsError, FileNotFoundError):
                continue  # Linked before, or its job has ended.

    def files_of(self, job_id: str) -> list[Path]:
        names = {job_files.BODY, job_files.PACKED, job_files.INVALID}
        return sorted(path for path in (self.place / job_id).glob("*") if path.name in names)


@contextmanager
def staged(source: Path) -> Iterator[Staged]:
    """Links are made beside the files, because they cannot lead to another disk."""
    place = source.with_name(STAGING)
    if not source.exists():
        yield Staged(source, place)
        return
    shutil.rmtree(place, ignore_errors=True)  # Of a backup that was killed.
    place.mkdir(mode=0o700)
    try:
        yield Staged(source, place)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _dump(writer: archive.Writer, pg_dump: programs.Program, moment: Snapshot) -> None:
    command = [
        str(pg_dump.path),
        "--format=custom",
        "--schema=public",
        "--no-password",
        f"--snapshot={moment.id}",
    ]
    with tempfile.TemporaryFile() as errors:
        running = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, cwd="/",
            env=programs.environment(),
        )  # fmt: skip
        try:
            assert running.stdout is not None  # noqa: S101  It is a pipe.
            writer.add_dump(running.stdout)
            code = running.wait()
        finally:
            running.kill()
            running.wait()
            if running.stdout:
                running.stdout.close()
        errors.seek(0)
        said = errors.read().decode(errors="replace")
    if code:
        raise Unusable(f"pg_dump {pg_dump.version} failed: {' '.join(said.split())[-STDERR_CHARS:]}")


def _server_version(session: psycopg.Connection[Any]) -> str:
    row = session.execute("SELECT current_setting('server_version')").fetchone()
    return str(row[0]) if row else ""


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
