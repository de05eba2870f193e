"""Pages that give a token another value, make a copy of it, or show what its requests are signed with."""

from datetime import timedelta

import pytest
from django.test import Client

from apperate.accounts.models import AuditEvent, User, Workspace
from apperate.database.clock import database_now
from tests.apperate.team.test_people import shows
from tests.support.factories import TokenFactory
from tests.tokens.pages.test_token_pages import page, trusted, url
from tokens.models import Token
from tokens.rules.token_format import TokenKind
from tokens.services import lifecycle, rotation, saved_settings

pytestmark = pytest.mark.django_db


@pytest.fixture
def token(workspace: Workspace) -> Token:
    return TokenFactory(
        workspace=workspace,
        nickname="Customer XYZ",
        settings={"signed_requests": True, "core_credit_limit": 500},
    )


@pytest.fixture
def secret(workspace: Workspace) -> Token:
    token: Token = TokenFactory(workspace=workspace, kind=TokenKind.SECRET)
    return token


def value_of(token: Token) -> str:
    value: str = Token.objects.get(pk=token.pk).value
    return value


# --- rotate -----------------------------------------------------------------------------------------


def test_a_rotated_token_has_a_new_value_and_the_old_one_its_time(as_owner: Client, token: Token) -> None:
    before = value_of(token)

    answer = as_owner.post(url("rotate", token), {"overlap": "3600"}, follow=True)

    assert shows(answer, "The old one stops working in 1 hour")
    after = value_of(token)
    assert after != before and shows(answer, after)
    now = database_now()
    ends_at = rotation.old_value_ends_at(token, now=now)
    assert ends_at and timedelta(minutes=59) < ends_at - now <= timedelta(hours=1)
    assert shows(as_owner.get(url("rotate", token)), "Another rotation ends it at once")


@pytest.mark.parametrize("data", [{}, {"overlap": "5"}, {"overlap": "never"}, {"overlap": "-1"}])
def test_an_overlap_that_is_not_offered_changes_nothing(
    as_owner: Client, token: Token, data: dict[str, str]
) -> None:
    before = value_of(token)

    answer = as_owner.post(url("rotate", token), data)

    assert answer.status_code == 422
    assert value_of(token) == before


@pytest.mark.parametrize("word", ["", "yes", "rotat"])
def test_the_secret_token_is_rotated_only_with_the_typed_word(
    as_owner: Client, secret: Token, word: str
) -> None:
    answer = as_owner.post(url("rotate", secret), {"overlap": "0", "confirm": word})

    assert answer.status_code == 422
    assert not AuditEvent.objects.filter(action="token.rotated").exists()


def test_the_new_secret_value_is_on_no_page(as_owner: Client, owner: User, secret: Token) -> None:
    """S06: it is revealed like the one before, for the password."""
    answer = as_owner.post(url("rotate", secret), {"overlap": "0", "confirm": " Rotate "}, follow=True)

    new = lifecycle.reveal_secret(token=secret, by=None, now=database_now(), address="")
    assert shows(answer, "The token has a new value")
    assert not shows(answer, new)
    assert AuditEvent.objects.filter(action="token.rotated", user=owner).count() == 1


def test_a_token_in_the_trash_is_not_rotated(as_owner: Client, token: Token, owner: User) -> None:
    lifecycle.delete_token(token=token, by=owner, now=database_now(), address="")

    answer = as_owner.post(url("rotate", token), {"overlap": "0"}, follow=True)

    assert shows(answer, "a token outside the trash")


# --- duplicate --------------------------------------------------------------------------------------


def test_a_copy_has_the_settings_and_a_value_of_its_own(as_owner: Client, token: Token) -> None:
    answer = as_owner.post(url("duplicate", token), follow=True)

    copy = Token.objects.exclude(pk=token.pk).get()
    assert answer.redirect_chain[-1][0] == url("edit", copy)
    assert shows(answer, "Customer XYZ is duplicated. This is the copy.")
    revision = copy.versions(now=database_now()).saved
    assert revision and saved_settings.of_revision(revision).core_credit_limit == 500
    assert value_of(copy) != value_of(token)


def test_the_secret_token_has_no_copy(as_owner: Client, secret: Token) -> None:
    answer = as_owner.post(url("duplicate", secret), follow=True)

    assert shows(answer, "there is one secret token")
    assert Token.objects.count() == 1


def test_a_full_plan_makes_no_copy(as_owner: Client, workspace: Workspace, token: Token) -> None:
    workspace.plan = "launch"
    workspace.save(update_fields=["plan"])
    TokenFactory(workspace=workspace)

    answer = as_owner.post(url("duplicate", token), follow=True)

    assert shows(answer, "2 tokens")
    assert workspace.tokens.count() == 2


def test_the_menu_of_a_row_offers_what_can_be_done(as_owner: Client, token: Token, secret: Token) -> None:
    html = page(as_owner, "/tokens/")

    assert html.count("Copy token</button>") == html.count("Duplicate</button>") == 1
    assert url("rotate", token) in html and url("rotate", secret) in html


# --- the signing secret -----------------------------------------------------------------------------


def test_the_signing_secret_asks_for_the_password_again(as_owner: Client, token: Token) -> None:
    answer = as_owner.post(url("signing_secret", token))

    assert answer.headers["Location"].startswith("/account/reauthenticate/?next=")
    assert not AuditEvent.objects.filter(action="token.signing_secret_revealed").exists()


def test_the_signing_secret_is_shown_for_a_while_uncached_and_audited(
    as_owner: Client, owner: User, token: Token
) -> None:
    trusted(as_owner)
    secret = lifecycle.reveal_signing_secret(token=token, by=None, now=database_now(), address="")
    here = url("signing_secret", token)
    assert not shows(as_owner.get(here), secret)

    answer = as_owner.post(here)

    assert shows(answer, secret) and shows(answer, 'data-hide-after="30"')
    assert "no-store" in answer.headers["Cache-Control"]
    assert answer.headers["Refresh"] == f"30; url={here}"
    assert AuditEvent.objects.filter(action="token.signing_secret_revealed", user=owner).count() == 1


def test_a_secret_token_has_no_signing_secret_page(as_owner: Client, secret: Token) -> None:
    assert as_owner.get(url("signing_secret", secret)).status_code == 404


def test_a_signing_secret_that_cannot_be_decrypted_is_explained(as_owner: Client, token: Token) -> None:
    trusted(as_owner)
    lifecycle.reveal_signing_secret(token=token, by=None, now=database_now(), address="")
    token.signing_secret.ciphertext = b"\x01damaged"
    token.signing_secret.save()

    answer = as_owner.post(url("signing_secret", token), follow=True)

    assert shows(answer, "The secret cannot be decrypted")


def test_the_form_of_a_token_that_signs_leads_to_it(as_owner: Client, token: Token) -> None:
    assert shows(as_owner.get(url("edit", token)), f'href="{url("signing_secret", token)}"')
