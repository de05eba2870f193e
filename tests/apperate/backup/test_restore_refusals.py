"""What `manage.py restore` and `manage.py backup` refuse before they look at any database."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command

from apperate.backup import point_in_time, recovery, restoring
from apperate.backup.manifest import Unusable
from apperate.running import listening
from tests.apperate.backup.test_backup_files import file  # noqa: F401  A fixture.


@pytest.fixture(autouse=True)
def data_dir(settings: LazySettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    settings.DATA_DIR, settings.BACKUP_TO = tmp_path / "data", ""
    for name in ("PASSPHRASE", "PASSPHRASE_FILE", "WITHOUT_KEYS"):
        monkeypatch.delenv(f"APPERATE_BACKUP_{name}", raising=False)
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["/no/such/file", "--without-keys"], "/no/such/file is not there"),
        (["/tmp", "--without-keys"], "/tmp is a folder: name the file"),
        (["/no/such/file", "--revocations", "/no/such/list"], "There is no file /no/such/list"),
        (["/tmp", "--until", "yesterday"], "--until 'yesterday' is no time. Needed: one like"),
        (["/tmp", "--until", "2026-11-30 12:00"], "holds no base backup"),
    ],
    ids=["no file", "folder", "no revocations", "no time", "no archive"],
)
def test_a_restore_of_what_is_none(
    arguments: list[str], said: str, settings: LazySettings, data_dir: Path
) -> None:
    settings.DATABASES["default"] = settings.DATABASES["default"] | {"ENGINE": "apperate.database.embedded"}

    with pytest.raises(CommandError, match=said):
        call_command("restore", *arguments)

    assert {path.name for path in data_dir.iterdir()} == {listening.RUNNING_FILE}


def test_the_keys_have_to_be_said(file: Path) -> None:  # noqa: F811
    for arguments in (["restore", str(file)], ["backup", "--to", "/tmp"]):
        with pytest.raises(CommandError, match="With the keys or without"):
            call_command(*arguments)
        with pytest.raises(CommandError, match="choose one"):
            call_command(*arguments, "--without-keys", "--passphrase-file", "x")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Where to"),
        (["--to", "-", "--keep", "7d"], "need a folder"),
        (["--to", "x.tar", "--every", "6h"], "need a folder"),
        (["--to", "/tmp", "--keep", "often"], "--keep 'often' does not say"),
        (["--to", "/tmp", "--every", "often"], "--every 'often' is no time"),
    ],
    ids=["nowhere", "keep of a stream", "every of a file", "keep", "every"],
)
def test_a_backup_that_cannot_be(arguments: list[str], said: str) -> None:
    with pytest.raises(CommandError, match=said):
        call_command("backup", "--without-keys", *arguments)


def test_keys_of_another_installation_are_not_written_over(data_dir: Path) -> None:
    (data_dir / "secret.keys").write_text("AAAA\nBBBB\n")

    with pytest.raises(Unusable, match="holds other keys than the backup"):
        restoring.refuse_other_keys({"secret.keys": "CCCC"})
    restoring.refuse_other_keys({"secret.keys": "AAAA,BBBB"})


def test_one_at_a_time(data_dir: Path) -> None:
    with (
        listening.the_only_one(data_dir, "http://127.0.0.1:1"),
        pytest.raises(CommandError, match="Apperate runs on .* already"),
    ):
        call_command("restore", "/no/such/file", "--without-keys")


def test_nothing_is_started_on_what_is_half_restored(data_dir: Path) -> None:
    restoring.refuse_half_restored()
    restoring.begin(Path("/backups/x.tar"), "one")

    with pytest.raises(ImproperlyConfigured, match=r"The restore of /backups/x.tar that began at .* again"):
        restoring.refuse_half_restored()
    restoring.end()
    restoring.refuse_half_restored()


# --- back to a moment ---------------------------------------------------------------------------


def base(folder: Path, day: int, first: str) -> None:
    place = folder / f"base-202611{day:02}T120000Z"
    place.mkdir(parents=True)
    facts: dict[str, Any] = {"ended_at": datetime(2026, 11, day, 12, tzinfo=UTC).isoformat(), "timeline": 1}
    (place / point_in_time.FACTS).write_text(json.dumps(facts | {"first_segment": first, "apperate": "0"}))


def test_the_base_backup_before_the_moment_is_taken_with_the_log_after_it(tmp_path: Path) -> None:
    base(tmp_path, 1, "00000001" + "0" * 15 + "1")
    base(tmp_path, 8, "00000001" + "0" * 15 + "3")
    (tmp_path / "base-20261109T120000Z.partial").mkdir()
    log = tmp_path / point_in_time.LOG
    log.mkdir()
    for name in ("1.gz", "2.gz", "3.gz", "3.gz.partial", "4.gz.partial"):
        (log / ("00000001" + "0" * 15 + name)).touch()
    (log / ("00000002" + "0" * 15 + "4.gz")).touch()

    def chosen(text: str) -> tuple[int, list[str]]:
        found = recovery.base_for(tmp_path, recovery.moment_of(text))
        return found.ended_at.day, [path.name[23:] for path in recovery.segments(tmp_path, found)]

    assert chosen("2026-11-08 11:59") == (1, ["1.gz", "2.gz", "3.gz", "4.gz.partial"])
    assert chosen("2026-11-08T13:30:00+01:00") == (8, ["3.gz", "4.gz.partial"])
    assert chosen("latest") == (8, ["3.gz", "4.gz.partial"])
    with pytest.raises(Unusable, match="leads back to 2026-11-01 12:00:00 UTC at the earliest"):
        chosen("2026-11-01 11:00")


def test_the_file_of_a_position() -> None:
    assert point_in_time.segment_of(1, "0/3000028") == "000000010000000000000003"
    assert point_in_time.segment_of(10, "1A/FF000000") == "0000000A0000001A000000FF"
