"""A backup that is late is said by the doctor, and on pages to those who can do something about it."""

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.conf import LazySettings
from django.test import Client

from apperate.accounts.models import User, Workspace
from apperate.backup import schedule, status
from apperate.backup.retention import Keep
from apperate.doctor import backup_checks
from tests.conftest import signed_in
from tests.support.factories import UserFactory, WorkspaceFactory

NOW = datetime.now(UTC)
SAID = "The last good backup is of"


@pytest.fixture(autouse=True)
def data_dir(settings: LazySettings, tmp_path: Path) -> Iterator[Path]:
    settings.DATA_DIR, settings.BACKUP_TO = tmp_path, str(tmp_path / "backups")
    settings.BACKUP_MAX_AGE_SECONDS = 12 * 3600
    status.forget()
    yield tmp_path
    status.forget()


def made(hours_ago: float) -> None:
    at = NOW - timedelta(hours=hours_ago)
    status.record_good(file="/backups/x.tar", size=10, seconds=1, now=at)


@pytest.mark.parametrize(("hours", "is_late"), [(0, False), (11.9, False), (12.1, True), (500, True)])
def test_the_last_good_one_may_have_an_age(hours: float, is_late: bool) -> None:
    made(hours)

    said = status.lateness(status.read(), now=NOW)

    assert bool(said) is is_late
    assert not said or (said.startswith(SAID) and said.endswith("older than 12 hours."))


def test_without_any_it_is_late_some_time_after_backups_were_switched_on() -> None:
    assert status.lateness(status.read(), now=NOW) == ""

    status.record_schedule(now=NOW - timedelta(hours=13))
    status.record_schedule(now=NOW)  # A restart does not begin the time anew.

    assert status.lateness(status.read(), now=NOW) == "There is no good backup yet."


def test_where_no_backups_are_wanted_none_is_late(settings: LazySettings) -> None:
    made(500)
    settings.BACKUP_TO = ""

    assert status.lateness(status.read(), now=NOW) == ""
    assert status.banner(now=NOW) == ""


@pytest.mark.django_db
def test_the_doctor(settings: LazySettings) -> None:
    assert backup_checks.backups().level == "ok"

    made(1)
    assert backup_checks.backups().level == "ok"
    status.record_failed("The disk is full.", now=NOW)
    assert (backup_checks.backups().level, backup_checks.backups().detail) == (
        "warn",
        "The last try failed: The disk is full.",
    )
    made(13)
    status.record_failed("The disk is full.", now=NOW)
    found = backup_checks.backups()
    assert found.level == "fail" and SAID in found.detail and "The disk is full." in found.detail


@pytest.mark.django_db
def test_the_doctor_warns_where_none_was_ever_made_unless_it_is_the_demo(settings: LazySettings) -> None:
    settings.BACKUP_TO = ""
    WorkspaceFactory(name="DEMO")
    assert backup_checks.backups().level == "ok"

    WorkspaceFactory(name="ACME")

    found = backup_checks.backups()
    assert (found.level, found.detail) == ("warn", "None was ever made here.")


def has_banner(client: Client, address: str = "/team/") -> bool:
    answer = client.get(address)
    assert answer.status_code == 200
    return SAID in answer.content.decode()


@pytest.mark.django_db
def test_operators_and_who_manages_see_it_on_the_pages(
    workspace: Workspace, as_owner: Client, as_admin: Client, as_teammate: Client, client: Client
) -> None:
    made(13)

    assert has_banner(as_owner) and has_banner(as_admin)
    assert not has_banner(as_teammate)
    assert not has_banner(client, "/account/login/")
    operator: User = UserFactory(is_staff=True)
    assert has_banner(signed_in(operator), "/docs/")
    made(1)
    status.forget()
    assert not has_banner(as_owner)


# --- the schedule -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("good_hours", "failed_hours", "expected_seconds"),
    [
        (None, None, 0),
        (1, None, 5 * 3600),
        (7, None, -3600),
        (7, 0.1, 240),
        (None, 0.1, 240),
        (None, 1, -3000),
        (1, 2, 5 * 3600),
        (-100, None, 6 * 3600),
    ],
    ids=["none", "not due", "due", "failed now", "first failed", "again", "good since", "clock set back"],
)
def test_when_the_next_is_due(
    good_hours: float | None, failed_hours: float | None, expected_seconds: float
) -> None:
    def at(hours: float | None) -> str:
        return "" if hours is None else (NOW - timedelta(hours=hours)).isoformat()

    state = status.Status(good_at=at(good_hours), failed_at=at(failed_hours))

    due = schedule.seconds_until_due(state, every_seconds=6 * 3600, now=NOW)

    assert due == pytest.approx(expected_seconds)


def test_old_backups_go_and_other_files_stay(tmp_path: Path) -> None:
    for day in range(1, 11):
        (tmp_path / f"apperate-202611{day:02}T120000Z.tar").touch()
    others = ["apperate-notes.tar", "apperate-20261101T120000Z.tar.txt", "revocations-a.jsonl", "x.tar"]
    for name in others:
        (tmp_path / name).touch()

    removed = schedule.remove_old(tmp_path, Keep.of("3d"))

    left = sorted(path.name for path in tmp_path.iterdir() if path.name not in others)
    assert left == [f"apperate-202611{day:02}T120000Z.tar" for day in (8, 9, 10)]
    assert len(removed) == 7 and all((tmp_path / name).exists() for name in others)


def test_the_state_is_kept_when_its_file_is_gone_or_damaged(data_dir: Path) -> None:
    made(1)
    (data_dir / status.FILE).write_text("{")

    assert status.read() == status.Status()
    made(2)
    assert status.read().good_file == "/backups/x.tar"
    shutil.rmtree(data_dir)
    status.record_failed("gone", now=NOW)  # Said in the log; nothing else stops for it.
