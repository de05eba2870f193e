"""The audit log: only added to, kept for the days of the plan, and whole for each workspace."""

from collections.abc import Iterator
from datetime import timedelta

import psycopg
import pytest
from django.db import ProgrammingError, connection, transaction
from django.test import Client
from django.urls import reverse

from apperate.accounts.audit import trail
from apperate.accounts.models import AuditEvent, User, Workspace
from apperate.accounts.plans import PLANS
from apperate.database.clock import database_now
from apperate.database.pool import connection_arguments
from tests.support.factories import PASSWORD, MembershipFactory, UserFactory, WorkspaceFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def as_application() -> Iterator[psycopg.Connection]:
    """The test database as the role that serves requests sees it."""
    settings = connection.settings_dict
    if "EMBEDDED_DATA" not in settings:
        pytest.skip("one role does everything on this server; the trigger is tested below")
    arguments = {**connection_arguments(), "user": "apperate_app", "autocommit": False}
    with psycopg.connect(**arguments) as connected:
        yield connected
        connected.rollback()


def written(workspace: Workspace | None, *, days_ago: float = 0) -> AuditEvent:
    at = database_now() - timedelta(days=days_ago)
    event = trail.record("token.created", workspace=workspace, by=None, now=at)
    seal()
    return event


def seal() -> None:
    """Let the database do now what it does at the end of a transaction."""
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS audit_rows_are_sealed IMMEDIATE")
        cursor.execute("SET CONSTRAINTS audit_rows_are_sealed DEFERRED")


def names(workspace: Workspace | None) -> list[str]:
    return list(
        AuditEvent.objects.filter(workspace=workspace).order_by("pk").values_list("action", flat=True)
    )


@pytest.mark.check("S54")
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE accounts_auditevent SET actor = 'me'",
        "DELETE FROM accounts_auditevent",
        "TRUNCATE accounts_auditevent",
        "DROP TABLE accounts_auditevent",
        "ALTER TABLE accounts_auditevent DISABLE TRIGGER ALL",
    ],
)
def test_the_role_that_serves_may_not_change_the_log(
    as_application: psycopg.Connection, statement: str
) -> None:
    """S54: the application's role has no right to change or remove what it wrote."""
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        as_application.execute(statement)


def test_the_role_that_serves_adds_reads_and_purges(as_application: psycopg.Connection) -> None:
    as_application.execute(
        """INSERT INTO accounts_auditevent (at, actor, address, action, target)
           VALUES (now(), 'a', '', 'b', '')"""
    )

    assert as_application.execute("SELECT action FROM accounts_auditevent WHERE actor = 'a'").fetchone() == (
        "b",
    )
    assert as_application.execute("SELECT purge_audit_log(10)").fetchone() == (0,)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE accounts_auditevent SET actor = 'me'",
        "DELETE FROM accounts_auditevent",
        "TRUNCATE accounts_auditevent",
    ],
)
def test_a_role_that_owns_the_table_is_refused_too(workspace: Workspace, statement: str) -> None:
    """S54: on an installation with one role a trigger refuses what the rights would allow."""
    event = written(workspace)

    with (
        pytest.raises(ProgrammingError, match="only added to"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        # Left off in the tests, which truncate after themselves (conftest.py).
        cursor.execute("ALTER TABLE accounts_auditevent ENABLE TRIGGER audit_table_stays")
        cursor.execute(statement)

    assert AuditEvent.objects.get() == event
    assert AuditEvent.objects.get().actor == "system"


@pytest.mark.parametrize("plan", PLANS.values(), ids=lambda plan: plan.name)
def test_rows_are_kept_for_the_days_of_the_plan(plan: object) -> None:
    workspace = WorkspaceFactory(plan=plan.name)
    written(workspace, days_ago=plan.audit_days + 0.1)
    kept = written(workspace, days_ago=plan.audit_days - 0.1)

    assert trail.purge() == 1

    assert AuditEvent.objects.get() == kept


def test_rows_without_a_workspace_are_kept_for_the_longest_time() -> None:
    longest = max(plan.audit_days for plan in PLANS.values())
    written(None, days_ago=longest + 0.1)
    kept = written(None, days_ago=longest - 0.1)

    assert trail.purge() == 1

    assert AuditEvent.objects.get() == kept


def test_a_purge_goes_on_until_nothing_is_left(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trail, "PURGE_ROWS", 2)
    for _ in range(5):
        written(workspace, days_ago=400)

    assert trail.purge() == 5


def test_a_person_who_goes_leaves_their_rows_as_they_are(workspace: Workspace) -> None:
    user = UserFactory(email="gone@example.com")
    event = trail.record("token.created", workspace=workspace, by=user, now=database_now())
    pk = user.pk

    user.delete()

    assert AuditEvent.objects.values_list("user_id", "actor").get(pk=event.pk) == (pk, "gone@example.com")


def test_a_sign_in_is_in_the_log_of_each_workspace_of_the_person(
    client: Client, workspace: Workspace, teammate: User
) -> None:
    other = MembershipFactory(user=teammate).workspace
    stranger = WorkspaceFactory()
    for password in ("wrong", PASSWORD):
        client.post(reverse("account_login"), {"login": "Teammate@Example.com", "password": password})

    Client().post(reverse("account_login"), {"login": "who@example.com", "password": "wrong"})

    failed = AuditEvent.objects.filter(action="sign_in.failed", workspace=workspace).get()
    assert (failed.user, failed.actor, failed.target) == (None, "unknown", "teammate@example.com")
    assert failed.address == "127.0.0.1"
    assert set(names(workspace)) == set(names(other)) == {"sign_in.failed", "sign_in.done"}
    assert names(stranger) == []
    assert AuditEvent.objects.get(workspace=None).target == "who@example.com"
