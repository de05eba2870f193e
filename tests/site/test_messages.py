"""Every message is sent as text and as HTML that say the same, from this installation's address alone."""

import re
from html import unescape
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from django.conf import settings
from django.test import Client
from django.urls import reverse

from apperate.accounts import services
from apperate.accounts.models import User, Workspace
from apperate.accounts.sign_in import mail
from apperate.database.clock import database_now, month_of
from tests.support.factories import TokenFactory
from tokens.alert_models import CreditAlert
from tokens.alerts import mail as alert_mail

pytestmark = pytest.mark.django_db


def invitation(client: Client, owner: User, workspace: Workspace) -> None:
    made: Any = services.invite(
        workspace=workspace, email="lena@example.com", role="user", by=owner, now=database_now()
    )
    mail.send_invitation(made.invitation, made.url)


def new_password(client: Client, owner: User, workspace: Workspace) -> None:
    client.post(reverse("account_reset_password"), {"email": owner.email})


def password_of_nobody(client: Client, owner: User, workspace: Workspace) -> None:
    client.post(reverse("account_reset_password"), {"email": "<b>nobody</b>@example.com"})
    client.post(reverse("account_reset_password"), {"email": "nobody@example.com"})


def confirmation(client: Client, owner: User, workspace: Workspace) -> None:
    client.force_login(owner)
    EmailAddress.objects.create(user=owner, email="other@example.com")
    client.post(reverse("account_email"), {"email": "other@example.com", "action_send": ""})


def alert(client: Client, owner: User, workspace: Workspace) -> None:
    now = database_now()
    token = TokenFactory(workspace=workspace, nickname="Customer <XYZ>")
    made = CreditAlert.objects.create(
        token=token, month=month_of(now).date(), percent=80, used=80, credit_limit=100, reached_at=now
    )
    alert_mail.send(made)


@pytest.mark.parametrize("sent", [invitation, new_password, password_of_nobody, confirmation, alert])
def test_a_message_is_text_and_html_that_say_the_same(
    client: Client, owner: User, workspace: Workspace, mailoutbox: list[Any], sent: Any
) -> None:
    sent(client, owner, workspace)

    (message,) = mailoutbox
    ((html, kind),) = message.alternatives
    assert kind == "text/html"
    links = set(re.findall(r"https?://\S+", message.body))
    assert set(map(unescape, re.findall(r'href="([^"]+)"', html))) == links
    assert all(link.startswith(settings.PUBLIC_URL) for link in links)
    assert not re.search(r"<(script|img|link|iframe)|url\(|src=", html)
    assert html.count("<html") == html.count("</html>") == 1
    assert "<XYZ>" not in html and "{{" not in html and "{%" not in html
    words = set(re.findall(r"[A-Za-z]{6,}", re.sub(r"https?://\S+", "", message.body)))
    shown = unescape(re.sub(r"<[^>]+>", " ", html))
    assert {word for word in words if word.lower() not in shown.lower()} == set()
