"""Brings a backup back into an empty database: everything is checked before anything is written.

    plan(path, …) -> Plan          reads the whole file; raises Unusable and has touched nothing
    carry_out(plan, …) -> Restored

The dump is loaded in one transaction, which ends only when the rows of each table are as many as the manifest
says. A note in the data directory stands until the last step has ended: while it is there `manage.py up` does
not start, and the next restore says that one was cut short. It starts over, or goes on after a load that was
committed.
"""
# ruff: noqa: S603 - every command is a list built here, and no part of it comes from a request.

import json
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import psycopg
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db.migrations.loader import MigrationLoader
from psycopg import sql

from apperate.backup import archive, loading, making, programs, replay, revocations, sealed_keys
from apperate.backup.manifest import SEALED, Manifest, Unusable, major
from apperate.database.clock import database_now
from apperate.database.embedded import access
from apperate.kernel import keyring

NOTE, LAST = "restoring.json", "restored.json"
OLDEST_MAJOR = 15
# Sessions that were ended since would be open again, so everybody signs in anew.
SESSIONS = ("django_session", "usersessions_usersession")
STDERR_CHARS = 600
EMPTY = """SELECT count(*) FROM pg_class c
  WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v', 'S')
    AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')"""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is going to happen, checked. `goes_on`: the load of an earlier try was committed."""

    checked: archive.Checked
    keys: Mapping[str, str]
    pg_restore: programs.Program
    server: str
    goes_on: bool
    was_cut_short: str

    @property
    def manifest(self) -> Manifest:
        return self.checked.manifest


@dataclass(frozen=True, slots=True)
class Restored:
    manifest: Manifest
    noted: revocations.Noted
    replayed: replay.Replayed


def plan(path: Path, *, passphrase: str | None, progress: Callable[[int], object] = lambda _: None) -> Plan:
    """Check the file, the passphrase, the versions and the place. Raises Unusable; nothing is touched."""
    checked = archive.read(path, progress=progress)
    manifest = checked.manifest
    refuse_newer(manifest)
    keys: Mapping[str, str] = {}
    if passphrase is not None:
        if checked.sealed_keys is None or manifest.keys != SEALED:
            raise Unusable(
                "This backup was made without keys, so a passphrase opens nothing: restore it with "
                f"--without-keys, and put {keyring.KEY_FILE} in place yourself."
            )
        keys = sealed_keys.unseal(checked.sealed_keys, passphrase, bound_to=manifest.id)
        refuse_other_keys(keys)
    pg_restore = programs.find("pg_restore", at_least=major(manifest.pg_dump))
    note = read_note()
    with programs.session() as session:
        server, encoding, tables = _look(session)
        if major(server) < OLDEST_MAJOR:
            raise Unusable(f"The server is PostgreSQL {server}. Needed: {OLDEST_MAJOR} or newer.")
        if encoding != "UTF8":
            raise Unusable(f"The database's encoding is {encoding}. Make one with ENCODING 'UTF8'.")
        goes_on = bool(tables) and note.get("id") == manifest.id
        if tables and not goes_on:
            raise Unusable(_not_empty(tables, note))
    return Plan(checked, keys, pg_restore, server, goes_on, str(note.get("began_at", "")))


def refuse_newer(manifest: Manifest) -> None:
    known = MigrationLoader(None).disk_migrations
    unknown = [f"{app} {name}" for app, name in manifest.migrations.items() if (app, name) not in known]
    if unknown:
        raise Unusable(
            f"The backup is of a newer Apperate, {manifest.apperate}: {', '.join(unknown[:3])} is not known "
            "here. Restore it with that version or a later one."
        )


def refuse_other_keys(keys: Mapping[str, str]) -> None:
    """A key file of another installation is not written over: something may need it."""
    path = Path(settings.DATA_DIR) / keyring.KEY_FILE
    if os.environ.get(keyring.KEYS_VARIABLE, "").strip() or not path.exists():
        return
    if path.read_text().split() != keys.get(keyring.KEY_FILE, "").replace(",", " ").split():
        raise Unusable(f"{path} holds other keys than the backup. Move it away, if nothing else needs it.")


def read_note() -> dict[str, Any]:
    """What an earlier restore left that did not come to its end."""
    try:
        found = json.loads((Path(settings.DATA_DIR) / NOTE).read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        return {"began_at": "an unknown time"}
    return found if isinstance(found, dict) else {}


def begin(path: Path, what: str) -> None:
    """Leave a note that stands until end(): that a restore is under way, of which file, and which it is."""
    began = {"file": str(path), "id": what, "began_at": f"{datetime.now().astimezone():%F %T}"}
    _put(Path(settings.DATA_DIR) / NOTE, json.dumps(began))


def end() -> None:
    (Path(settings.DATA_DIR) / NOTE).unlink(missing_ok=True)


def refuse_half_restored() -> None:
    """For `manage.py up`: raises ImproperlyConfigured while a restore has not come to its end."""
    if note := read_note():
        raise ImproperlyConfigured(
            f"The restore of {note.get('file', 'a backup')} that began at {note.get('began_at')} did not "
            "come to its end: run `manage.py restore` again, with the same file."
        )


def said_of_last() -> str:
    """What `manage.py up` says of a restore that was done here, for as long as its record stands."""
    try:
        found = json.loads((Path(settings.DATA_DIR) / LAST).read_text())
        return (
            f"Restored to {found['made_at'][:19].replace('T', ' ')} UTC from {found['file']}; "
            f"{len(found['done'])} revocations since then were applied, {len(found['to_see'])} are to be "
            f"looked at: {Path(settings.DATA_DIR) / LAST}"
        )
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def carry_out(
    plan: Plan,
    *,
    given: list[Path],
    say: Callable[[str], object],
    progress: Callable[[int], object] = lambda _: None,
) -> Restored:
    """Load, compare, commit; then migrate, give rights, take away again what was revoked since."""
    data_dir, manifest = Path(settings.DATA_DIR), plan.manifest
    noted = revocations.read(replay.found_beside(plan.checked.path, given))
    begin(plan.checked.path, manifest.id)
    if not plan.goes_on:
        say(f"Loading {manifest.rows:,} rows of {len(manifest.tables)} tables …")
        written: list[Path] = []
        try:
            _load(plan, written, progress)
        except BaseException:
            # Nothing of it is left: the transaction is rolled back, and the database is as empty as before.
            for path in written:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            end()
            raise
    say("Migrating …")
    call_command("migrate", interactive=False, verbosity=0)
    _give_rights()
    with programs.session() as session:
        session.execute("ANALYZE")
    replayed = _take_away_again(noted, since=datetime.fromisoformat(manifest.revocations_until))
    facts = {"made_at": manifest.made_at, "file": str(plan.checked.path), "done": replayed.done,
             "to_see": replayed.to_see, "revocation_files": [str(path) for path in noted.files]}  # fmt: skip
    _put(data_dir / LAST, json.dumps(facts))
    end()
    return Restored(manifest, noted, replayed)


def _take_away_again(noted: revocations.Noted, *, since: datetime) -> replay.Replayed:
    replayed = replay.apply(noted, since=since, now=database_now())
    for line in noted.lines:
        # A second restore, of the same backup, must know of them too.
        if line.at >= since:
            _note_again(line)
    return replayed


def finish_recovery(
    folder: Path, given: list[Path], *, until: datetime | None
) -> tuple[revocations.Noted, replay.Replayed, datetime]:
    """After a recovery to a moment: migrate, end sessions, take away again; returns what moment it was."""
    noted = revocations.read(replay.found_beside(folder / "base", given))
    call_command("migrate", interactive=False, verbosity=0)
    with programs.session() as session:
        row = session.execute("SELECT max(at) FROM accounts_auditevent").fetchone()
        for name in SESSIONS:
            session.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(name)))
    # "latest" ends where the log does, which nothing says but the last thing that was written.
    reached = until or (row[0] if row and row[0] else database_now())
    replayed = _take_away_again(noted, since=reached - making.NOTED_LATER)
    facts = {"made_at": reached.isoformat(), "file": str(folder), "done": replayed.done,
             "to_see": replayed.to_see, "revocation_files": [str(path) for path in noted.files]}  # fmt: skip
    _put(Path(settings.DATA_DIR) / LAST, json.dumps(facts))
    end()
    return noted, replayed, reached


def _load(plan: Plan, written: list[Path], progress: Callable[[int], object]) -> None:
    data_dir, manifest, path = Path(settings.DATA_DIR), plan.manifest, plan.checked.path
    with programs.session() as session:
        try:
            with session.transaction(), session.cursor() as cursor:
                # Held to the end, so that of two restores one finds the tables of the other.
                cursor.execute(making.LOCK)
                with _script(plan, progress) as script:
                    loading.load(cursor, script)
                cursor.execute("SET LOCAL search_path = public, pg_temp")
                _compare(manifest.tables, making.row_counts(cursor))
                _stamp(cursor)
                for name in SESSIONS:
                    if name in manifest.tables:
                        cursor.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(name)))
                cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
                _write_files(plan, data_dir, path, written)
        except psycopg.Error as error:
            first = str(error).strip().partition("\n")[0]
            raise Unusable(
                f"The dump, of PostgreSQL {manifest.postgresql}, could not be loaded into PostgreSQL "
                f"{plan.server}: {first}. Nothing of it was kept."
            ) from None


def _write_files(plan: Plan, data_dir: Path, path: Path, written: list[Path]) -> None:
    """The key files and the files of open jobs; before the commit, so that neither is missing after it."""
    for name, text in plan.keys.items():
        if os.environ.get(sealed_keys.VARIABLES.get(name, ""), "").strip():
            continue
        if name != sealed_keys.SESSION_KEY:  # That one was made when this command started.
            written += [] if (data_dir / name).exists() else [data_dir / name]
        _put(data_dir / name, text.replace(",", "\n") if name == keyring.KEY_FILE else text)
    if plan.manifest.open_jobs:
        place = Path(settings.INGEST_DIR)
        written += [] if place.exists() else [place]
        archive.extract(path, place)


@contextmanager
def _script(plan: Plan, progress: Callable[[int], object]) -> Iterator[Iterator[bytes]]:
    """The dump as pg_restore's script, line by line. Raises Unusable when pg_restore or the file fails."""
    command = [str(plan.pg_restore.path), "--no-owner", "--no-acl", "--schema=public", "--file=-"]
    with tempfile.TemporaryFile() as errors:
        running = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, cwd="/",
            env=programs.bare_environment(),
        )  # fmt: skip
        failed: list[Exception] = []
        is_cut = False
        assert running.stdin is not None and running.stdout is not None  # noqa: S101  They are pipes.
        feeder = threading.Thread(target=_feed, args=(plan, running.stdin, failed, progress), daemon=True)
        feeder.start()
        try:
            try:
                yield iter(running.stdout)
            except EOFError:
                is_cut = True  # pg_restore or the file says why; else this does.
            code = running.wait()
        finally:
            running.kill()
            running.wait()
            running.stdout.close()
            feeder.join()
        errors.seek(0)
        said = " ".join(errors.read().decode(errors="replace").split())[-STDERR_CHARS:]
    if failed:
        raise failed[0]
    if code:
        raise Unusable(f"pg_restore {plan.pg_restore.version} cannot read the dump: {said}")
    if is_cut:
        raise Unusable("The dump ends within the rows of a table. Take another backup.")


def _feed(plan: Plan, pipe: IO[bytes], failed: list[Exception], progress: Callable[[int], object]) -> None:
    try:
        with pipe:
            for part in archive.dump_parts(plan.checked.path, plan.manifest):
                pipe.write(part)
                progress(len(part))
    except BrokenPipeError:
        pass  # pg_restore ended, and its exit code says why.
    except (Unusable, OSError) as error:
        failed.append(error)


def _look(session: psycopg.Connection[Any]) -> tuple[str, str, int]:
    """The server's version, the database's encoding, and how many tables, views and sequences it has."""
    row = session.execute(
        "SELECT current_setting('server_version'), pg_encoding_to_char(encoding) FROM pg_database "
        "WHERE datname = current_database()"
    ).fetchone()
    count = session.execute(EMPTY).fetchone()
    assert row is not None and count is not None  # noqa: S101  One row each.
    return str(row[0]), str(row[1]), int(count[0])


def _not_empty(tables: int, note: Mapping[str, Any]) -> str:
    if note:
        return (
            f"The restore of {note.get('file', 'another backup')} that began at {note.get('began_at')} "
            "loaded its data and did not come to its end: run `manage.py restore` with that file again."
        )
    if settings.DATABASES["default"]["ENGINE"] == "apperate.database.embedded":
        advice = f"Set APPERATE_DATA_DIR to a new folder, or move {settings.DATA_DIR / 'db'} away."
    else:
        advice = "Make a new database, and name it in DATABASE_URL."
    return f"The database has {tables} tables, views and sequences; a restore needs an empty one. {advice}"


def _compare(expected: Mapping[str, int], found: Mapping[str, int]) -> None:
    if expected == found:
        return
    names = [name for name in {*expected, *found} if expected.get(name) != found.get(name)]
    first = ", ".join(f"{name} {expected.get(name)} / {found.get(name)}" for name in sorted(names)[:3])
    raise Unusable(
        f"The rows are not those of the manifest (table, expected / found): {first}. Nothing was kept."
    )


def _stamp(cursor: psycopg.Cursor[Any]) -> None:
    """Let a trigger stamp rows anew: the transactions of the old server say nothing here. Source:
    docs/decisions/0004-how-workers-learn-of-changes.md
    """
    cursor.execute(
        "SELECT table_name FROM information_schema.columns "
        "WHERE table_schema = 'public' AND column_name = 'changed_xid'"
    )
    for (name,) in cursor.fetchall():
        cursor.execute(sql.SQL("UPDATE {} SET changed_xid = 0").format(sql.Identifier(name)))


def _give_rights() -> None:
    is_embedded = settings.DATABASES["default"]["ENGINE"] == "apperate.database.embedded"
    if is_embedded or os.environ.get("DATABASE_OWNER_URL"):
        call_command("grants", apply=True, verbosity=0)


def _note_again(line: revocations.Line) -> None:
    own = revocations.own_file()
    text = json.dumps({"at": line.at.isoformat(), "what": line.what, **line.facts})
    if not own.exists() or text not in own.read_text(errors="replace").splitlines():
        revocations.append(own, text)


def _put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    access.put(path, text, mode=0o600)
