"""The refusals on a token's page, and the buttons that mend them."""

import pytest
from django.test import Client
from django.urls import reverse

from apperate.accounts.models import AuditEvent, Workspace
from apperate.database.clock import database_now
from datasets.models import Dataset
from tests.support.factories import DatasetFactory, TokenFactory, WorkspaceFactory
from tokens.models import Token, TokenRefusal
from tokens.rules.permissions import Action, Settings
from tokens.services import lifecycle, saved_settings


@pytest.fixture
def prices(workspace: Workspace) -> Dataset:
    return DatasetFactory(workspace=workspace, name="PRICES")


@pytest.fixture
def token(workspace: Workspace, prices: Dataset) -> Token:
    """A token that was refused from another site, and on a dataset."""
    token = TokenFactory(workspace=workspace, settings__allowed_domains=["www.example.com"])
    now = database_now()
    for code, site, dataset_id, calls in (
        ("domain-not-allowed", "shop.example", 0, 7),
        ("domain-not-allowed", "", 0, 2),
        ("dataset-not-granted", "", prices.pk, 3),
    ):
        TokenRefusal.objects.create(
            token_id=token.pk,
            code=code,
            site=site,
            dataset_id=dataset_id,
            calls=calls,
            first_at=now,
            last_at=now,
        )
    return token


def page(client: Client, token: Token) -> str:
    return client.get(reverse("tokens:edit", args=[token.public_id])).content.decode()


def fix(client: Client, token: Token, **fields: str) -> str:
    address = reverse("tokens:fix", args=[token.public_id])
    return client.post(address, fields, follow=True).content.decode()


def saved(token: Token) -> Settings:
    return lifecycle.saved(Token.objects.get(pk=token.pk), now=database_now())[0]


def test_they_are_grouped_by_reason_with_what_mends_them(as_owner: Client, token: Token) -> None:
    html = page(as_owner, token)

    assert "domain-not-allowed</a>, 9 times" in html
    assert "dataset-not-granted</a>, 3 times" in html
    assert html.count("Allow this domain") == html.count("Grant this dataset") == 1


def test_a_site_is_allowed_with_one_click_and_waits(as_owner: Client, token: Token) -> None:
    html = fix(as_owner, token, site="shop.example")

    assert "take effect after" in html and "Allow this domain" not in html
    versions = Token.objects.get(pk=token.pk).versions(now=database_now())
    assert versions.pending and versions.in_force
    assert saved_settings.of_revision(versions.pending).allowed_domains != ()
    assert versions.pending.allowed_domains == ["www.example.com", "shop.example"]
    assert versions.in_force.allowed_domains == ["www.example.com"]
    assert AuditEvent.objects.get().action == "token.settings_saved"


def test_a_dataset_is_granted_with_one_click(as_owner: Client, token: Token, prices: Dataset) -> None:
    html = fix(as_owner, token, dataset="PRICES")

    assert "Grant this dataset" not in html
    assert saved(token).grants == {prices.pk: frozenset({Action.READ})}
    assert saved(token).allowed_domains


def test_what_cannot_be_meant_changes_nothing(as_owner: Client, workspace: Workspace, token: Token) -> None:
    DatasetFactory(workspace=WorkspaceFactory(), name="FOREIGN")
    anywhere = TokenFactory(workspace=workspace)
    before = saved(token)

    for fields in {}, {"site": "a b"}, {"site": "\x00"}, {"dataset": "FOREIGN"}, {"dataset": "A\x00"}:
        fix(as_owner, token, **fields)
    # A blank list allows any site: one rule in it would shut out all others.
    assert "1 to 49 allowed domains" in fix(as_owner, anywhere, site="shop.example")

    assert saved(token) == before
    assert saved(anywhere).allowed_domains == ()
    assert not AuditEvent.objects.exists()


def test_a_teammate_sees_them_and_mends_nothing(as_teammate: Client, token: Token) -> None:
    html = page(as_teammate, token)

    assert "domain-not-allowed</a>, 9 times" in html and "Allow this domain" not in html
    fix(as_teammate, token, site="shop.example")
    assert not AuditEvent.objects.exists()
