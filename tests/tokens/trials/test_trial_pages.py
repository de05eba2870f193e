""" "Test this token" as a person asks it: on its own page without script, as a fragment with it."""

from html import unescape
from typing import Any

import pytest
from django.test import Client

from apperate.accounts.models import AuditEvent, User, Workspace
from apperate.database.clock import database_now
from datasets.models import Dataset
from tests.support.factories import LONG_AGO, DatasetFactory, RevisionFactory, TokenFactory
from tokens.models import CreditWindow, Throttle, Token, UsageCounter
from tokens.services import lifecycle

HTMX = {"HX-Request": "true"}
QUERIES_MAX = 16


@pytest.fixture
def prices(workspace: Workspace) -> Dataset:
    return DatasetFactory(workspace=workspace, name="PRICES")


@pytest.fixture
def token(prices: Dataset) -> Token:
    """May read PRICES now, and write it once what is pending is in force."""
    token = TokenFactory(workspace=prices.workspace, settings=False)
    RevisionFactory(token=token, number=1, saved_at=LONG_AGO, effective_at=LONG_AGO, grants={prices: "read"})
    now = database_now()
    RevisionFactory(token=token, number=2, saved_at=now, grants={prices: "read write"})
    return token


def asked(client: Client, token: Token, *, headers: Any = None, **query: str) -> tuple[int, str]:
    response = client.get(f"/tokens/{token.public_id}/test/", query, headers=headers)
    return response.status_code, unescape(response.content.decode())


@pytest.mark.parametrize("headers", [None, HTMX], ids=["page", "fragment"])
def test_each_check_is_shown_in_words_and_the_request_as_curl(
    as_teammate: Client, token: Token, headers: Any
) -> None:
    status, html = asked(as_teammate, token, headers=headers, method="GET", dataset="prices", at="now")

    assert status == 200
    assert "would pass" in html and html.count("Passed") == 7
    assert "Authorization: Bearer pk_" in html and "/v1/data/ACME/PRICES" in html
    assert ("<html" in html) == (headers is None)


def test_now_and_after_activation_are_told_apart(as_owner: Client, token: Token) -> None:
    _, now = asked(as_owner, token, method="POST", dataset="ACME/PRICES", at="now")
    _, after = asked(as_owner, token, method="POST", dataset="ACME/PRICES", at="after")

    assert "would be refused: <code>not-active-yet" in now and "UTC on it would pass" in now
    assert "After activation, from" in after and "Now it would be refused" in after


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"method": "GET", "dataset": "ACME/NOSUCH"}, "dataset-not-granted"),
        ({"method": "GET", "dataset": "OTHER/PRICES"}, "dataset-not-granted"),
        ({"method": "GET", "dataset": "a b"}, "Write the name of a dataset"),
        ({"method": "GET", "dataset": "a/b/c\x00"}, "Null characters are not allowed"),
        ({"method": "GET"}, "Choose a dataset"),
        ({"method": "PATCH", "dataset": "PRICES"}, "Select a valid choice"),
        ({"method": "GET", "dataset": "PRICES", "page": "https://é.example"}, "in ASCII"),
        ({"method": "GET", "dataset": "PRICES", "page": "x" * 3_000}, "at most 2000 characters"),
        ({"method": "GET", "dataset": "PRICES", "at": "never"}, "Select a valid choice"),
    ],
    ids=lambda value: "",
)
def test_bad_input_is_said(as_owner: Client, token: Token, query: dict[str, str], said: str) -> None:
    status, html = asked(as_owner, token, **query)

    assert status == (200 if said == "dataset-not-granted" else 422)
    assert said in html


def test_a_secret_value_is_never_written_out(as_owner: Client, token: Token, prices: Dataset) -> None:
    secret = lifecycle.create_secret_token(workspace=token.workspace, by=None, now=database_now())
    assert isinstance(secret, Token)

    status, html = asked(as_owner, secret, method="DELETE", dataset="PRICES", page="https://a.example")

    assert status == 200
    assert "secret-in-browser" in html and "$APPERATE_SECRET_TOKEN" in html
    assert "sk_" not in html


def test_testing_changes_nothing(as_owner: Client, token: Token, django_assert_max_num_queries: Any) -> None:
    CreditWindow.objects.create(token=token, month=database_now().date().replace(day=1), used=3)
    Throttle.objects.create(token=token, level=0.0, filled_at=LONG_AGO, last_taken=0)
    before = [list(model.objects.values()) for model in (Throttle, CreditWindow, UsageCounter, AuditEvent)]
    assert asked(as_owner, token)[0] == 200

    with django_assert_max_num_queries(QUERIES_MAX):
        status, html = asked(as_owner, token, headers=HTMX, method="GET", dataset="PRICES")

    assert "would pass" in html
    after = [list(model.objects.values()) for model in (Throttle, CreditWindow, UsageCounter, AuditEvent)]
    assert after == before


def test_tokens_of_others_are_not_there(as_outsider: Client, token: Token, owner: User) -> None:
    assert asked(as_outsider, token, method="GET", dataset="PRICES")[0] == 404


def test_the_box_is_on_the_pages_of_both_kinds(as_owner: Client, token: Token) -> None:
    secret = lifecycle.create_secret_token(workspace=token.workspace, by=None, now=database_now())
    assert isinstance(secret, Token)

    for one in (token, secret):
        html = as_owner.get(f"/tokens/{one.public_id}/").content.decode()
        assert "Test this token" in html and 'value="ACME/PRICES"' in html
