"""S06, S47: what changes how a person signs in asks for the password again, ten minutes after the last time.

Whoever finds an open browser, or steals a session, cannot make the account their own.
"""

from datetime import timedelta
from typing import Any

import pytest
import time_machine
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal import auth as totp
from django.core.cache import cache
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from apperate.accounts.models import User
from tests.support.factories import PASSWORD

pytestmark = pytest.mark.django_db
CHANGES = {
    "an address is added": ("account_email", {"email": "thief@example.com", "action_add": ""}),
    "an address becomes the first": ("account_email", {"email": "second@example.com", "action_primary": ""}),
    "an address is removed": ("account_email", {"email": "second@example.com", "action_remove": ""}),
    "the second factor is removed": ("mfa_deactivate_totp", {}),
    "recovery codes are made": ("mfa_generate_recovery_codes", {}),
}


@pytest.fixture
def person(teammate: User) -> Client:
    cache.clear()
    EmailAddress.objects.create(user=teammate, email=teammate.email, primary=True, verified=True)
    EmailAddress.objects.create(user=teammate, email="second@example.com", verified=True)
    client = Client()
    client.post(reverse("account_login"), {"login": teammate.email, "password": PASSWORD})
    client.post(reverse("account_reauthenticate"), {"password": PASSWORD})
    totp.TOTP.activate(teammate, totp.generate_totp_secret())
    RecoveryCodes.activate(teammate)
    return client


def state_of(user: User) -> Any:
    user.refresh_from_db()
    addresses = EmailAddress.objects.filter(user=user).order_by("email")
    factors = Authenticator.objects.filter(user=user).order_by("type")
    return user.email, list(addresses.values("email", "primary")), list(factors.values("type", "data"))


def ready(user: User, change: str) -> tuple[str, dict[str, str]]:
    """What is posted where, by somebody who could do it."""
    if change == "an address is added":  # With a second factor, nobody adds one at all.
        Authenticator.objects.filter(user=user).delete()
    return CHANGES[change]


@pytest.mark.check("S47")
@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_how_a_person_signs_in_asks_for_the_password_again(
    person: Client, teammate: User, change: str
) -> None:
    url, data = ready(teammate, change)
    before = state_of(teammate)

    with time_machine.travel(timezone.now() + timedelta(minutes=11), tick=False):
        answer = person.post(reverse(url), data)
        assert answer.status_code == 302
        assert answer.headers["Location"].startswith(
            (reverse("account_reauthenticate"), reverse("mfa_reauthenticate"))
        )
        assert state_of(teammate) == before


@pytest.mark.parametrize("change", CHANGES)
def test_right_after_the_password_nothing_more_is_asked(person: Client, teammate: User, change: str) -> None:
    url, data = ready(teammate, change)
    before = state_of(teammate)

    person.post(reverse(url), data)

    assert state_of(teammate) != before


@pytest.mark.check("S47", "S49")
@pytest.mark.parametrize("url", ["mfa_view_recovery_codes", "mfa_download_recovery_codes"])
def test_recovery_codes_are_shown_after_the_password_alone(person: Client, url: str) -> None:
    with time_machine.travel(timezone.now() + timedelta(minutes=11), tick=False):
        assert person.get(reverse(url)).status_code == 302


@pytest.mark.check("S47")
def test_a_new_password_needs_the_old_one(person: Client, teammate: User) -> None:
    new = "another long sentence"
    person.post(
        reverse("account_change_password"), {"oldpassword": "guess", "password1": new, "password2": new}
    )

    teammate.refresh_from_db()
    assert teammate.check_password(PASSWORD)
