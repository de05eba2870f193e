"""E-B1 and E-B2: a backup under load, restored into an empty place; also without keys, and to a moment.

One installation writes and makes backups, then its machine is "gone"; the others begin with what it left.
"""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psycopg
import pytest
from django.core.management import get_commands, load_command_class
from django.core.management.base import CommandParser
from psycopg import sql

from apperate.backup import archive
from apperate.backup.restoring import NOTE
from apperate.database.embedded import launcher
from tests.support.embedded.embedded_users import connect
from tests.support.installation import ROOT, Installation, started, started_before, until

pytestmark = pytest.mark.server
PASSPHRASE = "a passphrase for tests"
BATCH = 3
# A restore empties them on purpose.
SESSIONS = {"django_session", "usersessions_usersession"}
# The last requests are counted within a second or two, which may be after the snapshot.
COUNTED_LATER = {"apperate_cache", "tokens_usageflush", "tokens_usagecounter", "tokens_throttle"}
# Written after the backup that was made while a client wrote, or taken away again by its restore.
CHANGED = {
    "accounts_auditevent", "accounts_audithead", "datasets_dataset", "datasets_storagecounter", "records",
    "tokens_token", "tokens_secret",
}  # fmt: skip


class Kept(Installation):
    """It has the demo, backups and an archive of its log, all below one folder."""

    @property
    def place(self) -> Path:
        return self.home.parent

    def environment(self, **changes: str) -> dict[str, str]:
        given = {
            "APPERATE_DEMO": "1",
            "APPERATE_ACTIVATION_SECONDS": "0",
            "APPERATE_BACKUP_TO": str(self.place / "regular"),
            "APPERATE_BACKUP_EVERY": "1d",
            "APPERATE_BACKUP_PASSPHRASE_FILE": str(self.place / "passphrase"),
            "APPERATE_WAL_ARCHIVE": str(self.place / "archive"),
        }
        return super().environment(**(given | changes))

    def start(self) -> None:
        subprocess.run(["cp", "-a", started_before("0"), self.home], check=True)
        (self.place / "passphrase").write_text(PASSPHRASE)
        super().start()

    def manage(self, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        return manage(self.environment(**changes), *arguments)


def manage(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True,
        check=False, timeout=240,
    )  # fmt: skip


def done(ended: subprocess.CompletedProcess[str]) -> str:
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


COMMAND = re.compile(r" +(?:[A-Z_]+=\S+ )*(?:\.venv/bin/python|make|mv|git) ")


def commands(page: str) -> set[str]:
    """The commands that a page of the documentation shows: its indented lines."""
    lines = (ROOT / "docs" / page).read_text().splitlines()
    return {line.strip() for line in lines if line.startswith("    ") and COMMAND.match(line)}


COMMANDS = commands("operating.md")
RUN: set[str] = set()


def documented(line: str, environment: dict[str, str], **put: object) -> subprocess.CompletedProcess[str]:
    """Run a command as docs/operating.md shows it, by a shell, with places of this test put in."""
    assert line in COMMANDS, f"docs/operating.md does not show it: {line}"
    RUN.add(line)
    places = {".venv/bin/python": sys.executable} | put
    line = re.sub("|".join(map(re.escape, places)), lambda found: str(places[found[0]]), line)
    return subprocess.run(
        ["sh", "-ec", line],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


@dataclass
class Story:
    """What happened on the first installation, kept outside of it."""

    place: Path
    facts: dict[str, Any] = field(default_factory=dict)
    backup: Path = Path()
    before: list[str] = field(default_factory=list)  # batches acknowledged before the backup began
    after: list[str] = field(default_factory=list)
    disabled: str = ""
    rotated: str = ""
    moment: str = ""
    tables: dict[str, str] = field(default_factory=dict)
    later: str = ""

    def empty(self, name: str) -> Installation:
        """A place for a restore: no files in it."""
        target = Installation(self.place / name / "data")
        target.home.mkdir(parents=True)
        return target

    def environment(self, target: Installation, **changes: str) -> dict[str, str]:
        given = {"APPERATE_BACKUP_PASSPHRASE_FILE": str(self.place / "passphrase"), "APPERATE_DEMO": "0"}
        return target.environment(**(given | changes))


def ask(base: str, method: str, path: str, token: str, body: Any = None) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = Request(f"{base}{path}", data, headers, method=method)  # noqa: S310  It is http.
    try:
        with urlopen(request, timeout=60) as answer:  # noqa: S310
            return answer.status, json.load(answer)
    except HTTPError as error:
        return error.code, json.load(error)


def writer(story: Story, base: str, stop: threading.Event, written: list[str]) -> None:
    """Write batches of records under one tag each, one after the other, until told to stop."""
    while not stop.is_set():
        tag = f"batch-{len(written):05}"
        rows = [{"tag": tag, "line": str(number)} for number in range(BATCH)]
        status, _ = ask(base, "POST", "/v1/record/DEMO/BATCHES", story.facts["secret_token"], rows)
        assert status == 200
        written.append(tag)


def digests(session: psycopg.Connection[Any]) -> dict[str, str]:
    """The MD5 of each table's rows, in the order of their text; without the stamps of transactions."""
    tables = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
    rows = (
        "SELECT md5(string_agg(row, '|' ORDER BY row)) "
        "FROM (SELECT (to_jsonb(t) - 'changed_xid')::text {} t) x"
    )
    found = {}
    for (name,) in session.execute(tables).fetchall():
        source = sql.SQL("AS row FROM public.{}").format(sql.Identifier(name))
        found[name] = session.execute(sql.SQL(rows).format(source)).fetchone()[0]
    return found


@contextmanager
def opened(home: Path) -> Iterator[psycopg.Connection[Any]]:
    """The database of an installation that does not run: its server is started, and stopped again."""
    launcher.ensure(home / "db")
    try:
        with connect(home / "db", "apperate_owner") as session:
            yield session
    finally:
        launcher.release(home / "db")


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    """The first installation: writes, a backup meanwhile, revocations after it, and its end."""
    with started(Kept) as kept:
        story = Story(kept.place)
        story.facts = json.loads(done(kept.manage("demo", "--json")))
        base, secret = f"http://127.0.0.1:{kept.port}", story.facts["secret_token"]
        schema = {"type": "object", "properties": {"tag": {"type": "string"}, "line": {"type": "string"}}}
        mapping = {"key": "tag", "subkey": "line"}
        made = {"dataset": {"datasetId": "BATCHES", "schema": schema, "columnMapping": mapping}}
        status, said = ask(base, "POST", "/v1/datasets/DEMO", secret, made)
        assert status == 200, said
        stop, written = threading.Event(), []
        thread = threading.Thread(target=writer, args=(story, base, stop, written))
        thread.start()
        until(lambda: len(written) >= 5 or not thread.is_alive())
        story.before = list(written)
        line = ".venv/bin/python manage.py backup --to /backups --passphrase-file backup.passphrase"
        places = {"/backups": story.place / "backups", "backup.passphrase": story.place / "passphrase"}
        story.backup = Path(done(documented(line, kept.environment(), **places)).strip())
        stop.set()
        thread.join()
        story.after = written
        line = "ssh backups.example.com 'cat > apperate.tar'"
        line = f".venv/bin/python manage.py backup --to - --without-keys | {line}"
        places = {"ssh backups.example.com": "sh -c", "apperate.tar": story.place / "piped.tar"}
        assert "without keys" in documented(line, kept.environment(), **places).stderr
        with connect(kept.home / "db", "apperate_owner") as session:
            story.tables = digests(session)
        # What is revoked now is not in the backup.
        shown = ".venv/bin/python manage.py tokens"
        listed = done(documented(f"{shown} list ACME", kept.environment(), ACME="DEMO"))
        ids = {line.split("  ")[1].strip(): line.split()[0] for line in listed.splitlines()[1:] if line}
        story.disabled, story.rotated = ids["Customer websites"], ids["Partner feed"]
        done(documented(f"{shown} disable tok_8f3k2m9q", kept.environment(), tok_8f3k2m9q=story.disabled))
        rotate = f"{shown} rotate tok_8f3k2m9q --overlap 3600"
        overlap = {"tok_8f3k2m9q": story.rotated, "3600": 0}
        done(documented(rotate, kept.environment(), **overlap))
        until(lambda: list((story.place / "archive").glob("base-*Z/base.json")), seconds=120)
        with connect(kept.home / "db", "apperate_owner") as session:
            story.moment = session.execute("SELECT clock_timestamp()").fetchone()[0].isoformat()
        status, _ = ask(base, "POST", "/v1/record/DEMO/BATCHES", secret, [{"tag": "later", "line": "0"}])
        assert status == 200
        regular = story.place / "regular"
        until(lambda: list(regular.glob("apperate-*.tar")), seconds=120, said=kept.said)
        (story.place / "secret.keys").write_bytes((kept.home / "secret.keys").read_bytes())
        (story.place / "secret.keys").chmod(0o600)
        # The log of the last write must have arrived before the machine is gone.
        with connect(kept.home / "db", "apperate_owner") as session:
            (end,) = session.execute("SELECT pg_current_wal_flush_lsn()").fetchone()
            aside = "SELECT count(*) FROM pg_replication_slots WHERE restart_lsn >= %s"
            until(lambda: session.execute(aside, [end]).fetchone() == (1,), seconds=60)
        kept.end()
        subprocess.run(["mv", kept.home, kept.home.with_name("gone")], check=True)
        yield story


@pytest.fixture(scope="module")
def restored(story: Story) -> Iterator[Installation]:
    """A new machine: one command, then `up`."""
    target = story.empty("restored")
    beside = story.place / "gone" / "revocations.jsonl"
    line = ".venv/bin/python manage.py restore apperate.tar --passphrase-file backup.passphrase"
    named = f"{story.backup} --revocations {beside}"
    places = {"apperate.tar": named, "backup.passphrase": story.place / "passphrase"}
    ended = documented(line, story.environment(target), **places)
    target.restore_said = done(ended)  # type: ignore[attr-defined]
    try:
        with opened(target.home) as session:
            target.tables = digests(session)  # type: ignore[attr-defined]
        target.start()
        yield target
    finally:
        target.end()


def values_of(session: psycopg.Connection[Any], public_id: str) -> list[tuple[str, Any]]:
    return session.execute(
        "SELECT s.clear, s.retires_at FROM tokens_secret s JOIN tokens_token t ON t.id = s.token_id "
        "WHERE t.public_id = %s ORDER BY s.id",
        [public_id],
    ).fetchall()


def test_what_was_acknowledged_is_there_and_no_batch_in_part(story: Story, restored: Installation) -> None:
    """I1 and I2 at the point of the backup, which was made while a client wrote."""
    with connect(restored.home / "db", "apperate_owner") as session:
        rows = session.execute(
            "SELECT key, count(*) FROM records r JOIN datasets_dataset d ON d.id = r.dataset_id "
            "WHERE d.name = 'BATCHES' GROUP BY key"
        )
        found = dict(rows.fetchall())

    assert len(story.before) >= 5
    assert set(story.before) <= set(found) <= set(story.after)
    assert set(found.values()) == {BATCH}


def unequal(was: dict[str, str], is_now: dict[str, str]) -> set[str]:
    """The tables that differ; the queue's are written all the time."""
    return {name for name in was if was[name] != is_now[name] and not name.startswith("procrastinate_")}


def test_every_table_is_as_it_was(story: Story, restored: Installation) -> None:
    was, is_now = story.tables, restored.tables  # type: ignore[attr-defined]

    assert was.keys() == is_now.keys() and len(was) > 40
    assert unequal(was, is_now) <= CHANGED | COUNTED_LATER | SESSIONS


def test_old_tokens_answer_and_secrets_can_be_shown(story: Story, restored: Installation) -> None:
    base = f"http://127.0.0.1:{restored.port}"
    for token in (story.facts["publishable_token"], story.facts["secret_token"]):
        status, found = ask(base, "GET", "/v1/data/DEMO/CARS?limit=2", token)
        assert (status, len(found)) == (200, 2)
    said = done(manage(story.environment(restored), "doctor"))
    assert "ok    Secrets at rest" in said and "ok    Database role" in said and "ok    Audit log" in said
    modes = {name: (restored.home / name).stat().st_mode & 0o777 for name in ("secret.keys", "session.key")}
    assert modes == {"secret.keys": 0o600, "session.key": 0o600}


def test_what_was_revoked_after_the_backup_stays_revoked(story: Story, restored: Installation) -> None:
    base = f"http://127.0.0.1:{restored.port}"
    with connect(restored.home / "db", "apperate_owner") as session:
        ((disabled, _),) = values_of(session, story.disabled)
        ((old, retires_at),) = values_of(session, story.rotated)

    said = restored.restore_said  # type: ignore[attr-defined]
    assert "taken away again: 2" in said and story.disabled in said and story.rotated in said
    assert retires_at is not None
    for value, code in ((disabled, "token-disabled"), (old, "token-invalid")):
        status, refusal = ask(base, "GET", "/v1/data/DEMO/CARS?limit=1", value)
        assert (status, refusal["type"]) == (403, f"/docs/errors/#{code}")
    assert "Restored to" in restored.said() and "2 revocations since then were applied" in restored.said()


def test_workers_hear_of_changes_and_new_rows_get_new_numbers(story: Story, restored: Installation) -> None:
    """The stamps of transactions were made anew, and sequences go on after the restored rows."""
    base, secret = f"http://127.0.0.1:{restored.port}", story.facts["secret_token"]
    token = story.facts["publishable_token"]
    assert ask(base, "GET", "/v1/data/DEMO/CARS?limit=1", token)[0] == 200
    assert ask(base, "POST", "/v1/record/DEMO/BATCHES", secret, [{"tag": "new", "line": "0"}])[0] == 200
    with connect(restored.home / "db", "apperate_owner") as session:
        stamps = "SELECT count(*) FROM tokens_token WHERE changed_xid >= pg_current_xact_id()::text::bigint"
        assert session.execute(stamps).fetchone() == (0,)
        row = session.execute(
            "SELECT t.public_id FROM tokens_token t JOIN tokens_secret s ON s.token_id = t.id "
            "WHERE s.clear = %s",
            [token],
        ).fetchone()

    done(manage(story.environment(restored), "tokens", "disable", row[0]))

    until(lambda: ask(base, "GET", "/v1/data/DEMO/CARS?limit=1", token)[0] == 403)


def test_without_keys_it_is_said_what_does_not_work(story: Story, restored: Installation) -> None:
    """Into a database of DATABASE_URL, from a backup that went to standard output."""
    target, piped = story.empty("without"), story.place / "piped.tar"
    assert archive.read(piped).sealed_keys is None
    with connect(restored.home / "db", "apperate_owner") as session:
        session.execute("CREATE DATABASE elsewhere")
    options = f"host={restored.home / 'db'}&passfile={restored.home / 'db.key'}&user=apperate_owner"
    url = f"postgresql:///elsewhere?{options}"
    environment = story.environment(target, DATABASE_URL=url)
    line = "DATABASE_URL=postgresql://apperate:password@host/apperate .venv/bin/python manage.py restore"
    places = {
        "postgresql://apperate:password@host/apperate": f"'{url}'", "apperate.tar": piped,
        "--passphrase-file backup.passphrase": "--without-keys",
    }  # fmt: skip

    rest = " apperate.tar --passphrase-file backup.passphrase"
    said = done(documented(line + rest, story.environment(target), **places))
    doctor = manage(environment, "doctor")
    up = target.run(DATABASE_URL=environment["DATABASE_URL"])

    assert "Without its keys secrets cannot be shown and signatures not be checked: put secret.keys" in said
    assert "No file of revocations was found, so whatever was disabled, deleted or rotated since" in said
    with connect(restored.home / "db", "apperate_owner", "elsewhere") as session:
        assert unequal(story.tables, digests(session)) <= COUNTED_LATER | SESSIONS
    assert "fail  Secrets at rest: secret.keys is gone" in doctor.stdout
    assert up.returncode == 1 and "secret.keys is gone" in up.stderr
    assert not (target.home / "db").exists()


def test_a_restore_into_what_is_not_empty_is_refused(story: Story, restored: Installation) -> None:
    restored.stop()

    ended = manage(story.environment(restored), "restore", str(story.backup))

    assert ended.returncode == 1
    assert "a restore needs an empty one. Set APPERATE_DATA_DIR to a new folder, or move" in ended.stderr
    assert "Traceback" not in ended.stderr and not (restored.home / NOTE).exists()


def test_a_wrong_passphrase_or_a_damaged_file_touches_nothing(story: Story) -> None:
    target = story.empty("refused")
    damaged = story.place / "damaged.tar"
    data = bytearray(story.backup.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)

    other = {"APPERATE_BACKUP_PASSPHRASE_FILE": "", "APPERATE_BACKUP_PASSPHRASE": "not the right one"}
    wrong = manage(story.environment(target, **other), "restore", str(story.backup))
    broken = manage(story.environment(target), "restore", str(damaged))

    assert "The passphrase does not open the keys of this backup." in wrong.stderr
    assert f"{damaged} is damaged: database/" in broken.stderr
    assert (wrong.returncode, broken.returncode) == (1, 1)
    assert not (target.home / "db").exists()


def test_one_that_was_killed_is_never_served_and_the_next_starts_over(story: Story) -> None:
    target = story.empty("killed")
    environment = story.environment(target)
    running = subprocess.Popen(
        [sys.executable, "manage.py", "restore", str(story.backup)], cwd=ROOT, env=environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    until((target.home / NOTE).exists, seconds=120)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()

    refused = target.run(APPERATE_DEMO="0")
    assert refused.returncode == 1
    assert "did not come to its end: run `manage.py restore` again" in refused.stderr

    said = done(manage(environment, "restore", str(story.backup)))
    assert "did not come to its end; this one" in said and "Restored to" in said
    assert not (target.home / NOTE).exists()
    until(lambda: not target.left())


def test_back_to_a_moment(story: Story) -> None:
    """The log that was kept aside leads to a moment between two writes, and what was revoked stays so."""
    target = story.empty("moment")
    (target.home / "secret.keys").write_bytes((story.place / "secret.keys").read_bytes())
    (target.home / "secret.keys").chmod(0o600)
    environment = story.environment(target)
    (target.home / "db").mkdir()
    done(documented("mv var/db var/db.before", environment, **{"var/db": target.home / "db"}))
    line = '.venv/bin/python manage.py restore /archive --until "2026-11-30 12:00"'

    places = {"/archive": story.place / "archive", "2026-11-30 12:00": story.moment}
    said = done(documented(line, environment, **places))

    with opened(target.home) as session:
        found = session.execute(
            "SELECT key FROM records WHERE key LIKE 'batch-%' OR key = 'later' GROUP BY key"
        )
        keys = {key for (key,) in found.fetchall()}
        assert session.execute("SELECT pg_is_in_recovery()").fetchone() == (False,)
        (_, retires_at), *_ = values_of(session, story.rotated)
    assert keys == set(story.after)
    assert "Back at 20" in said
    assert retires_at is not None
    assert "ok    Secrets at rest" in manage(environment, "doctor").stdout
    until(lambda: not target.left())


def test_the_regular_backup_was_made_by_itself(story: Story) -> None:
    (made,) = (story.place / "regular").glob("apperate-*.tar")

    checked = archive.read(made)

    assert checked.sealed_keys and checked.manifest.tables["tokens_token"] > 3
    assert made.stat().st_mode & 0o777 == 0o600
    copies = list((story.place / "regular").glob("revocations-*.jsonl"))
    assert len(copies) == 1 and story.disabled in copies[0].read_text()
    at = datetime.fromisoformat(checked.manifest.made_at)
    assert abs((datetime.now(UTC) - at).total_seconds()) < 3600


def test_new_keys_and_a_workspace_by_the_documented_commands(story: Story, restored: Installation) -> None:
    environment = story.environment(restored)
    if restored.left():
        restored.stop()

    invited = documented(
        ".venv/bin/python manage.py createworkspace ACME --owner owner@example.com", environment
    )
    encrypted = documented(".venv/bin/python manage.py reencrypt --new-key", environment)

    assert "/join/" in done(invited)
    assert "0 were under the first key already" in done(encrypted)
    until(lambda: not restored.left())


def test_every_command_of_the_page_was_run(request: pytest.FixtureRequest) -> None:
    """Those of make are shown to be targets: one starts what the tests above start, one asks an index."""
    here = [item for item in request.session.items if item.path == request.path]
    if len(here) < len([name for name in globals() if name.startswith("test_")]):
        pytest.skip("the tests that run them were not all chosen")
    page = (ROOT / "docs" / "operating.md").read_text()
    ours = page[page.index("## Backup\n") : page.index("## Who can open the embedded database")]
    for line in COMMANDS - RUN:
        arguments = shlex.split(line)
        if "make" in arguments:
            done(documented(line, dict(os.environ), make="make -n"))
        elif "manage.py" in arguments:
            # Other tests run these; here it is enough that the command knows its arguments.
            name, *rest = arguments[arguments.index("manage.py") + 1 :]
            if name in get_commands():
                get_parser(name).parse_args(rest)
                RUN.add(line)

    assert {line for line in COMMANDS - RUN if line in ours} == set()
    # What asks the network is for whoever reads it; `reload` comes with the servers that it reloads.
    left = COMMANDS - RUN
    assert all(line.endswith(("git pull", "manage.py reload")) or " -m pip " in line for line in left)
    assert len(COMMANDS) >= 12


def get_parser(name: str) -> CommandParser:
    command = load_command_class(get_commands()[name], name)
    return command.create_parser("manage.py", name)
