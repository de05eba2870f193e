"""Alerts at 50, 80 and 100 % of a token's credit limit: each once a month, whoever looks and how often."""

import hashlib
import hmac
import json
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any

import pytest
from django.db import connection, connections
from procrastinate.contrib.django.models import ProcrastinateJob

from apperate.accounts.models import User, Workspace
from tests.datasets.jobs.test_jobs import work
from tests.support.factories import LONG_AGO, RevisionFactory, TokenFactory
from tests.support.receiver import OK, Receiver, receiving
from tokens.alert_models import CreditAlert, Webhook
from tokens.alerts import webhook_settings
from tokens.alerts.telling import ATTEMPTS_MAX, mail_alert, post_alert, raise_alerts
from tokens.alerts.webhook_settings import Saved
from tokens.models import CreditWindow, Token

pytestmark = pytest.mark.django_db(transaction=True)
NOW = datetime(2026, 5, 20, 12, tzinfo=UTC)
LIMIT = 1_000


@pytest.fixture(autouse=True)
def empty_queue(transactional_db: None) -> None:
    """The queue's tables are not Django's own, so tests before may have left something in them."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_jobs")


@pytest.fixture
def token(workspace: Workspace) -> Token:
    return TokenFactory(workspace=workspace, nickname="Customer <XYZ>", settings={"core_credit_limit": LIMIT})


def spend(token: Token, used: int, *, at: datetime = NOW) -> None:
    CreditWindow.objects.update_or_create(
        token=token, month=at.date().replace(day=1), defaults={"used": used}
    )


def raised(*, now: datetime = NOW) -> list[int]:
    """The percents of the alerts that one look makes."""
    ids = raise_alerts(now=now)
    return sorted(CreditAlert.objects.filter(pk__in=ids).values_list("percent", flat=True))


def test_each_part_of_the_limit_is_told_once_in_a_month(token: Token) -> None:
    told = []
    for used in (0, 499, 500, 501, 799, 800, 790, 810, 999, 1_000, 1_000):
        spend(token, used)
        told.append(raised())

    assert told == [[], [], [50], [], [], [80], [], [], [], [100], []]
    assert ProcrastinateJob.objects.filter(task_name="mail_alert").count() == 3


def test_a_new_month_begins_anew_and_the_end_of_the_last_is_not_missed(token: Token) -> None:
    spend(token, 1_000)
    assert raised() == [50, 80, 100]

    june = datetime(2026, 6, 1, tzinfo=UTC)
    spend(token, 600, at=june)

    assert raised(now=june + timedelta(seconds=1)) == [50]
    other = TokenFactory(settings={"core_credit_limit": LIMIT})
    spend(other, 500)  # In May, seen in the first seconds of June; later it is history.
    assert raised(now=june + timedelta(seconds=30)) == [50]
    spend(other, 800)
    assert raised(now=june + timedelta(hours=1)) == []


@pytest.mark.parametrize(
    ("in_force", "pending", "told"),
    [
        (None, None, []),
        (0, None, []),
        (1_000, None, [50]),
        (1_000, 2_000, [50]),  # The lowest of both versions holds, as at the gate.
        (2_000, 700, [50, 80]),
        (None, 600, [50, 80, 100]),
        (700, None, [50, 80]),  # No limit is saved, but the one in force still holds.
    ],
)
def test_the_limit_is_the_lowest_that_counts(
    in_force: int | None, pending: int | None, told: list[int]
) -> None:
    token = TokenFactory(settings=False)
    for number, limit, effective_at in (
        (1, 10, LONG_AGO),  # Replaced: it counts no more.
        (2, in_force, LONG_AGO),
        (3, pending, NOW + timedelta(seconds=60)),
    ):
        RevisionFactory(
            token=token, number=number, saved_at=LONG_AGO, effective_at=effective_at, core_credit_limit=limit
        )
    spend(token, 600)

    assert raised() == told


def test_tokens_in_the_trash_are_silent(token: Token) -> None:
    Token.objects.filter(pk=token.pk).update(deleted_at=NOW)
    spend(token, LIMIT)

    assert raised() == []


def test_workers_that_look_at_once_make_one_alert(token: Token) -> None:
    """The unique row decides: neither two workers nor a restart tells anything twice."""
    spend(token, LIMIT)
    found: list[uuid.UUID] = []
    start = threading.Barrier(4)

    def look() -> None:
        try:
            start.wait()
            found.extend(raise_alerts(now=NOW))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == CreditAlert.objects.count() == 3
    assert ProcrastinateJob.objects.filter(task_name="mail_alert").count() == 3


def test_an_alert_whose_message_cannot_be_queued_is_not_made(
    token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One transaction: the next look makes both."""
    spend(token, 500)

    def away(**arguments: Any) -> None:
        raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(mail_alert, "defer", away)
        with pytest.raises(ConnectionError):
            raise_alerts(now=NOW)

    assert not CreditAlert.objects.exists()
    assert raised() == [50]


def test_the_message_goes_to_the_primary_and_the_admins_as_text_and_html(
    token: Token, owner: User, admin: User, teammate: User, mailoutbox: list[Any]
) -> None:
    spend(token, 812)
    raised()

    work()
    mail_alert(str(CreditAlert.objects.get(percent=80).pk))  # The same entry once more, after a restart.

    assert sorted(mail.subject for mail in mailoutbox) == [
        f"[Apperate] Customer <XYZ> has used {percent} % of its credits" for percent in (50, 80)
    ]
    message = max(mailoutbox, key=lambda mail: mail.subject)
    assert sorted(message.to) == [admin.email, owner.email]
    assert "812 of 1,000 credits" in message.body and "2026-06-01 00:00 UTC" in message.body
    assert f"/tokens/{token.public_id}/" in message.body
    ((html, kind),) = message.alternatives
    assert kind == "text/html" and "Customer &lt;XYZ&gt;" in html


def test_a_message_that_no_server_takes_is_tried_again(
    token: Token, owner: User, settings: Any, mailoutbox: list[Any]
) -> None:
    spend(token, 500)
    raised()
    locmem = settings.EMAIL_BACKEND
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 9  # Nothing listens there.

    work()
    waiting = ProcrastinateJob.objects.get(task_name="mail_alert")
    assert (waiting.status, CreditAlert.objects.get().mailed_at) == ("todo", None)
    settings.EMAIL_BACKEND = locmem
    with connection.cursor() as cursor:
        cursor.execute("UPDATE procrastinate_jobs SET scheduled_at = NULL")
    work()

    assert [mail.to for mail in mailoutbox] == [[owner.email]]
    assert CreditAlert.objects.get().mailed_at is not None


def test_a_workspace_that_nobody_manages_gets_no_message(token: Token, mailoutbox: list[Any]) -> None:
    spend(token, 500)
    raised()

    work()

    assert (mailoutbox, ProcrastinateJob.objects.get(task_name="mail_alert").status) == ([], "succeeded")


# --- by webhook ---------------------------------------------------------------------------------


@pytest.fixture
def receiver(workspace: Workspace, settings: Any) -> Iterator[Receiver]:
    """The webhook of the workspace, on this machine, which the operator allows."""
    settings.WEBHOOK_NETWORKS = (ip_network("127.0.0.0/8"),)
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def secret(workspace: Workspace, receiver: Receiver) -> str:
    saved = webhook_settings.save(workspace=workspace, url=receiver.url(), by=None, now=NOW)
    assert isinstance(saved, Saved)
    return saved.secret


def wait_no_more() -> None:
    """Let what is to be tried again later be tried now."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE procrastinate_jobs SET scheduled_at = NULL WHERE status = 'todo'")


def test_an_alert_is_posted_signed_once(
    token: Token, receiver: Receiver, secret: str, owner: User, mailoutbox: list[Any]
) -> None:
    spend(token, 812)
    raised()

    work()

    bodies = {json.loads(body)["percent"]: body for _, body in receiver.requests}
    alert = CreditAlert.objects.get(percent=80)
    seconds, _, sign = receiver.header("Apperate-Signature").removeprefix("t=").partition(",v1=")
    signed = f"{seconds}.".encode() + receiver.requests[-1][1]
    assert sorted(bodies) == [50, 80] and len(receiver.requests) == len(mailoutbox) == 2
    assert json.loads(bodies[80]) == {
        "id": str(alert.pk),
        "type": "credits.alert",
        "createdAt": "2026-05-20T12:00:00Z",
        "workspace": "ACME",
        "token": {"id": token.public_id, "nickname": "Customer <XYZ>"},
        "percent": 80,
        "creditsUsed": 812,
        "coreCreditLimit": 1_000,
        "month": "2026-05",
        "resetsAt": "2026-06-01T00:00:00Z",
    }
    assert hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest() == sign
    assert alert.posted_at is not None
    post_alert.defer(alert_id=str(alert.pk))  # The same entry once more, after a restart.
    work()
    assert len(receiver.requests) == 2


def test_a_webhook_that_does_not_answer_is_tried_again_with_the_same_id(
    token: Token, receiver: Receiver, secret: str
) -> None:
    receiver.answers = [b"HTTP/1.1 503 Busy\r\n\r\n", OK]
    spend(token, 500)
    raised()

    work()
    waiting = ProcrastinateJob.objects.get(task_name="post_alert")
    assert (waiting.status, Webhook.objects.get().fault) == ("todo", "It answered 503.")
    assert waiting.scheduled_at is not None
    wait_no_more()
    work()

    first, second = (json.loads(body) for _, body in receiver.requests)
    assert first == second
    assert (Webhook.objects.get().fault, CreditAlert.objects.get().posted_at is None) == ("", False)


def test_a_webhook_that_never_answers_is_given_up(token: Token, receiver: Receiver, secret: str) -> None:
    """A workspace's dead address is no fault of the installation: the queue's entry ends well."""
    receiver.answers = [b"HTTP/1.1 500 No\r\n\r\n"]
    spend(token, 500)
    raised()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE procrastinate_jobs SET attempts = %s", [ATTEMPTS_MAX])

    work()

    assert ProcrastinateJob.objects.get(task_name="post_alert").status == "succeeded"
    assert (len(receiver.requests), CreditAlert.objects.get().posted_at) == (1, None)
    assert Webhook.objects.get().fault == "It answered 500."


def test_a_removed_webhook_gets_nothing_that_waits(
    token: Token, receiver: Receiver, secret: str, workspace: Workspace
) -> None:
    spend(token, 500)
    raised()
    webhook_settings.remove(workspace=workspace, by=None, now=NOW)

    work()

    assert receiver.connections == 0
    assert ProcrastinateJob.objects.get(task_name="post_alert").status == "succeeded"


def test_alerts_of_other_workspaces_go_elsewhere(receiver: Receiver, secret: str) -> None:
    spend(TokenFactory(settings={"core_credit_limit": LIMIT}), 500)

    raised()

    assert not ProcrastinateJob.objects.filter(task_name="post_alert").exists()
    work()
    assert receiver.connections == 0
