"""S31, S49: passwords and codes are guessed from many addresses, and the owner still gets in."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from allauth.account.models import EmailAddress
from allauth.mfa.totp.internal import auth as totp
from django.core import mail
from django.core.cache import cache
from django.test import Client
from django.urls import reverse

from apperate.accounts.models import AuditEvent, User
from apperate.accounts.sign_in import devices
from tests.support.factories import PASSWORD
from tests.support.totp_codes import code_of, hold_time

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 5, 4, 10, tzinfo=UTC)
TRIES = 5  # in five minutes


@pytest.fixture(autouse=True)
def clock() -> Any:
    cache.clear()
    with time_machine.travel(NOW, tick=False) as clock:
        yield clock


def send(client: Client, login: str, password: str) -> Any:
    return client.post(reverse("account_login"), {"login": login, "password": password})


def is_in(client: Client) -> bool:
    return "_auth_user_id" in client.session


def attack(login: str, *, tries: int = 60) -> int:
    """Guess from as many addresses as there are tries; how many of them were compared with the password."""
    before = AuditEvent.objects.filter(action="sign_in.failed").count()
    for number in range(tries):
        attacker = Client(REMOTE_ADDR=f"198.51.100.{number}")
        answer = send(attacker, login, f"guess {number}")
        assert not is_in(attacker) and answer.status_code in {200, 422}
    return AuditEvent.objects.filter(action="sign_in.failed").count() - before


@pytest.mark.check("S31")
def test_a_password_is_compared_with_five_guesses_in_five_minutes_from_however_many_addresses(
    teammate: User, clock: Any
) -> None:
    assert attack(teammate.email) == TRIES

    attacker = Client(REMOTE_ADDR="203.0.113.9")
    send(attacker, teammate.email, PASSWORD)
    assert not is_in(attacker)  # The right one is not looked at either.
    clock.shift(timedelta(seconds=299))
    assert attack(teammate.email, tries=3) == 0
    clock.shift(timedelta(seconds=2))
    assert attack(teammate.email.upper()) == TRIES


@pytest.mark.check("S31")
def test_one_address_guesses_ten_times_a_minute_over_all_accounts(teammate: User, clock: Any) -> None:
    attacker = Client(REMOTE_ADDR="198.51.100.7")
    for number in range(30):
        send(attacker, f"person{number}@example.com", "guess")

    assert AuditEvent.objects.filter(action="sign_in.failed").count() == 10
    owner = Client(REMOTE_ADDR="192.0.2.1")
    send(owner, teammate.email, PASSWORD)
    assert is_in(owner)


@pytest.mark.check("S31")
def test_nobody_locks_a_person_out_of_a_device_that_was_used_before(teammate: User) -> None:
    owner = Client(REMOTE_ADDR="192.0.2.1")
    send(owner, teammate.email, PASSWORD)
    owner.post(reverse("account_logout"))
    assert not is_in(owner)

    attack(teammate.email)
    send(owner, teammate.email, PASSWORD)

    assert is_in(owner)
    assert send(Client(REMOTE_ADDR="192.0.2.2"), teammate.email, PASSWORD).status_code in {200, 422}


@pytest.mark.check("S31")
def test_who_is_locked_out_of_a_new_device_gets_in_by_mail(teammate: User) -> None:
    EmailAddress.objects.get_or_create(user=teammate, email=teammate.email, primary=True, verified=True)
    attack(teammate.email)
    owner = Client(REMOTE_ADDR="192.0.2.3")

    owner.post(reverse("account_reset_password"), {"email": teammate.email})
    link = re.search(r"https?://[^/\s]+(/account/password/reset/key/\S+)", str(mail.outbox[-1].body))
    assert link
    form = owner.get(link[1], follow=True)
    new = "a new and long sentence"
    owner.post(form.request["PATH_INFO"], {"password1": new, "password2": new})
    send(owner, teammate.email, new)

    assert is_in(owner)


@pytest.mark.check("S31")
def test_a_device_has_its_own_five_tries_for_its_own_login_alone(teammate: User, admin: User) -> None:
    device = Client(REMOTE_ADDR="192.0.2.1")
    send(device, teammate.email, PASSWORD)
    device.post(reverse("account_logout"))
    cookie = device.cookies[devices.cookie_name()].value

    def guess(login: str, cookie: str, *, tries: int = 8) -> int:
        before = AuditEvent.objects.filter(action="sign_in.failed").count()
        for number in range(tries):
            thief = Client(REMOTE_ADDR=f"198.51.100.{number}")
            thief.cookies[devices.cookie_name()] = cookie
            send(thief, login, "guess")
        return AuditEvent.objects.filter(action="sign_in.failed").count() - before

    assert attack(teammate.email) == attack(admin.email) == TRIES
    # Nothing more for another login, for a cookie that was made up, or for one that was changed.
    assert guess(admin.email, cookie) == 0
    for made_up in ("", "x", cookie[:-1] + ("A" if cookie[-1] != "A" else "B"), cookie.replace(":", "", 1)):
        assert guess(teammate.email, made_up) == 0
    # Whoever stole it has as many guesses as its owner.
    assert guess(teammate.email, cookie) == TRIES


def test_the_cookie_opens_nothing_and_does_not_say_who_it_is_of(teammate: User) -> None:
    device = Client()
    send(device, teammate.email, PASSWORD)
    cookie = device.cookies[devices.cookie_name()].value
    other = Client()
    other.cookies[devices.cookie_name()] = cookie

    assert other.get(reverse("team:members")).status_code == 302
    assert send(other, teammate.email, "wrong").status_code in {200, 422} and not is_in(other)
    assert teammate.email.split("@")[0] not in cookie


# --- second factor ----------------------------------------------------------------------------------


@pytest.mark.check("S31", "S49")
def test_codes_are_guessed_five_times_in_five_minutes_by_who_knows_the_password(
    owner: User, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold_time(monkeypatch)
    secret = totp.generate_totp_secret()
    totp.TOTP.activate(owner, secret)
    compared: list[str] = []
    validate = totp.TOTP.validate_code

    def counted(self: Any, code: str) -> bool:
        compared.append(code)
        return bool(validate(self, code))

    monkeypatch.setattr(totp.TOTP, "validate_code", counted)
    for number in range(40):
        attacker = Client(REMOTE_ADDR=f"198.51.100.{number}")
        send(attacker, owner.email, PASSWORD)
        for code in (f"{number:06}", code_of(secret) if number > TRIES else "000000"):
            attacker.post(reverse("mfa_authenticate"), {"code": code})
        assert not is_in(attacker)

    assert len(compared) <= TRIES
    clock.shift(timedelta(seconds=301))
    person = Client(REMOTE_ADDR="192.0.2.1")
    send(person, owner.email, PASSWORD)
    person.post(reverse("mfa_authenticate"), {"code": code_of(secret)})
    assert is_in(person)
