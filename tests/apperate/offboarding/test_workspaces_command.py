"""`manage.py workspaces`: a workspace leaves with everything, and nothing of it stays."""

import csv
import hashlib
import io
import json
import os
import subprocess
import sys
import zipfile
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection

from apperate.accounts.audit import chain, trail
from apperate.accounts.models import AuditEvent, Invitation, Membership, Role, User, Workspace
from apperate.database import sealing
from apperate.database.clock import database_now
from apperate.database.embedded import binaries
from apperate.kernel import keyring
from apperate.offboarding import erasure
from datasets.models import Dataset, IngestJob, StagedFile
from datasets.storage import job_files
from tests.support.data_plane_client import DataPlaneClient
from tests.support.factories import LONG_AGO, RevisionFactory, TokenFactory, WorkspaceFactory
from tokens.models import Token, TokenRefusal, UsageCounter
from tokens.rules.token_format import TokenKind

pytestmark = pytest.mark.django_db(transaction=True)
PLANTED = "zanzibar"  # in every text of the workspace that somebody chose
BODY = [{"symbol": f"{PLANTED}-{number}", "price": number} for number in range(3)]


@pytest.fixture(autouse=True)
def folders(settings: LazySettings, tmp_path: Path) -> None:
    settings.DATA_DIR, settings.INGEST_DIR = tmp_path / "data", tmp_path / "data" / "ingest"


@pytest.fixture
def planted(api: DataPlaneClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Workspace:
    """A workspace with something of every kind, PLANTED in each; and a neighbour with a member of both."""
    ring = keyring.load({}, tmp_path)
    monkeypatch.setattr(sealing, "keys", lambda: ring)
    workspace = WorkspaceFactory(name=PLANTED.upper(), title=f"The {PLANTED}")
    neighbour = WorkspaceFactory(name="NEIGHBOUR")
    alone = User.objects.create_user(f"alone@{PLANTED}.example", name=f"{PLANTED} alone")
    both = User.objects.create_user("both@neighbour.example")
    Membership.objects.create(workspace=workspace, user=alone, role=Role.PRIMARY)
    Membership.objects.create(workspace=workspace, user=both)
    Membership.objects.create(workspace=neighbour, user=both)
    now = database_now()
    Invitation.objects.create(
        workspace=workspace, email=f"new@{PLANTED}.example", digest=b"d" * 32, expires_at=now
    )
    secret = TokenFactory(workspace=workspace, kind=TokenKind.SECRET)
    token = TokenFactory(workspace=workspace, nickname=f"{PLANTED} feed")
    RevisionFactory(token=token, saved_at=LONG_AGO, effective_at=LONG_AGO, core_data_access=True)
    for number in range(2):
        url = f"/v1/record/{PLANTED}/{PLANTED}_{number}?token={secret.test_value}"
        written = api.post(url, BODY, headers={"Idempotency-Key": f"{PLANTED}-{number}"})
        assert written.status == 200, written.body
    dataset = workspace.datasets.get(name=f"{PLANTED}_0".upper())
    gone = api.delete(f"/v1/data/{PLANTED}/{PLANTED}_0/{generated_key(dataset)}?token={secret.test_value}")
    assert gone.status == 200, gone.body
    job = IngestJob.objects.create(
        dataset=dataset, file_name=f"{PLANTED}.csv", status=IngestJob.Status.ERROR, ended_at=now
    )
    job_files.make_folder(job_files.folder(job))
    job_files.body(job).write_text(PLANTED)
    upload = Path(job_files.settings.INGEST_DIR) / job_files.UPLOADS / f"{PLANTED}-upload"
    upload.mkdir(parents=True)
    (upload / "body").write_text(PLANTED)
    StagedFile.objects.create(name=f"upload/{PLANTED}-upload", workspace=workspace, bytes=8)
    UsageCounter.objects.create(token_id=token.pk, operation="read", outcome="ok", minute=now, calls=7)
    TokenRefusal.objects.create(
        token_id=token.pk, code="not-found", site=f"{PLANTED}.example", calls=1, first_at=now, last_at=now
    )
    trail.record("token.renamed", workspace=workspace, by=alone, now=now, after={"nickname": PLANTED})
    trail.record("token.renamed", workspace=neighbour, by=both, now=now, after={"nickname": "kept"})
    return workspace


def generated_key(dataset: Dataset) -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT key FROM records WHERE dataset_id = %s LIMIT 1", [dataset.pk])
        return str(cursor.fetchone()[0])


def run(*arguments: str) -> str:
    said = StringIO()
    call_command("workspaces", *arguments, stdout=said, stderr=StringIO())
    return said.getvalue()


def dump() -> str:
    """Every row of the database, as pg_dump writes it."""
    program = binaries.find(connection.pg_version // 10_000).folder / "pg_dump"  # type: ignore[attr-defined]
    arguments = {**connection.get_connection_params()}
    words = ("dbname", "user", "host", "port", "passfile")
    conninfo = " ".join(f"{name}={arguments[name]}" for name in words if arguments.get(name))
    password = {"PGPASSWORD": arguments["password"]} if arguments.get("password") else {}
    done = subprocess.run(
        [program, "--data-only", "-d", conninfo], capture_output=True, text=True, check=True,
        env={**os.environ, **password},
    )  # fmt: skip
    return done.stdout


def files_with(text: str, folder: Path) -> list[Path]:
    return [
        path
        for path in folder.rglob("*")
        if text in path.name or (path.is_file() and text.encode() in path.read_bytes())
    ]


def test_an_export_has_everything_and_no_secret(planted: Workspace, tmp_path: Path) -> None:
    target = tmp_path / "acme.zip"
    token = planted.tokens.get(nickname=f"{PLANTED} feed")

    run("export", PLANTED, "--to", str(target))

    assert target.stat().st_mode & 0o077 == 0
    with zipfile.ZipFile(target) as archive:
        assert archive.testzip() is None
        read = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(read["manifest.json"])
    assert manifest["workspace"] == PLANTED.upper() and manifest["format"] == 1
    assert {one["name"]: one["sha256"] for one in manifest["files"]} == {
        name: hashlib.sha256(body).hexdigest() for name, body in read.items() if name != "manifest.json"
    }
    folder = f"datasets/{PLANTED.upper()}_0"
    assert len(read[f"{folder}/records.ndjson"].splitlines()) == 2
    assert len(read[f"{folder}/deleted.ndjson"].splitlines()) == 1
    everything = [
        json.loads(line) for line in read[f"datasets/{PLANTED.upper()}_1/records.ndjson"].splitlines()
    ]
    assert sorted(one["symbol"] for one in everything) == [one["symbol"] for one in BODY]
    assert json.loads(read[f"{folder}/schema.json"])["schema"]["properties"].keys() == {"symbol", "price"}
    assert {one["email"] for one in json.loads(read["members.json"])} == {
        f"alone@{PLANTED}.example", "both@neighbour.example",
    }  # fmt: skip
    assert json.loads(read["invitations.json"])[0]["email"] == f"new@{PLANTED}.example"
    tokens = {one["id"]: one for one in json.loads(read["tokens.json"])}
    assert tokens[token.public_id]["settings"]["coreDataAccess"] is True
    assert 7 in [json.loads(line)["calls"] for line in read["usage.ndjson"].splitlines()]
    assert json.loads(read["refusals.ndjson"])["site"] == f"{PLANTED}.example"
    assert json.loads(read["jobs.ndjson"])["fileName"] == f"{PLANTED}.csv"
    events = list(csv.reader(io.StringIO(read["audit-log.csv"].decode())))
    assert any("token.renamed" in row for row in events) and len(events) > 3
    whole = b"".join(read.values())
    for one in planted.tokens.all():
        for secret in one.secrets.all():
            assert bytes(secret.digest).hex().encode() not in whole
    assert b"pk_" not in whole and b"sk_" not in whole and b"both@neighbour" in whole
    assert AuditEvent.objects.filter(workspace=planted, action="workspace.exported").count() == 1


def test_an_export_overwrites_nothing_and_leaves_no_half(
    planted: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "there.zip"
    there.write_text("mine")
    with pytest.raises(CommandError, match="is there already"):
        run("export", PLANTED, "--to", str(there))
    assert there.read_text() == "mine"
    with pytest.raises(CommandError, match="cannot be written: No such file or directory"):
        run("export", PLANTED, "--to", str(tmp_path / "nowhere" / "a.zip"))

    monkeypatch.setattr("apperate.offboarding.export.usage", lambda workspace: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run("export", PLANTED, "--to", str(tmp_path / "half.zip"))

    assert sorted(path.name for path in tmp_path.glob("*.zip*")) == ["there.zip"]
    assert not list(tmp_path.glob(".*.part"))


def test_nothing_of_an_erased_workspace_is_left(
    planted: Workspace, api: DataPlaneClient, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasure, "WAIT_SECONDS", 0)
    assert PLANTED in dump().lower()
    data_dir = Path(settings.DATA_DIR)
    assert files_with(PLANTED, data_dir)
    ids = list(planted.tokens.values_list("public_id", flat=True))
    kept = AuditEvent.objects.filter(workspace__name="NEIGHBOUR").count()
    erased_id = planted.pk

    said = run("erase", PLANTED, "--yes")

    assert "2 tokens, 2 datasets" in said and "1 people, 2 folders of files" in said
    assert "What remains, and why" in said
    everything = dump()
    assert PLANTED not in everything.lower()
    assert not [public_id for public_id in ids if public_id in everything]
    assert not files_with(PLANTED, data_dir)
    for table, column in (("accounts_auditevent", "workspace_id"), ("accounts_audithead", "chain")):
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT count(*) FROM {table} WHERE {column} = %s", [erased_id])  # noqa: S608
            assert cursor.fetchone() == (0,)
    assert User.objects.filter(email="both@neighbour.example").exists()
    assert AuditEvent.objects.filter(workspace__name="NEIGHBOUR").count() == kept
    assert chain.breaks() == []
    last = AuditEvent.objects.filter(action="workspace.erased").get()
    assert last.workspace_id is None and last.after["workspace_id"] == erased_id
    assert last.after["last_seal"] in said and last.after["events"] > 3
    with connection.cursor() as cursor:
        cursor.execute("SELECT tgenabled FROM pg_trigger WHERE tgname = 'audit_rows_stay'")
        assert cursor.fetchone()[0] in {"O", b"O"}


def test_tokens_are_served_no_more_once_it_is_closed(planted: Workspace, api: DataPlaneClient) -> None:
    token = TokenFactory(workspace=planted, kind=TokenKind.PUBLISHABLE)
    RevisionFactory(token=token, saved_at=LONG_AGO, effective_at=LONG_AGO)
    assert api.get(f"/v1/token?token={token.test_value}").status == 200

    erasure.close(planted, now=database_now())

    from apperate.database.changes import changes

    api.run(changes.poll())
    assert api.get(f"/v1/token?token={token.test_value}").code == "token-disabled"
    assert not Token.objects.filter(workspace=planted, disabled_at=None).exists()
    assert not planted.datasets.kept().exists()
    assert not User.objects.get(email=f"alone@{PLANTED}.example").is_active
    assert [one.user.email for one in planted.memberships.all()] == [f"alone@{PLANTED}.example"]
    # Interrupted here, it is run again.
    erasure.close(planted, now=database_now())
    assert erasure.erase(planted, now=database_now()).people == 1
    assert not Workspace.objects.filter(name=PLANTED.upper()).exists()


def test_it_is_asked_for_by_its_name(planted: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasure, "WAIT_SECONDS", 0)
    with pytest.raises(CommandError, match="repeat it with --yes"):
        run("erase", PLANTED)

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _: "ACME")
    with pytest.raises(CommandError, match="another name; nothing was erased"):
        run("erase", PLANTED)
    assert planted.tokens.filter(disabled_at=None).count() == 2

    monkeypatch.setattr("builtins.input", lambda _: f" {PLANTED.upper()} ")
    assert "is erased" in run("erase", PLANTED)


@pytest.mark.parametrize("what", ["export", "erase"])
def test_another_workspace_is_not_there(what: str) -> None:
    with pytest.raises(CommandError, match="There is no workspace NOWHERE"):
        run(what, "nowhere")


def test_a_system_workspace_is_refused() -> None:
    core = WorkspaceFactory(name="CORE", is_system=True)

    with pytest.raises(CommandError, match="CORE is a system workspace"):
        run("erase", core.name, "--yes")

    assert Workspace.objects.filter(pk=core.pk).exists()


def test_many_events_go_in_steps_that_fit_together(
    planted: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasure, "EVENTS_AT_ONCE", 2)
    steps: list[list[Any]] = []
    lift = erasure._lift_limits
    monkeypatch.setattr(erasure, "_lift_limits", lambda: (lift(), steps.append(chain.breaks()))[0])
    for number in range(5):
        at = datetime(2026, 1, 1, number, tzinfo=UTC)
        trail.record("token.renamed", workspace=planted, by=None, now=at, after={"nickname": PLANTED})

    events, _ = erasure._erase_events(planted)

    assert events == len(steps) * 2 - 2 or events == len(steps) * 2 - 1
    assert all(found == [] for found in steps) and len(steps) > 3
