"""`manage.py doctor` names what is wrong, says what to do, and changes nothing."""

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.core.management import call_command
from django.db import OperationalError, connection

from apperate.accounts.models import Workspace
from apperate.database import sealing
from apperate.database.clock import database_now
from apperate.doctor import contents, database, examination, machine, surroundings, work
from apperate.doctor.findings import OK, Finding, first_line
from apperate.kernel import keyring
from tests.support.factories import DatasetFactory, TokenFactory
from tests.support.installation import free_port
from tokens.rules.token_format import TokenKind
from tokens.services import lifecycle

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def data_dir(settings: LazySettings, tmp_path: Path) -> Path:
    settings.DATA_DIR = tmp_path
    return tmp_path


@pytest.fixture
def empty_queue(db: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_jobs; DELETE FROM procrastinate_workers")


def run(*options: str) -> tuple[str, int]:
    said = StringIO()
    try:
        call_command("doctor", *options, stdout=said)
    except SystemExit as end:
        return said.getvalue(), int(str(end.code))
    return said.getvalue(), 0


def level(finding: Finding, expected: str, said: str) -> Finding:
    assert finding.level == expected, finding
    assert said in f"{finding.detail} {finding.advice}"
    assert bool(finding.advice) == (expected != OK)
    return finding


def heartbeat(seconds_ago: float) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - make_interval(secs => %s))",
            [seconds_ago],
        )


@pytest.mark.django_db
def test_a_sound_installation_has_no_failure(empty_queue: None) -> None:
    heartbeat(1)

    said, code = run()

    assert code == 0
    assert not any(line.startswith("fail") for line in said.splitlines())
    for subject in (
        "Data directory",
        "Disk space",
        "Database",
        "Tables",
        "Database role",
        "Audit log",
        "Background work",
    ):
        assert subject in said


@pytest.mark.django_db
def test_the_findings_come_as_json_too(empty_queue: None) -> None:
    said, _ = run("--json")

    findings = json.loads(said)
    assert {tuple(finding) for finding in findings} == {("level", "subject", "detail", "advice")}


@pytest.mark.django_db
def test_one_failure_ends_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examination, "WITHOUT_DATABASE", (lambda: Finding("fail", "X", "Y.", "Z."),))

    said, code = run()

    assert code == 1
    assert "fail  X: Y.\n      Z." in said


def test_a_database_that_is_away_is_said_without_its_password() -> None:
    environment = os.environ | {
        "DATABASE_URL": "postgresql://someone:hunter2hunter2@127.0.0.1:1/data",
        "DJANGO_SETTINGS_MODULE": "apperate.settings",
    }
    environment.pop("APPERATE_DATABASE_ROLE", None)

    ended = subprocess.run(
        [sys.executable, "manage.py", "doctor"], cwd=ROOT, env=environment, capture_output=True, text=True
    )

    assert ended.returncode == 1
    assert "fail  Database: " in ended.stdout
    assert "hunter2" not in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
    assert "Tables" not in ended.stdout


@pytest.mark.parametrize("name", ["secret.keys", "session.key", "demo.json"])
def test_a_private_file_that_others_can_read(data_dir: Path, name: str) -> None:
    (data_dir / name).write_text("secret")
    (data_dir / name).chmod(0o640)

    found = level(machine.data_directory(), "fail", f"Others can read {name}")

    assert found.advice == f"Run: chmod 600 {data_dir / name}"
    (data_dir / name).chmod(0o600)
    level(machine.data_directory(), "ok", str(data_dir))


def test_a_disk_that_is_nearly_full(settings: LazySettings) -> None:
    settings.DISK_RESERVE_IS_SET = True
    free_mb = (
        min(shutil.disk_usage(place).free for place in (settings.DATA_DIR, tempfile.gettempdir())) // 10**6
    )
    for reserve_mb, expected in (
        (0, "ok"),
        (free_mb // 4, "ok"),
        (free_mb * 2 // 3, "warn"),
        (10**9, "fail"),
    ):
        settings.DISK_RESERVE_MB = reserve_mb

        finding = machine.disk_space()

        assert finding.level == expected, finding
        assert ("make room" in finding.advice) == (expected != "ok")


@pytest.mark.parametrize(
    ("url", "https", "expected"),
    [
        ("http://127.0.0.1:8000", False, "ok"),
        ("http://localhost:8000", False, "ok"),
        ("http://[::1]:8000", False, "ok"),
        ("https://data.example.com", True, "ok"),
        ("http://data.example.com", False, "warn"),
        ("http://10.0.0.5:8000", False, "warn"),
    ],
)
def test_plain_http_to_a_network(settings: LazySettings, url: str, https: bool, expected: str) -> None:
    settings.PUBLIC_URL, settings.SERVES_HTTPS, settings.TRUSTED_PROXIES = url, https, 1

    level(surroundings.public_address(), expected, url)


def test_messages_that_are_only_printed(settings: LazySettings) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"

    level(surroundings.mail(), "warn", "EMAIL_URL")


def test_static_files_that_are_missing(settings: LazySettings, tmp_path: Path) -> None:
    settings.STATIC_ROOT = tmp_path
    backend = "whitenoise.storage.CompressedManifestStaticFilesStorage"
    settings.STORAGES = settings.STORAGES | {"staticfiles": {"BACKEND": backend}}
    level(machine.static_files(), "fail", "not collected")

    (tmp_path / "staticfiles.json").write_text("{}")

    level(machine.static_files(), "warn", "of another version")


@pytest.mark.django_db
def test_migrations_that_are_not_applied() -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'datasets'")

    level(database.tables(), "fail", "migrations are not applied: datasets.0001_initial")


@pytest.mark.django_db
def test_a_missing_table_is_a_finding() -> None:
    def look() -> Finding:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM nowhere")
        return Finding("ok", "", "")

    found = examination.guarded(look)

    level(found, "fail", 'relation "nowhere" does not exist')
    assert found.subject == "Look"


@pytest.mark.django_db
def test_a_role_that_owns_the_tables_should_not_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    level(database.database_role(), "ok", "may do what it needs")

    monkeypatch.delenv("APPERATE_DATABASE_ROLE")

    level(database.database_role(), "warn", "DATABASE_OWNER_URL")


@pytest.mark.django_db
def test_an_audit_log_whose_trigger_is_off() -> None:
    level(contents.audit_log(), "ok", "stay as they were written")

    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE accounts_auditevent DISABLE TRIGGER audit_rows_stay")

    level(contents.audit_log(), "fail", "switched off")


@pytest.mark.django_db
def test_a_role_without_a_right_it_needs() -> None:
    with connection.cursor() as cursor:
        cursor.execute("REVOKE INSERT ON records FROM CURRENT_USER")

    level(database.database_role(), "fail", "lacks INSERT on records")


@pytest.mark.django_db
def test_clocks_that_are_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    level(database.clock(), "ok", "agrees")
    there = database_now() - timedelta(seconds=90)

    monkeypatch.setattr(database, "database_now", lambda: there)

    level(database.clock(), "warn", "90 s apart")


@pytest.mark.django_db
def test_secrets_under_another_key(
    workspace: Workspace, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    level(contents.secrets_at_rest(), "ok", "There are none yet")
    assert not (data_dir / keyring.KEY_FILE).exists()
    ring = keyring.load({}, data_dir)
    monkeypatch.setattr(sealing, "keys", lambda: ring)
    lifecycle.create_secret_token(workspace=workspace, by=None, now=database_now())
    level(contents.secrets_at_rest(), "ok", "1 secrets can be decrypted")

    (data_dir / keyring.KEY_FILE).write_text(keyring.new_key())

    level(contents.secrets_at_rest(), "fail", "1 of 1 secrets were encrypted under another key")
    (data_dir / keyring.KEY_FILE).unlink()
    level(contents.secrets_at_rest(), "fail", "is gone")
    assert not (data_dir / keyring.KEY_FILE).exists()


@pytest.mark.django_db
def test_keys_that_cannot_be_used_are_not_shown(data_dir: Path) -> None:
    TokenFactory(kind=TokenKind.SECRET)
    (data_dir / keyring.KEY_FILE).write_text("not a key at all")
    (data_dir / keyring.KEY_FILE).chmod(stat.S_IRUSR)

    found = level(contents.secrets_at_rest(), "fail", "is not")

    assert "not a key at all" not in found.detail


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("seconds_ago", "expected", "said"),
    [(1, "ok", "1 workers alive"), (31, "warn", "0 workers alive"), (None, "warn", "0 workers alive")],
    ids=["alive", "silent", "none"],
)
def test_background_work_has_a_heartbeat(
    empty_queue: None, seconds_ago: float | None, expected: str, said: str
) -> None:
    if seconds_ago is not None:
        heartbeat(seconds_ago)

    level(work.background_work(), expected, said)


@pytest.mark.django_db
def test_workers_that_may_not_see_each_others_files(empty_queue: None, settings: LazySettings) -> None:
    heartbeat(1)
    heartbeat(1)

    found = level(work.background_work(), "warn", "each fails the jobs whose file another one received")
    assert "2 workers alive" in found.detail
    settings.UPLOADS = "database"
    level(work.background_work(), "ok", "2 workers alive")


@pytest.mark.django_db
def test_a_job_that_waits_too_long(empty_queue: None) -> None:
    heartbeat(1)
    from datasets.jobs.making import ingest

    ingest.defer(job_id=DatasetFactory().pk)
    level(work.background_work(), "ok", "0 jobs waiting")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE procrastinate_events SET at = at - interval '2 minutes'")

    level(work.background_work(), "fail", "1 jobs waiting for more than a minute")


@pytest.mark.parametrize("error", [OperationalError("first\nsecond"), OperationalError()])
def test_an_error_is_said_in_one_line(error: Any) -> None:
    assert first_line(error) in {"first", "OperationalError"}


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("DROP INDEX tokens_usage_by_minute", "index tokens_usage_by_minute of tokens_usagecounter"),
        (
            "ALTER TABLE tokens_usagecounter DROP CONSTRAINT tokens_usage_once",
            "constraint tokens_usage_once of tokens_usagecounter",
        ),
        ("DROP TRIGGER stamp_change ON tokens_token", "trigger stamp_change of tokens_token"),
        ("ALTER TABLE datasets_dataset DISABLE TRIGGER stamp_change", "stamp_change of datasets_dataset"),
    ],
)
def test_what_was_dropped_from_the_database_is_named(statement: str, said: str) -> None:
    level(database.tables(), "ok", "Every migration is applied")

    with connection.cursor() as cursor:
        cursor.execute(statement)

    level(database.tables(), "fail", said)


@pytest.mark.parametrize(
    ("url", "hosts", "proxies", "expected", "said"),
    [
        ("https://data.example.com", ["data.example.com"], 1, "ok", "https://data.example.com"),
        ("https://data.example.com", [".example.com"], 1, "ok", "https://data.example.com"),
        ("https://data.example.com", ["other.example.com"], 1, "fail", "Pages refuse data.example.com"),
        ("https://data.example.com", ["*"], 0, "fail", "redirected to itself"),
        ("http://127.0.0.1:8000", ["data.example.com"], 0, "fail", "Pages refuse 127.0.0.1"),
    ],
)
def test_an_address_that_pages_do_not_answer_to_is_named(
    settings: LazySettings, url: str, hosts: list[str], proxies: int, expected: str, said: str
) -> None:
    settings.PUBLIC_URL, settings.ALLOWED_HOSTS, settings.TRUSTED_PROXIES = url, hosts, proxies
    settings.SERVES_HTTPS = url.startswith("https")

    level(surroundings.public_address(), expected, said)


def test_a_mail_server_that_is_away_is_named(settings: LazySettings) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", free_port()

    level(surroundings.mail(), "fail", "The mail server cannot be reached")


def test_a_replica_that_is_nowhere_is_named(tmp_path: Path) -> None:
    level(database.replica(), "ok", "None is named")

    url = f"postgresql://reader:secret@127.0.0.1:{free_port()}/apperate"
    environment = os.environ | {
        "APPERATE_DATA_DIR": str(tmp_path / "data"),
        "DATABASE_REPLICA_URL": url,
        "DJANGO_SETTINGS_MODULE": "apperate.settings",
    }
    program = "import django; django.setup(); from apperate.doctor import database; print(database.replica())"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )

    assert "level='fail'" in done.stdout and "DATABASE_REPLICA_URL" in done.stdout
    assert "secret" not in done.stdout + done.stderr
