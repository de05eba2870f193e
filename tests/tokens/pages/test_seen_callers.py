"""The sites a token was used from, on its page: what its rules say of each, and one click to add it."""

from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse

from apperate.accounts.models import Workspace
from apperate.database.clock import database_now
from tests.apperate.team.test_people import shows
from tests.support.data_plane_client import DataPlaneClient
from tests.support.factories import DatasetFactory, TokenFactory
from tests.support.installation import until
from tests.support.refused_requests import reader
from tokens.models import Token, TokenRefusal
from tokens.pages import seen_callers
from tokens.rules.token_format import TokenKind
from tokens.services import saved_settings


def seen(token: Token) -> dict[str, tuple[int, int, bool | None, bool]]:
    now = database_now()
    revision = token.versions(now=now).saved
    assert revision
    found = seen_callers.seen(token, saved_settings.of_revision(revision), now=now, may_edit=True)
    return {one.site: (one.answered, one.refused, one.is_allowed, one.may_add) for one in found}


def noted(token: Token, site: str, *, days: int = 0, code: str = "ok") -> None:
    at = database_now() - timedelta(days=days)
    TokenRefusal.objects.create(
        token_id=token.pk, code=code, site=site, calls=1, first_at=at, last_at=at
    )  # fmt: skip


def page(client: Client, token: Token, **query: str) -> str:
    return client.get(reverse("tokens:edit", args=[token.public_id]), query).content.decode()


@pytest.mark.django_db(transaction=True)
def test_calls_from_pages_are_seen_and_others_are_not(api: DataPlaneClient, workspace: Workspace) -> None:
    dataset = DatasetFactory(workspace=workspace, name="PRICES")
    token = reader(dataset, allowed_domains=["*.a.example"])
    for headers in (
        {"Origin": "https://www.a.example"},
        {"Referer": "https://www.a.example/page?q=1"},
        {"Origin": "https://b.example:8443"},
        {},
    ):
        api.get("/v1/data/ACME/PRICES", headers={"X-API-Key": token.test_value, **headers})

    until(lambda: sum(TokenRefusal.objects.values_list("calls", flat=True)) == 4)

    assert seen(token) == {
        "www.a.example": (2, 0, True, False),
        "b.example:8443": (0, 1, False, True),
    }


@pytest.mark.django_db
def test_callers_are_of_7_days_and_of_the_token_alone(workspace: Workspace) -> None:
    token = TokenFactory(workspace=workspace)
    noted(token, "new.example", days=6)
    noted(token, "old.example", days=8)
    noted(token, "refused.example", code="dataset-not-granted")
    noted(TokenFactory(workspace=workspace), "other.example")

    assert seen(token) == {"new.example": (1, 0, None, True)}


@pytest.mark.django_db
def test_the_form_offers_what_is_not_on_the_list(as_owner: Client, workspace: Workspace) -> None:
    token = TokenFactory(workspace=workspace, settings={"allowed_domains": ["www.example.com"]})
    noted(token, "www.example.com")
    noted(token, "shop.example")

    html = page(as_owner, token)

    assert html.count("On the list") == html.count("Not on the list") == html.count("data-add-line=") == 1
    assert 'href="?add=shop.example#id_allowed_domains"' in html


@pytest.mark.django_db
def test_report_only_says_what_would_be_refused(as_owner: Client, workspace: Workspace) -> None:
    token = TokenFactory(
        workspace=workspace, settings={"allowed_domains": ["www.example.com"], "domains_report_only": True}
    )
    noted(token, "shop.example")

    assert "Would be refused" in page(as_owner, token)


@pytest.mark.django_db
def test_without_script_the_link_puts_the_site_into_the_form_and_saves_nothing(
    as_owner: Client, workspace: Workspace
) -> None:
    token = TokenFactory(workspace=workspace, settings={"allowed_domains": ["www.example.com"]})
    before = token.revisions.count()

    html = page(as_owner, token, add="shop.example")

    assert "www.example.com\nshop.example</textarea>" in html
    assert "shop.example was added; choose Done to save" in html
    assert token.revisions.count() == before


@pytest.mark.django_db
@pytest.mark.parametrize("site", ["*.com", "a b", "<script>", "x" * 5_000, "\0", ""])
def test_what_is_no_site_is_not_put_into_the_form(as_owner: Client, workspace: Workspace, site: str) -> None:
    token = TokenFactory(workspace=workspace, settings={"allowed_domains": ["www.example.com"]})

    html = page(as_owner, token, add=site)

    assert "www.example.com</textarea>" in html


@pytest.mark.django_db
def test_who_may_not_edit_sees_callers_and_no_buttons(as_teammate: Client, workspace: Workspace) -> None:
    token = TokenFactory(workspace=workspace, settings={"allowed_domains": ["www.example.com"]})
    noted(token, "shop.example")

    html = page(as_teammate, token, add="shop.example")

    assert "Not on the list" in html
    assert "data-add-line" not in html and "shop.example</textarea>" not in html


@pytest.mark.django_db
def test_the_secret_token_has_no_callers(as_owner: Client, workspace: Workspace) -> None:
    token = TokenFactory(workspace=workspace, kind=TokenKind.SECRET)
    noted(token, "shop.example")

    assert not shows(as_owner.get(reverse("tokens:edit", args=[token.public_id])), "Seen callers")
