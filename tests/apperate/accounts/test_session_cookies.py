"""S47: what the cookies of the dashboard are like, and how long a session lasts."""

import runpy
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as in_force
from django.contrib.sessions.models import Session
from django.core.cache import cache
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from apperate.accounts.models import User
from apperate.accounts.sign_in.session_limits import SIGNED_IN_AT, USED_AT
from tests.support.factories import PASSWORD

pytestmark = pytest.mark.django_db
PAGE = "usersessions_list"
NEW_PASSWORD = {
    "oldpassword": PASSWORD,
    "password1": "another long sentence",
    "password2": "another long sentence",
}
OF_HTTPS = ("SERVES_HTTPS", "SESSION_COOKIE_", "CSRF_", "SECURE_")


@pytest.fixture
def https(settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The settings as they are with a public address of https."""
    monkeypatch.setenv("APPERATE_PUBLIC_URL", "https://data.example.com")
    monkeypatch.setenv("APPERATE_DATA_DIR", str(tmp_path))
    found = runpy.run_path(str(in_force.BASE_DIR / "apperate" / "settings.py"))
    for name, value in found.items():
        if name.startswith(OF_HTTPS):
            setattr(settings, name, value)


def signed_in_answers(client: Client, user: User, *, secure: bool) -> list[Any]:
    """Signs in by the form and chooses a theme: the answers that set cookies."""
    cache.clear()
    login = reverse("account_login")
    answers = [
        client.get(login, secure=secure),
        client.post(login, {"login": user.email, "password": PASSWORD}, secure=secure),
        client.post(reverse("theme"), {"theme": "dark"}, secure=secure),
    ]
    assert [answer.status_code for answer in answers] == [200, 302, 302]
    return answers


def cookies(answers: list[HttpResponse]) -> dict[str, Any]:
    return {name: morsel for answer in answers for name, morsel in answer.cookies.items()}


@pytest.mark.check("S47")
def test_with_https_cookies_are_bound_to_host_and_https(https: None, teammate: User) -> None:
    found = cookies(signed_in_answers(Client(), teammate, secure=True))

    assert set(found) == {"__Host-session", "__Host-csrf", "__Host-device", "theme"}
    for cookie in found.values():
        assert cookie["secure"] and cookie["httponly"] and cookie["samesite"] == "Lax"
        # A cookie of that prefix is kept by browsers only with this path and without a domain.
        assert (cookie["path"], cookie["domain"]) == ("/", "")
    assert found["__Host-session"]["max-age"] == 14 * 86_400


def test_with_https_a_page_over_http_sets_no_cookie_and_leads_to_https(https: None) -> None:
    answer = Client().get(reverse("account_login"))

    assert (answer.status_code, answer.headers["Location"][:8]) == (301, "https://")
    assert not answer.cookies


def test_without_https_cookies_are_closed_to_scripts_and_other_sites(teammate: User) -> None:
    found = cookies(signed_in_answers(Client(), teammate, secure=False))

    assert set(found) == {"sessionid", "csrftoken", "device", "theme"}
    assert all(cookie["httponly"] and cookie["samesite"] == "Lax" for cookie in found.values())
    # A browser would not send it back.
    assert not any(cookie["secure"] for cookie in found.values())


# --- how long -----------------------------------------------------------------------------------


def moved_back(client: Client, days: float, mark: str) -> None:
    """The session as if this mark had been made so many days before."""
    session = client.session
    session[mark] -= days * 86_400
    session.save()


@pytest.mark.check("S47")
def test_a_session_ends_30_days_after_the_sign_in_however_much_it_is_used(as_teammate: Client) -> None:
    moved_back(as_teammate, 29.9, SIGNED_IN_AT)
    assert as_teammate.get(reverse(PAGE)).status_code == 200

    moved_back(as_teammate, 0.1, SIGNED_IN_AT)
    answer = as_teammate.get(reverse(PAGE))

    assert (answer.status_code, answer.headers["Location"]) == (
        302,
        "/account/login/?next=/account/sessions/",
    )
    assert "_auth_user_id" not in as_teammate.session


def test_a_form_of_a_session_that_ended_changes_nothing(as_teammate: Client, teammate: User) -> None:
    before = teammate.password
    moved_back(as_teammate, 31, SIGNED_IN_AT)

    assert as_teammate.post(reverse("account_change_password"), NEW_PASSWORD).status_code == 302

    teammate.refresh_from_db()
    assert teammate.password == before


def test_a_session_without_its_mark_has_ended(as_teammate: Client) -> None:
    session = as_teammate.session
    del session[SIGNED_IN_AT]
    session.save()

    assert as_teammate.get(reverse(PAGE)).status_code == 302


def test_signing_in_again_begins_anew(as_teammate: Client, teammate: User) -> None:
    moved_back(as_teammate, 29.9, SIGNED_IN_AT)

    as_teammate.force_login(teammate)
    moved_back(as_teammate, 29.9, SIGNED_IN_AT)

    assert as_teammate.get(reverse(PAGE)).status_code == 200


def test_a_session_that_is_used_is_kept_for_14_days_more(as_teammate: Client) -> None:
    moved_back(as_teammate, 1, USED_AT)

    answer = as_teammate.get(reverse(PAGE))

    assert answer.cookies["sessionid"]["max-age"] == 14 * 86_400
    assert as_teammate.session.get_expiry_date() > timezone.now() + timedelta(days=13.9)
    # For an hour it is not written again.
    assert "sessionid" not in as_teammate.get(reverse(PAGE)).cookies


def test_what_a_page_asks_for_by_itself_is_no_use(as_teammate: Client) -> None:
    moved_back(as_teammate, 1, USED_AT)

    answer = as_teammate.get(reverse("datasets:jobs"), headers={"HX-Request": "true"})

    assert answer.status_code == 200
    assert "sessionid" not in answer.cookies


@pytest.mark.check("S47")
def test_a_session_that_was_not_used_for_14_days_has_ended(as_teammate: Client) -> None:
    Session.objects.update(expire_date=timezone.now())

    assert as_teammate.get(reverse(PAGE)).status_code == 302


@pytest.mark.check("S47")
def test_a_new_password_ends_the_other_sessions(as_teammate: Client, teammate: User) -> None:
    other = Client()
    other.force_login(teammate)

    as_teammate.post(reverse("account_change_password"), NEW_PASSWORD)

    assert Client().login(email=teammate.email, password=NEW_PASSWORD["password1"])
    assert [client.get(reverse(PAGE)).status_code for client in (as_teammate, other)] == [200, 302]
