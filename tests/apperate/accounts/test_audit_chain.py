"""S54: each audit event is sealed with the one before it, and what is changed afterwards is named."""

import hashlib
import json
import threading
from datetime import datetime
from typing import Any

import psycopg
import pytest
from django.db import ProgrammingError, connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apperate.accounts.audit import chain, trail
from apperate.accounts.models import AuditEvent, AuditHead, Workspace
from apperate.database.clock import database_now
from apperate.doctor import contents
from datasets.jobs.queue import report_audit_log
from tests.apperate.accounts.test_audit import as_application, seal, written
from tests.support.factories import UserFactory, WorkspaceFactory

__all__ = ["as_application"]
pytestmark = pytest.mark.django_db


def broken() -> list[str]:
    return [one.words for one in chain.breaks()]


def tamper(statement: str, *values: Any) -> None:
    """Change the log as its owner could, past the trigger that refuses it."""
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("ALTER TABLE accounts_auditevent DISABLE TRIGGER USER")
        cursor.execute(statement, values)
        cursor.execute("ALTER TABLE accounts_auditevent ENABLE TRIGGER USER")
        # Left off in the tests, which truncate after themselves (conftest.py).
        cursor.execute("ALTER TABLE accounts_auditevent DISABLE TRIGGER audit_table_stays")
        cursor.execute("SET CONSTRAINTS ALL DEFERRED")


@pytest.fixture
def five(workspace: Workspace) -> list[AuditEvent]:
    """Five events of a workspace, and one each of another and of none."""
    events = [
        trail.record("token.created", workspace=workspace, by=None, now=database_now(), target=f"tok_{n}")
        for n in range(5)
    ]
    trail.record("token.created", workspace=WorkspaceFactory(), by=None, now=database_now())
    trail.record("sign_in.failed", workspace=None, by=None, now=database_now())
    seal()
    return events


def test_events_of_a_workspace_are_a_chain(five: list[AuditEvent], workspace: Workspace) -> None:
    kept = list(AuditEvent.objects.filter(workspace=workspace).order_by("position"))

    assert [one.pk for one in kept] == [one.pk for one in five]
    assert [one.position for one in kept] == [1, 2, 3, 4, 5]
    assert [bytes(one.previous) for one in kept] == [b"", *(bytes(one.digest) for one in kept[:-1])]
    head = AuditHead.objects.get(chain=workspace.pk)
    assert (head.position, bytes(head.digest)) == (5, bytes(kept[-1].digest))
    assert AuditHead.objects.count() == 3
    assert broken() == []


def test_a_digest_can_be_made_again_from_what_is_documented(workspace: Workspace) -> None:
    """As docs/operating.md says it, without the code of this project."""
    user = UserFactory()
    now = datetime.fromisoformat("2026-11-27T12:00:00.000001+00:00")
    trail.record(
        "token.edited", workspace=workspace, by=user, now=now, target="tok_1", address="192.0.2.1",
        before={"nickname": 'a "b"\n\x7f\u2028é'}, after={"limit": 5, "is_on": None},
    )  # fmt: skip
    seal()

    event = AuditEvent.objects.get()
    text = json.dumps(
        [
            1, workspace.pk, 1_795_780_800_000_001, user.pk, user.email, "192.0.2.1", "token.edited", "tok_1",
            '{"nickname": "a \\"b\\"\\n\x7f\u2028é"}', '{"is_on": null, "limit": 5}',
        ],
        ensure_ascii=False,
    )  # fmt: skip
    assert bytes(event.digest) == hashlib.sha256(text.encode()).digest()


STORABLE = st.characters(exclude_categories=("Cs",), exclude_characters="\0")


@pytest.mark.check("S54")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    target=st.text(STORABLE, max_size=60),
    value=st.recursive(
        st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.text(STORABLE),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(STORABLE), inner, max_size=3),
        max_leaves=6,
    ),
)
def test_whatever_is_written_is_sealed_the_same_by_both(
    workspace: Workspace, target: str, value: Any
) -> None:
    """The database's rule and this project's agree on any text and any JSON."""
    trail.record("x", workspace=workspace, by=None, now=database_now(), target=target, after={"v": value})
    seal()

    assert broken() == []


CHANGES: dict[str, tuple[str, list[str]]] = {
    "an actor": (
        "UPDATE accounts_auditevent SET actor = 'me' WHERE position = 3",
        ["Event 3 was changed after it was written."],
    ),
    "a time": (
        "UPDATE accounts_auditevent SET at = at + '1 us' WHERE position = 3",
        ["Event 3 was changed after it was written."],
    ),
    "a value": (
        "UPDATE accounts_auditevent SET after = '{}' WHERE position = 1",
        ["Event 1 was changed after it was written."],
    ),
    "a user": (
        "UPDATE accounts_auditevent SET user_id = 1 WHERE position = 5",
        ["Event 5 was changed after it was written."],
    ),
    "a seal": (
        "UPDATE accounts_auditevent SET digest = '\\x00' WHERE position = 2",
        ["Event 2 was changed after it was written.", "Event 3 does not follow the one before it."],
    ),
    "one is gone": ("DELETE FROM accounts_auditevent WHERE position = 3", ["Event 3 is gone."]),
    "two are gone": ("DELETE FROM accounts_auditevent WHERE position IN (2, 3)", ["Events 2 to 3 are gone."]),
    "the first is gone": ("DELETE FROM accounts_auditevent WHERE position = 1", ["Event 1 is gone."]),
    "the last is gone": ("DELETE FROM accounts_auditevent WHERE position = 5", ["Event 5 is gone."]),
    "all are gone": ("DELETE FROM accounts_auditevent", ["Events 1 to 5 are gone."]),
    "two change places": (
        "UPDATE accounts_auditevent SET position = CASE position WHEN 2 THEN 30 ELSE 2 END "
        "WHERE position IN (2, 3)",
        [
            "Event 2 was changed after it was written.",
            "Event 3 is gone.",
            "Events 6 to 29 are gone.",
            "Event 30 was changed after it was written.",
        ],
    ),
    "the head is gone": ("DELETE FROM accounts_audithead", ["is not marked"]),
    "the head is another": (
        "UPDATE accounts_audithead SET digest = '\\x00'",
        ["Event 5 is not the one that was marked as the last."],
    ),
    "the head is put back": (
        "UPDATE accounts_audithead SET position = 4",
        ["Event 5 is beyond the one that was marked as the last."],
    ),
    "an event is put in": (
        "INSERT INTO accounts_auditevent (workspace_id, at, actor, address, action, target) "
        "SELECT workspace_id, now(), 'a', '', 'b', '' FROM accounts_auditevent WHERE position = 5",
        ["was not sealed"],
    ),
}


@pytest.mark.check("S54")
@pytest.mark.parametrize(("statement", "expected"), CHANGES.values(), ids=CHANGES)
def test_what_is_changed_behind_the_log_is_named(
    five: list[AuditEvent], workspace: Workspace, statement: str, expected: list[str]
) -> None:
    tamper(statement)

    found = " ".join(one.words for one in chain.breaks() if one.chain == workspace.pk)

    for words in expected:
        assert words in found, found


def test_a_workspace_that_was_not_touched_holds(five: list[AuditEvent], workspace: Workspace) -> None:
    tamper("UPDATE accounts_auditevent SET actor = 'me' WHERE position = 2")

    assert {one.chain for one in chain.breaks()} == {workspace.pk}


def test_a_purge_takes_only_the_beginning_and_leaves_a_chain(workspace: Workspace) -> None:
    for days_ago in (400, 399, 1, 398, 0):
        written(workspace, days_ago=days_ago)

    assert trail.purge() == 2

    # The fourth is past its days, and goes when the third before it goes.
    assert list(AuditEvent.objects.order_by("position").values_list("position", flat=True)) == [3, 4, 5]
    assert AuditHead.objects.get().purged == 2
    assert broken() == []
    written(workspace)
    assert broken() == []


def test_a_log_that_was_purged_whole_goes_on(workspace: Workspace) -> None:
    for _ in range(3):
        written(workspace, days_ago=400)

    assert trail.purge() == 3
    assert broken() == []

    written(workspace)
    assert AuditEvent.objects.get().position == 4
    assert broken() == []


def test_a_statement_that_is_rolled_back_leaves_no_gap(workspace: Workspace) -> None:
    written(workspace)
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        written(workspace)
        raise ZeroDivisionError
    written(workspace)

    assert list(AuditEvent.objects.values_list("position", flat=True)) == [1, 2]
    assert broken() == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE accounts_audithead SET position = 0",
        "INSERT INTO accounts_audithead (chain, position, digest, purged) VALUES (7, 0, '', 0)",
        "DELETE FROM accounts_audithead",
        "SELECT seal_audit_event(id) FROM accounts_auditevent",
    ],
)
def test_the_role_that_serves_may_not_seal(as_application: psycopg.Connection, statement: str) -> None:
    as_application.execute(
        """INSERT INTO accounts_auditevent (at, actor, address, action, target)
           VALUES (now(), 'a', '', 'b', '')"""
    )
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        as_application.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE accounts_auditevent SET actor = 'me'",
        "UPDATE accounts_auditevent SET position = 9",
        "UPDATE accounts_auditevent SET digest = '\\x00'",
    ],
)
def test_a_sealed_event_is_sealed_once(five: list[AuditEvent], statement: str) -> None:
    with (
        pytest.raises(ProgrammingError, match="only added to"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)


@pytest.mark.check("S54")
@pytest.mark.django_db(transaction=True)
def test_many_who_write_at_once_make_one_chain() -> None:
    workspaces = [WorkspaceFactory() for _ in range(3)]
    failed: list[BaseException] = []

    def write(turn: int) -> None:
        try:
            for n in range(10):
                with transaction.atomic():
                    # In another order in each thread: nobody waits in a circle.
                    for workspace in workspaces[(turn + n) % 3 :] + workspaces[: (turn + n) % 3]:
                        trail.record("x", workspace=workspace, by=None, now=database_now())
        except BaseException as error:
            failed.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=write, args=(turn,)) for turn in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failed == []
    assert list(AuditHead.objects.values_list("position", flat=True)) == [40, 40, 40]
    assert broken() == []


def test_doctor_names_what_was_changed(five: list[AuditEvent], workspace: Workspace) -> None:
    assert contents.audit_log().level == contents.OK

    tamper("UPDATE accounts_auditevent SET actor = 'me' WHERE position IN (2, 3)")

    finding = contents.audit_log()
    assert finding.level == contents.FAIL
    assert finding.detail == "ACME: Event 2 was changed after it was written. And 1 more."
    assert "backup" in finding.advice


def test_every_night_the_log_is_read_and_what_was_changed_is_an_error(
    five: list[AuditEvent], workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    tamper("DELETE FROM accounts_auditevent WHERE position = 2")

    report_audit_log()

    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("ERROR", f"audit log changed workspace_id={workspace.pk}: Event 2 is gone.")
    ]
