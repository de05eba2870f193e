"""A backup of the tests' own database: one snapshot, the files of open jobs, and one at a time."""

import io
from pathlib import Path

import psycopg
import pytest
from django.conf import LazySettings
from django.db import connection

from apperate.backup import archive, loading, making, programs
from apperate.backup.manifest import LEFT_OUT, Unusable
from datasets.models import IngestJob
from tests.support.factories import DatasetFactory, TokenFactory

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def ingest(settings: LazySettings, tmp_path: Path) -> Path:
    settings.DATA_DIR, settings.INGEST_DIR = tmp_path, tmp_path / "ingest"
    settings.INGEST_DIR.mkdir()
    return settings.INGEST_DIR


def job(ingest: Path, status: str, text: str) -> IngestJob:
    made = IngestJob.objects.create(dataset=DatasetFactory(), status=status)
    (ingest / made.public_id).mkdir()
    (ingest / made.public_id / "body").write_text(text)
    return made


def test_rows_and_the_files_of_open_jobs(ingest: Path, tmp_path: Path) -> None:
    TokenFactory.create_batch(3)
    waits = job(ingest, IngestJob.Status.CREATED, "key\n1\n")
    ended = job(ingest, IngestJob.Status.ERROR, "key\n2\n")
    out = io.BytesIO()

    manifest = making.make(out, passphrase=None)

    path = tmp_path / "backup.tar"
    path.write_bytes(out.getvalue())
    checked = archive.read(path)
    assert checked.manifest == manifest
    assert (manifest.keys, manifest.open_jobs, checked.sealed_keys) == (LEFT_OUT, 1, None)
    assert (manifest.tables["tokens_token"], manifest.tables["datasets_ingestjob"]) == (3, 2)
    assert {"accounts", "tokens", "datasets"} <= manifest.migrations.keys()
    assert archive.extract(path, tmp_path / "restored") == 1
    assert (tmp_path / "restored" / waits.public_id / "body").read_text() == "key\n1\n"
    assert not (tmp_path / "restored" / ended.public_id).exists()
    assert not (tmp_path / making.STAGING).exists()


def test_a_job_that_ends_meanwhile_takes_no_file_away(ingest: Path) -> None:
    waits = job(ingest, IngestJob.Status.CREATED, "key\n1\n")

    with making.staged(ingest) as stage:
        stage.link()
        (ingest / waits.public_id / "body").unlink()
        stage.link()

        (kept,) = stage.files_of(waits.public_id)
        assert kept.read_text() == "key\n1\n"


def test_two_at_once_refuse_each_other() -> None:
    with programs.session() as other:
        assert other.execute(making.LOCK).fetchone() == (True,)

        with pytest.raises(Unusable, match="Another backup of this database is being made"):
            making.make(io.BytesIO(), passphrase=None)


def test_a_disk_that_is_nearly_full_stops_it(
    settings: LazySettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.DISK_RESERVE_MB, settings.DISK_RESERVE_IS_SET = 10**9, True

    with pytest.raises(Unusable, match="are kept back: make room, or take another disk"):
        making.make(io.BytesIO(), passphrase=None, folder=tmp_path)


def test_a_server_newer_than_the_programs_is_said() -> None:
    with pytest.raises(Unusable, match=r"This needs pg_dump 99 or newer, and there is \d+"):
        programs.find("pg_dump", at_least=99)
    assert programs.find("pg_dump", at_least=15).major >= 15
    given = {name for name, value in programs.environment().items() if "PASSWORD" in name and value}
    assert given == ({"PGPASSWORD"} if connection.settings_dict["PASSWORD"] else set())


# --- the way back into tables -------------------------------------------------------------------


def loaded(script: bytes) -> list[tuple[object, ...]]:
    with programs.session() as session:
        try:
            with session.transaction(force_rollback=True), session.cursor() as cursor:
                loading.load(cursor, io.BytesIO(script))
                return cursor.execute("SELECT * FROM loaded_here ORDER BY 1").fetchall()
        finally:
            assert session.execute("SELECT to_regclass('loaded_here')").fetchone() == (None,)


def test_a_script_of_pg_restore_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "BLOCK_BYTES", 3)
    rows = b"1\tone\n2\t\\\\.\n3\t\\\\restrict x\n4\tCOPY loaded_here FROM stdin;\n5\t\\N\n"
    script = (
        b"\\restrict abc\nSET transaction_timeout = 0;\nSELECT 1;\n"
        b"CREATE TABLE loaded_here (a int, b text);\nCOPY loaded_here (a, b) FROM stdin;\n"
        + rows
        + b"\\.\n\nINSERT INTO loaded_here VALUES (6, 'six');\n"
        b"COPY loaded_here (a, b) FROM stdin;\n\\.\n\\unrestrict abc\n"
    )

    found = loaded(script)

    assert [number for number, _ in found] == [1, 2, 3, 4, 5, 6]
    expected = ["one", "\\.", "\\restrict x", "COPY loaded_here FROM stdin;", None, "six"]
    assert [text for _, text in found] == expected


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (b"CREATE TABLE loaded_here (a int);\nCOPY loaded_here (a) FROM stdin;\n1\n", EOFError),
        (b"CREATE TABLE loaded_here (a int);\nCOPY loaded_here (a) FROM stdin;\nx\n\\.\n", psycopg.Error),
        (b"CREATE TABLE loaded_here (a int);\nSELECT no_such_function();\n", psycopg.Error),
    ],
    ids=["cut short in rows", "no number", "not known"],
)
def test_what_cannot_be_loaded_leaves_nothing(script: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        loaded(script)
