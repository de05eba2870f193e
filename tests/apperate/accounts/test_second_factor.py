"""S49: a code works once, guesses are throttled, a recovery code replaces it once; all sealed at rest."""

from functools import cache as once
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal import auth as totp
from django.core.cache import cache
from django.test import Client
from django.urls import reverse

from apperate.accounts.models import User
from apperate.database import sealing
from apperate.kernel.keyring import KeyRing
from tests.support.factories import PASSWORD
from tests.support.totp_codes import code_of, hold_time
from tokens.services import reencryption

pytestmark = pytest.mark.django_db
OLD_KEY, NEW_KEY = b"o" * 32, b"n" * 32


def put_keys(monkeypatch: pytest.MonkeyPatch, *keys: bytes) -> None:
    monkeypatch.setattr(sealing, "keys", once(lambda: KeyRing(keys)))


@pytest.fixture
def secret(owner: User, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the owner's app makes codes from, at a time that stands still; with recovery codes."""
    hold_time(monkeypatch)
    put_keys(monkeypatch, OLD_KEY)
    cache.clear()
    secret = totp.generate_totp_secret()
    totp.TOTP.activate(owner, secret)
    RecoveryCodes.activate(owner)
    return secret


def half_signed_in(owner: User) -> Client:
    client = Client()
    client.post(reverse("account_login"), {"login": owner.email, "password": PASSWORD})
    assert not is_in(client)
    return client


def send(client: Client, code: str) -> Any:
    return client.post(reverse("mfa_authenticate"), {"code": code})


def is_in(client: Client) -> bool:
    return "_auth_user_id" in client.session


@pytest.mark.check("S49")
def test_a_code_works_once(owner: User, secret: str) -> None:
    first, second = half_signed_in(owner), half_signed_in(owner)

    send(first, code_of(secret))
    send(second, code_of(secret))

    assert is_in(first) and not is_in(second)


@pytest.mark.check("S49")
def test_guesses_are_stopped_also_for_the_right_code(owner: User, secret: str) -> None:
    client = half_signed_in(owner)

    answers = [send(client, f"{number:06}") for number in range(12)]
    stopped = send(client, code_of(secret))

    assert {answer.status_code for answer in answers} <= {200, 302, 422, 429}
    assert not is_in(client)
    assert b"Usage" not in stopped.content  # No page of the dashboard.


@pytest.mark.check("S49")
def test_a_recovery_code_works_once(owner: User, secret: str) -> None:
    codes = Authenticator.objects.get(user=owner, type=Authenticator.Type.RECOVERY_CODES)
    code = codes.wrap().get_unused_codes()[0]
    first, second = half_signed_in(owner), half_signed_in(owner)

    send(first, code)
    send(second, code)

    assert is_in(first) and not is_in(second)


# --- at rest ----------------------------------------------------------------------------------------


@pytest.mark.check("S49")
def test_nothing_that_makes_codes_is_stored_in_clear(owner: User, secret: str) -> None:
    stored = [row.data for row in Authenticator.objects.filter(user=owner)]
    code = Authenticator.objects.get(type="recovery_codes").wrap().get_unused_codes()[0]

    assert len(stored) == 2
    assert secret not in str(stored) and code not in str(stored)


def test_factors_follow_the_key_ring(owner: User, secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`manage.py reencrypt` takes them along, and seals what was stored in clear."""
    row = Authenticator.objects.get(type="totp")
    Authenticator.objects.filter(pk=row.pk).update(data={"secret": secret})
    put_keys(monkeypatch, NEW_KEY, OLD_KEY)

    outcome = reencryption.reencrypt()

    assert (outcome.encrypted, outcome.unreadable) == (2, ())
    assert reencryption.reencrypt().encrypted == 0
    client = half_signed_in(owner)
    send(client, code_of(secret))
    assert is_in(client)


@pytest.mark.check("S49")
def test_a_factor_that_no_key_opens_lets_nobody_in(
    owner: User, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = Authenticator.objects.get(type="recovery_codes").wrap().get_unused_codes()[0]
    put_keys(monkeypatch, NEW_KEY)
    client = half_signed_in(owner)

    answers = [send(client, code_of(secret)), send(client, code)]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert not is_in(client)
    assert reencryption.reencrypt().unreadable == (f"the second factor of {owner.email}",)
