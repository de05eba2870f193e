"""The doctor on the machine: folders, files to come, static files, and the address that people are told."""

import fcntl
import json
import os
import resource
from pathlib import Path

import pytest
from django.conf import LazySettings

from apperate.doctor import machine, surroundings
from apperate.doctor.findings import OK, Finding
from apperate.running.listening import RUNNING_FILE
from tests.support.installation import free_port
from tests.support.receiver import receiving


@pytest.fixture(autouse=True)
def data_dir(settings: LazySettings, tmp_path: Path) -> Path:
    settings.DATA_DIR, settings.INGEST_DIR = tmp_path, tmp_path / "ingest"
    settings.INGEST_DIR.mkdir(mode=0o700)
    return tmp_path


def level(finding: Finding, expected: str, said: str) -> None:
    assert finding.level == expected, finding
    assert said in f"{finding.detail} {finding.advice}"
    assert bool(finding.advice) == (expected != OK)


def test_uploads_that_others_can_look_into(data_dir: Path) -> None:
    level(machine.files_to_come(), "ok", "can be written")
    (data_dir / "ingest").chmod(0o755)

    level(machine.files_to_come(), "fail", f"chmod 700 {data_dir / 'ingest'}")


def test_a_folder_that_cannot_be_written(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() == 0:  # Root may write everywhere: what the system would say to others.
        monkeypatch.setattr(machine.os, "access", lambda path, mode: Path(path) != data_dir / "ingest")
    else:
        (data_dir / "ingest").chmod(0o500)

    level(machine.files_to_come(), "fail", f"may not write in {data_dir / 'ingest'}")


def test_a_disk_that_takes_no_more_files(monkeypatch: pytest.MonkeyPatch, data_dir: Path) -> None:
    found = os.statvfs(data_dir)

    class Full:
        f_files, f_favail = 1_000_000, 0

    monkeypatch.setattr(machine.os, "statvfs", lambda folder: Full if folder == data_dir else found)
    level(machine.files_to_come(), "fail", "0 more files fit on the disk")
    Full.f_favail = 500
    level(machine.files_to_come(), "warn", "500 more files fit on the disk")
    Full.f_files = 0  # A file system that makes them as they are needed.
    level(machine.files_to_come(), "ok", "can be written")


def test_too_few_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    try:
        level(machine.files_to_come(), "warn", "A process may have 512 open files")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


BOTH = {f"css/{name}.css": f"css/{name}.css" for name in ("one", "two")}


@pytest.fixture
def collected(settings: LazySettings, tmp_path: Path) -> Path:
    """Two files, as `manage.py up` collects them."""
    source, root = tmp_path / "source", tmp_path / "static"
    for folder in (source, root):
        (folder / "css").mkdir(parents=True)
        for name in ("one", "two"):
            (folder / "css" / f"{name}.css").write_text(name)
    settings.STATICFILES_DIRS, settings.STATIC_ROOT = [source], root
    settings.STATICFILES_FINDERS = ["django.contrib.staticfiles.finders.FileSystemFinder"]
    settings.STORAGES = settings.STORAGES | {
        "staticfiles": {"BACKEND": "apperate.http.static_files.CollectedStaticFiles"}
    }
    write_manifest(root, BOTH)
    return tmp_path


def write_manifest(root: Path, paths: dict[str, str]) -> None:
    (root / "staticfiles.json").write_text(json.dumps({"paths": paths, "version": "1.1"}))


def test_static_files_of_another_version_or_gone_are_named(collected: Path) -> None:
    level(machine.static_files(), "ok", "in place")

    edited = collected / "source" / "css" / "one.css"
    edited.write_text("three")
    os.utime(edited, (2**31, 2**31))
    level(machine.static_files(), "warn", "css/one.css has changed since they were collected")

    write_manifest(collected / "static", {"css/one.css": "css/one.css"})
    edited.write_text("one")
    level(machine.static_files(), "warn", "css/two.css is not collected: they are of another version")

    write_manifest(collected / "static", BOTH)
    (collected / "static" / "css" / "one.css").unlink()
    level(machine.static_files(), "fail", "css/one.css was collected and is gone")

    (collected / "static" / "staticfiles.json").unlink()
    level(machine.static_files(), "fail", "They are not collected")


def test_an_address_where_nobody_or_somebody_else_answers(settings: LazySettings, data_dir: Path) -> None:
    settings.PUBLIC_URL = f"http://127.0.0.1:{free_port()}"
    level(surroundings.answering(), "ok", "does not run here")

    with (data_dir / RUNNING_FILE).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # As `manage.py up` holds it.
        level(surroundings.answering(), "warn", "Nobody answers at http://127.0.0.1")
        with receiving() as other:
            settings.PUBLIC_URL = f"http://127.0.0.1:{other.port}"
            for answer, expected, said in (
                (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n", "ok", "It answers at"),
                (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "warn", "Somebody else answers"),
                (b"HTTP/1.1 301 Moved\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", "warn", "301 for /livez"),
                (b"SSH-2.0-OpenSSH\r\n", "warn", "Nobody answers at"),
            ):
                other.answers[:] = [answer]
                level(surroundings.answering(), expected, said)
    level(surroundings.answering(), "ok", "does not run here")
