"""E-B2: what is taken away is noted outside the database, and taken away again in a restored one."""

import json
import logging
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import transaction

from apperate.accounts import services as people
from apperate.accounts.models import AuditEvent, Invitation, Membership, Role, User, Workspace
from apperate.backup import replay, revocations
from apperate.database.clock import database_now
from apperate.doctor import backup_checks
from tests.support.factories import TokenFactory
from tests.support.installation import until
from tokens.models import Token
from tokens.services import lifecycle, rotation

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def data_dir(settings: LazySettings, tmp_path: Path) -> Path:
    settings.DATA_DIR, settings.BACKUP_TO = tmp_path, ""
    return tmp_path


def noted() -> list[dict[str, Any]]:
    path = revocations.own_file()
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def undo_in_database(token: Token) -> None:
    """The row as an old backup brings it back."""
    Token.objects.filter(pk=token.pk).update(disabled_at=None, deleted_at=None, expires_at=None)
    token.secrets.filter(retires_at__gt=database_now()).update(retires_at=None)


def applied(since_hours: float = 1) -> replay.Replayed:
    now = database_now()
    lines = revocations.read([revocations.own_file()])
    return replay.apply(lines, since=now - timedelta(hours=since_hours), now=now)


CHANGES: dict[str, tuple[Callable[[Token], object], str]] = {
    "disabled": (lambda token: lifecycle.disable(token=token, by=None, now=database_now()), "disabled"),
    "deleted": (lambda token: lifecycle.delete_token(token=token, by=None, now=database_now()), "deleted"),
    "expiry": (
        lambda token: lifecycle.set_expiry(
            token=token, expires_at=database_now() + timedelta(hours=1), by=None, now=database_now()
        ),
        "active",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_noted_and_holds_again_after_a_restore(workspace: Workspace, name: str) -> None:
    token = TokenFactory(workspace=workspace)
    change, status = CHANGES[name]
    change(token)
    was = Token.objects.get(pk=token.pk)
    undo_in_database(token)

    outcome = applied()

    is_now = Token.objects.get(pk=token.pk)
    assert [line["token"] for line in noted()][0] == token.public_id
    assert (is_now.status(now=database_now()), is_now.expires_at) == (status, was.expires_at)
    assert len(outcome.done) == 1 and token.public_id in outcome.done[0]
    assert AuditEvent.objects.filter(actor=replay.ACTOR, target=token.public_id).count() == 1
    assert applied().done == []  # Twice changes nothing.


def test_what_was_given_back_is_not_taken_away(workspace: Workspace) -> None:
    token = TokenFactory(workspace=workspace)
    for change in (lifecycle.disable, lifecycle.enable, lifecycle.delete_token, lifecycle.restore_token):
        change(token=token, by=None, now=database_now())

    outcome = applied()

    assert len(noted()) == 4 and outcome.done == [] == outcome.to_see
    assert Token.objects.get(pk=token.pk).status(now=database_now()) == "active"


def test_a_value_before_a_rotation_ends_again(workspace: Workspace) -> None:
    token = TokenFactory(workspace=workspace)
    old = token.secrets.get()
    rotation.rotate(token=token, overlap_seconds=0, by=None, now=database_now())
    token.secrets.exclude(pk=old.pk).delete()
    token.secrets.update(retires_at=None)

    outcome = applied()

    assert token.secrets.get().retires_at <= database_now()
    assert "the value before its rotation ends" in outcome.done[0] and "rotate it again" in outcome.to_see[0]
    text = revocations.own_file().read_text()
    assert bytes(old.digest).hex() in text
    assert token.test_value not in text


def test_saved_settings_are_named_and_lost_tokens_too(workspace: Workspace) -> None:
    token = TokenFactory(workspace=workspace)
    settings, _ = lifecycle.saved(token, now=database_now())
    lifecycle.save_settings(
        token=token, changes=type(settings)(core_data_access=not settings.core_data_access), by=None,
        now=database_now(), based_on=None,
    )  # fmt: skip
    revocations.note("token.disabled", now=database_now(), token="tok_gone0000")

    outcome = applied()

    assert outcome.done == []
    assert any("settings saved after the backup" in line for line in outcome.to_see)
    assert any("tok_gone0000 was made after the backup" in line for line in outcome.to_see)


def test_members_and_invitations(workspace: Workspace, owner: User, admin: User, teammate: User) -> None:
    now = database_now()
    invited = people.invite(workspace=workspace, email="new@example.com", role=Role.USER, by=owner, now=now)
    membership_of = {user: Membership.objects.get(user=user) for user in (admin, teammate)}
    people.change_role(membership=membership_of[admin], role=Role.USER, by=owner, now=now)
    people.remove_member(membership=membership_of[teammate], by=owner, now=now)
    people.withdraw_invitation(invitation=invited.invitation, by=owner, now=now)
    # The rows as an old backup brings them back.
    Membership.objects.create(workspace=workspace, user=teammate, role=Role.USER)
    Membership.objects.filter(user=admin).update(role=Role.ADMIN)
    Invitation.objects.update(withdrawn_at=None)

    outcome = applied()

    assert not Membership.objects.filter(user=teammate).exists()
    assert Membership.objects.get(user=admin).role == Role.USER
    assert Invitation.objects.get().withdrawn_at is not None
    assert len(outcome.done) == 3
    text = revocations.own_file().read_text()
    assert "example.com" not in text and invited.url not in text


def test_only_what_came_after_the_restore_point_counts(workspace: Workspace) -> None:
    token = TokenFactory(workspace=workspace)
    lifecycle.disable(token=token, by=None, now=database_now() - timedelta(hours=2))
    undo_in_database(token)

    assert applied(since_hours=1).done == []
    assert len(applied(since_hours=3).done) == 1


def test_a_change_that_is_rolled_back_is_not_noted(workspace: Workspace) -> None:
    token = TokenFactory(workspace=workspace)

    with pytest.raises(ZeroDivisionError), transaction.atomic():
        lifecycle.disable(token=token, by=None, now=database_now())
        raise ZeroDivisionError

    assert noted() == []


def test_a_file_that_cannot_be_written_stops_no_revocation(
    workspace: Workspace, data_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    token = TokenFactory(workspace=workspace)
    revocations.own_file().mkdir()  # Not even root can append to a folder.

    with caplog.at_level(logging.ERROR, "apperate.backup"):
        lifecycle.disable(token=token, by=None, now=database_now())

    assert Token.objects.get(pk=token.pk).disabled_at is not None
    assert "not noted in" in caplog.text and token.public_id in caplog.text


def test_the_doctor_says_when_the_file_cannot_be_written(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert backup_checks.revocations().level == "ok"

    revocations.own_file().mkdir()

    assert backup_checks.revocations().level == "fail"
    assert "cannot be written" in backup_checks.revocations().detail


def test_each_line_has_a_copy_in_the_folder_of_the_backups(
    workspace: Workspace, settings: LazySettings, tmp_path: Path
) -> None:
    settings.BACKUP_TO = str(tmp_path / "backups")
    copy = revocations.copy_in(tmp_path / "backups")
    token = TokenFactory(workspace=workspace)
    lifecycle.disable(token=token, by=None, now=database_now())  # The folder is not there yet.
    copy.parent.mkdir()
    revocations.complete_copy(copy.parent)
    lifecycle.enable(token=token, by=None, now=database_now())

    own = revocations.own_file().read_text().splitlines()
    # A line may have come twice, by the thread and by the backup; that changes nothing.
    until(lambda: {*own} == {*copy.read_text().splitlines()})

    assert len(own) == 2 == len(revocations.read([copy]).lines)
    assert replay.found_beside(copy.parent / "apperate.tar") == [revocations.own_file(), copy]


def test_lines_that_are_torn_or_none_are_counted_and_swallow_no_other(data_dir: Path) -> None:
    path = revocations.own_file()
    path.write_text('{"at": "2026-11-30T12:00:00+00:00", "what": "token.dis')

    revocations.append(
        path, '{"at": "2026-11-30T12:00:01+00:00", "what": "token.disabled", "token": "tok_1"}'
    )
    with path.open("ab") as file:
        file.write(b"\xff\xfe\n[]\n\n{}\n")
    found = revocations.read([path, path])

    assert [line.facts for line in found.lines] == [{"token": "tok_1"}]
    assert found.unreadable == 4
