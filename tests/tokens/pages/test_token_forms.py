"""What the token form takes, what it hands on, and the words with which it refuses."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.http import QueryDict

from apperate.accounts.models import Workspace
from tests.support.factories import DatasetFactory, RevisionFactory, TokenFactory
from tokens.models import Token
from tokens.pages.forms import TokenForm
from tokens.rules.permissions import CREDIT_LIMIT_MAX, Action
from tokens.services.lifecycle import Edit

NOW = datetime.fromisoformat("2026-11-23T14:05:32+00:00")


@pytest.fixture
def token(workspace: Workspace) -> Token:
    return TokenFactory(workspace=workspace, nickname="Customer XYZ")


def posted(form: TokenForm, **changes: Any) -> QueryDict:
    """What a browser would send for this form after these changes (None: left out)."""
    data = QueryDict(mutable=True)
    for name, field in form.fields.items():
        value = form[name].value()
        if field.disabled or value in (None, False, ""):
            continue
        if isinstance(value, list):
            data.setlist(name, value)
        else:
            data[name] = value.strftime("%Y-%m-%dT%H:%M") if isinstance(value, datetime) else str(value)
    for name, value in changes.items():
        if isinstance(value, list):
            data.setlist(name, value)
        elif value is None:
            data.pop(name, None)
        else:
            data[name] = value
    return data


def filled(token: Token, **changes: Any) -> TokenForm:
    return TokenForm(posted(TokenForm(token=token, now=NOW), **changes), token=token, now=NOW)


def errors(form: TokenForm, field: str) -> list[str]:
    assert not form.is_valid()
    return [str(error) for error in form.errors.get(field, [])]


def test_untouched_form_hands_on_what_was_saved(token: Token, workspace: Workspace) -> None:
    dataset = DatasetFactory(workspace=workspace)
    RevisionFactory(
        token=token,
        number=2,
        saved_at=NOW - timedelta(days=1),
        effective_at=NOW - timedelta(days=1),
        allowed_domains=["www.example.com"],
        core_credit_limit=500_000,
        all_datasets_write=True,
        requests_per_second=20,
        burst=30,
        grants={dataset: "read delete"},
    )
    form = filled(token)

    assert form.is_valid(), form.errors
    assert form.settings() == form.saved
    assert (form.nickname_edit(), form.expires_at_edit()) == (None, None)
    assert form.cleaned_data["based_on"] == 2


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("", None),
        ("0", 0),
        ("500000", 500_000),
        ("500,000", 500_000),
        ("1 000 000", 1_000_000),
        ("1’000", 1_000),
    ],
)
def test_limit_is_read_with_and_without_separators(token: Token, text: str, limit: int | None) -> None:
    form = filled(token, core_credit_limit=text)

    assert form.is_valid(), form.errors
    assert form.settings().core_credit_limit == limit


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("abc", "Write a whole number of credits, such as 500,000, or leave the field blank for no limit."),
        ("1.5", "Write a whole number of credits, such as 500,000, or leave the field blank for no limit."),
        ("5,00", "Write a whole number of credits, such as 500,000, or leave the field blank for no limit."),
        ("٣٣", "Write a whole number of credits, such as 500,000, or leave the field blank for no limit."),
        ("-4", "A limit cannot be below 0. Write 0 to stop all CORE requests."),
        (
            str(CREDIT_LIMIT_MAX + 1),
            f"Write at most {CREDIT_LIMIT_MAX:,}, or leave the field blank for no limit.",
        ),
    ],
)
def test_limit_that_cannot_be_read_says_what_would_be_right(token: Token, text: str, message: str) -> None:
    assert errors(filled(token, core_credit_limit=text), "core_credit_limit") == [message]


def test_wrong_domains_are_each_named(token: Token) -> None:
    found = errors(filled(token, allowed_domains="www.example.com a,b *.com"), "allowed_domains")

    assert len(found) == 2
    assert found[0].startswith("“a,b”") and "commas" in found[0]
    assert found[1].startswith("“*.com”") and "*.example.com" in found[1]


def test_domains_become_rules_in_canonical_form(token: Token) -> None:
    form = filled(token, allowed_domains="WWW.Example.com\n  *.example.org www.example.com ")

    assert form.is_valid(), form.errors
    assert [str(rule) for rule in form.settings().allowed_domains] == ["www.example.com", "*.example.org"]


def test_permissions_become_grants(token: Token, workspace: Workspace) -> None:
    cars, news = (
        DatasetFactory(workspace=workspace, name="CARS"),
        DatasetFactory(workspace=workspace, name="NEWS"),
    )

    form = filled(token, perm=["*:read", "CARS:write", "CARS:delete", "NEWS:read"])

    assert form.is_valid(), form.errors
    assert form.settings().all_datasets == {Action.READ}
    assert form.settings().grants == {cars.pk: {Action.WRITE, Action.DELETE}, news.pk: {Action.READ}}


@pytest.mark.parametrize("value", ["NOPE:read", "THEIRS:read"], ids=["unknown", "another workspace's"])
def test_dataset_of_nobody_or_another_workspace_is_refused_alike(token: Token, value: str) -> None:
    DatasetFactory(name="THEIRS")
    name = value.partition(":")[0]

    assert errors(filled(token, perm=[value]), "perm") == [
        f"{name} is no dataset of this workspace. Take it out."
    ]


@pytest.mark.parametrize("value", ["CARS", "CARS:own", "cars:read", ":read", "*", "A B:read", "CARS:READ"])
def test_permission_of_another_form_is_refused(token: Token, workspace: Workspace, value: str) -> None:
    DatasetFactory(workspace=workspace, name="CARS")

    assert errors(filled(token, perm=[value]), "perm")


def test_grant_on_a_deleted_dataset_is_kept(token: Token, workspace: Workspace) -> None:
    dataset = DatasetFactory(workspace=workspace, deleted_at=NOW)
    RevisionFactory(token=token, saved_at=NOW - timedelta(days=1), grants={dataset: "read"})

    form = filled(token, core_credit_limit="5")

    assert form.is_valid(), form.errors
    assert form.settings().grants == {dataset.pk: {Action.READ}}


def test_nickname_is_tidied_and_bounded(token: Token) -> None:
    form = filled(token, nickname="  Customer   ABC ")

    assert form.is_valid(), form.errors
    assert form.nickname_edit() == Edit("Customer XYZ", "Customer ABC")
    assert errors(filled(token, nickname="x" * 61), "nickname") == ["Use at most 60 characters."]
    assert errors(filled(token, nickname="a\u202eb"), "nickname") == ["Remove the invisible characters."]


def test_expiry_lies_in_the_future(token: Token) -> None:
    form = filled(token, expires_at="2026-11-23T14:06")

    assert form.is_valid(), form.errors
    assert form.expires_at_edit() == Edit(None, datetime.fromisoformat("2026-11-23T14:06:00+00:00"))
    assert errors(filled(token, expires_at="2026-11-23T14:05"), "expires_at") == [
        "Choose a time in the future. To stop the token now, disable it."
    ]
    assert "2027-01-31T18:00" in errors(filled(token, expires_at="soon"), "expires_at")[0]


def test_expiry_that_has_passed_may_stay(token: Token) -> None:
    token.expires_at = NOW - timedelta(days=1)
    token.save(update_fields=["expires_at"])

    form = filled(token, core_credit_limit="5")

    assert form.is_valid(), form.errors
    assert form.expires_at_edit() is None


def test_switches_that_the_plan_forbids_are_disabled_and_say_why(token: Token, workspace: Workspace) -> None:
    workspace.plan = "scale"
    workspace.save(update_fields=["plan"])
    token.refresh_from_db()

    form = filled(token, signed_requests="on", premium_data_access="on")

    assert form.is_valid(), form.errors
    assert (form.settings().signed_requests, form.settings().premium_data_access) == (False, False)
    assert "Not part of the Scale plan" in form["signed_requests"].help_text
    assert "no Premium subscription" in form["premium_data_access"].help_text


def test_signing_that_is_on_can_be_turned_off_after_a_downgrade(token: Token, workspace: Workspace) -> None:
    RevisionFactory(token=token, saved_at=NOW - timedelta(days=1), signed_requests=True)
    workspace.plan = "launch"
    workspace.save(update_fields=["plan"])
    token.refresh_from_db()

    kept, dropped = filled(token), filled(token, signed_requests=None)

    assert kept.is_valid() and kept.settings().signed_requests
    assert dropped.is_valid() and not dropped.settings().signed_requests


@pytest.mark.check("S15")
def test_protected_fields_are_not_taken_from_the_form(token: Token) -> None:
    """S15: what the form does not show cannot be set by sending it."""
    form = filled(
        token, kind="secret", workspace="9", public_id="tok_mine", value="sk_1", effective_at="2026-01-01",
        created_by="1", disabled_at="", deleted_at="2026-01-01",
    )  # fmt: skip

    assert form.is_valid(), form.errors
    assert form.settings() == form.saved


def test_read_only_form_takes_nothing(token: Token) -> None:
    data = QueryDict("nickname=Mine&core_credit_limit=5")

    form = TokenForm(data, token=token, now=NOW, read_only=True)

    assert form.is_valid(), form.errors
    assert form.settings() == form.saved
    assert form.nickname_edit() is None


def test_picker_offers_a_hundred_datasets_and_always_those_granted(
    token: Token, workspace: Workspace
) -> None:
    datasets = [DatasetFactory(workspace=workspace, name=f"SET_{n:03}") for n in range(103)]
    RevisionFactory(token=token, saved_at=NOW - timedelta(days=1), grants={datasets[-1]: "read"})

    html = str(TokenForm(token=token, now=NOW)["perm"])

    assert 'value="SET_099:read"' in html and 'value="SET_100:read"' not in html
    assert 'value="SET_102:read"' in html
    assert "103 datasets" in html
    assert 'value="SET_100:read"' in str(TokenForm(token=token, now=NOW, shows_all=True)["perm"])


def test_throttle_and_report_only_domains_are_set_and_cleared(token: Token) -> None:
    form = filled(token, requests_per_second="20", burst="40", domains_report_only="on")

    assert form.is_valid(), form.errors
    settings = form.settings()
    assert (settings.requests_per_second, settings.burst, settings.domains_report_only) == (20, 40, True)
    cleared = filled(token, requests_per_second="", burst="", domains_report_only=None)
    assert cleared.is_valid(), cleared.errors
    settings = cleared.settings()
    assert (settings.requests_per_second, settings.burst, settings.domains_report_only) == (None, None, False)


@pytest.mark.parametrize("name", ["requests_per_second", "burst"])
@pytest.mark.parametrize("text", ["0", "-1", "1.5", "many", "1000001", "9" * 500, "\0"])
def test_a_rate_that_cannot_be_is_refused_with_what_can(token: Token, name: str, text: str) -> None:
    assert errors(filled(token, **{name: text}), name) == [
        "Write a whole number from 1 to 1,000,000, or leave it blank."
    ]


def test_more_is_open_when_something_in_it_is_set_or_wrong(token: Token) -> None:
    assert not TokenForm(token=token, now=NOW).has_more
    assert filled(token, burst="40").has_more
    assert filled(token, burst="none").has_more
