"""The sessions of a person: listed with browser and address, the others ended with one button."""

from typing import Any

import pytest
from allauth.usersessions.models import UserSession
from django.core.cache import cache
from django.test import Client
from django.urls import reverse

from apperate.accounts.models import AuditEvent, User
from apperate.templatetags.ui import browser
from tests.apperate.team.test_people import shows
from tests.support.factories import PASSWORD

pytestmark = pytest.mark.django_db
PAGE = "usersessions_list"
CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/140.0.0.0 Safari/537.36"
SAFARI = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 Version/18.0 Safari/604.1"
)
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"


def signed_in_with(user: User, agent: str, **environment: Any) -> Client:
    cache.clear()
    client = Client(headers={"user-agent": agent}, **environment)
    answer = client.post(reverse("account_login"), {"login": user.email, "password": PASSWORD})
    assert answer.status_code == 302
    return client


def is_in(client: Client) -> bool:
    return client.get(reverse(PAGE)).status_code == 200


def test_sessions_are_listed_with_browser_and_address(teammate: User, owner: User) -> None:
    signed_in_with(teammate, SAFARI, REMOTE_ADDR="2001:db8::7")
    signed_in_with(owner, FIREFOX, REMOTE_ADDR="198.51.100.9")
    client = signed_in_with(teammate, CHROME, REMOTE_ADDR="203.0.113.5")

    page = client.get(reverse(PAGE))

    assert shows(page, "Safari on iPhone") and shows(page, "2001:db8::7")
    assert shows(page, 'Chrome on Windows <span class="badge badge-ok">This one</span>')
    assert not shows(page, "198.51.100.9")  # Somebody else's.


@pytest.mark.check("S47", "S51")
def test_the_other_sessions_are_ended_and_that_is_audited(teammate: User, owner: User) -> None:
    others = [signed_in_with(teammate, FIREFOX), signed_in_with(teammate, SAFARI)]
    foreign, client = signed_in_with(owner, FIREFOX), signed_in_with(teammate, CHROME)

    answer = client.post(reverse(PAGE), follow=True)

    assert shows(answer, "The other sessions are ended.") and shows(answer, "You are signed in here alone.")
    assert [is_in(one) for one in [*others, foreign, client]] == [False, False, True, True]
    event = AuditEvent.objects.get(action="sessions.ended")
    assert (event.user, event.after) == (teammate, {"sessions": 2})


def test_with_one_session_there_is_nothing_to_end(teammate: User) -> None:
    client = signed_in_with(teammate, CHROME)

    client.post(reverse(PAGE))

    assert is_in(client)
    assert not AuditEvent.objects.filter(action="sessions.ended").exists()


def test_signing_out_ends_the_line_too(teammate: User) -> None:
    first, second = signed_in_with(teammate, FIREFOX), signed_in_with(teammate, CHROME)

    first.post(reverse("account_logout"))

    assert not shows(second.get(reverse(PAGE)), "Firefox on Linux")
    assert UserSession.objects.count() == 1


@pytest.mark.parametrize("named", ["", "unknown", "203.0.113.5:4711", "x" * 400, "_hidden"])
def test_an_address_that_is_none_stops_no_sign_in(teammate: User, settings: Any, named: str) -> None:
    settings.TRUSTED_PROXIES = 1

    client = signed_in_with(teammate, CHROME, HTTP_X_FORWARDED_FOR=named, REMOTE_ADDR="")

    assert shows(client.get(reverse(PAGE)), ">unknown<")


@pytest.mark.parametrize(
    ("agent", "words"),
    [
        (CHROME, "Chrome on Windows"),
        (SAFARI, "Safari on iPhone"),
        (FIREFOX, "Firefox on Linux"),
        (f"{CHROME} Edg/140.0.0.0", "Edge on Windows"),
        ("curl/8.5.0", "curl"),
        ("<b>Mine</b>" + "x" * 100, "<b>Mine</b>" + "x" * 49),
        ("", "Unknown"),
    ],
)
def test_a_user_agent_is_said_as_people_say_it(agent: str, words: str) -> None:
    assert browser(agent) == words
