"""The workspace's own switches: secret tokens from browsers, and the second factor of everybody (S49)."""

from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal import auth as totp
from django.test import Client
from django.urls import reverse
from playwright.sync_api import Page, expect

from apperate.accounts.models import AuditEvent, User, Workspace
from apperate.database.changes import changes
from tests.apperate.team.test_people import shows
from tests.conftest import sign_in_browser, signed_in
from tests.support.data_plane_client import DataPlaneClient
from tests.support.factories import PASSWORD, MembershipFactory, TokenFactory, WorkspaceFactory
from tokens.rules.token_format import TokenKind

pytestmark = pytest.mark.django_db
PAGE, SAVE = "team:workspace", "team:security_save"
FIRST = "Add a second factor first"


def add_factor(user: User) -> None:
    totp.TOTP.activate(user, totp.generate_totp_secret())


def save(client: Client, *, refuses: bool = True, requires: bool = False) -> Any:
    form = {"refuses_secret_in_browser": refuses, "requires_second_factor": requires}
    return client.post(reverse(SAVE), {name: "on" for name, on in form.items() if on}, follow=True)


# --- the page -----------------------------------------------------------------------------------


def test_the_page_tells_the_plan_what_is_used_of_it_and_the_delay(
    as_owner: Client, workspace: Workspace
) -> None:
    TokenFactory.create_batch(3, workspace=workspace)

    page = as_owner.get(reverse(PAGE))

    assert shows(page, "<dd>Business</dd> <dd>5,000 requests a second per token</dd>")
    assert shows(page, "<dd>3</dd> <dd>of 10,000, the secret one included</dd>")
    assert shows(page, "used, no limit in your plan")
    assert shows(page, "2 minutes")
    Workspace.objects.update(plan="launch")
    small = as_owner.get(reverse(PAGE))
    assert shows(small, "of 20") and shows(small, "of 10 GB used") and shows(small, "<dd>1 day</dd>")


def test_a_user_sees_the_switches_and_cannot_use_them(as_teammate: Client, workspace: Workspace) -> None:
    page = as_teammate.get(reverse(PAGE)).content.decode()

    assert page.count('role="switch"') == page.count("disabled") == 2
    assert save(as_teammate, refuses=False).status_code == 403
    assert not Workspace.objects.get(pk=workspace.pk).allows_secret_in_browser


# --- secret tokens from browsers ----------------------------------------------------------------


@pytest.mark.check("S10")
@pytest.mark.django_db(transaction=True)
def test_a_secret_token_from_a_browser_follows_the_switch(
    api: DataPlaneClient, as_owner: Client, workspace: Workspace
) -> None:
    secret = TokenFactory(workspace=workspace, kind=TokenKind.SECRET, nickname="")
    from_page = {"X-API-Key": secret.test_value, "Origin": "https://www.example.com"}

    def status() -> int:
        api.run(changes.poll())
        return api.request("GET", "/v1/token", headers=from_page).status

    assert status() == 403
    assert shows(save(as_owner, refuses=False), "Saved. It holds from now on.")
    assert status() == 200
    save(as_owner, refuses=True)
    assert status() == 403


# --- the second factor --------------------------------------------------------------------------


@pytest.mark.check("S49")
def test_who_has_no_second_factor_cannot_require_one(as_owner: Client, workspace: Workspace) -> None:
    answer = save(as_owner, refuses=False, requires=True)

    assert answer.status_code == 422
    assert shows(answer, "Add a second factor to your own account first; else this would shut you out.")
    kept = Workspace.objects.get(pk=workspace.pk)
    assert not kept.requires_second_factor and not kept.allows_secret_in_browser
    assert not AuditEvent.objects.filter(action="workspace.changed").exists()


@pytest.mark.check("S49")
def test_a_required_second_factor_closes_every_page_to_who_has_none(
    owner: User, as_owner: Client, teammate: User, as_teammate: Client
) -> None:
    add_factor(owner)
    assert shows(save(as_owner, requires=True), "Saved.")

    for name in ("tokens:list", "datasets:list", "team:members", PAGE, "tokens:usage"):
        stopped = as_teammate.get(reverse(name))
        assert (stopped.status_code, shows(stopped, FIRST)) == (403, True), name
        assert as_owner.get(reverse(name)).status_code == 200
    assert as_teammate.get(reverse("mfa_index")).status_code == 200
    assert shows(as_teammate.get(reverse("tokens:list")), reverse("mfa_activate_totp"))

    add_factor(teammate)
    assert as_teammate.get(reverse("tokens:list")).status_code == 200


def test_recovery_codes_alone_are_no_second_factor(as_teammate: Client, teammate: User) -> None:
    Workspace.objects.update(requires_second_factor=True)
    Authenticator.objects.create(user=teammate, type=Authenticator.Type.RECOVERY_CODES, data={})

    assert as_teammate.get(reverse("tokens:list")).status_code == 403


def test_who_is_stopped_may_still_look_at_another_workspace(teammate: User, workspace: Workspace) -> None:
    Workspace.objects.update(requires_second_factor=True)
    other = WorkspaceFactory(name="OTHER", title="Zzz")
    MembershipFactory(workspace=other, user=teammate)
    client = signed_in(teammate)
    assert client.get(reverse("tokens:list")).status_code == 403

    client.post(reverse("workspace_switch", args=["OTHER"]))

    assert client.get(reverse("tokens:list")).status_code == 200


def test_an_operator_may_switch_off_what_shut_everybody_out(as_owner: Client, workspace: Workspace) -> None:
    Workspace.objects.update(requires_second_factor=True)
    assert as_owner.get(reverse(PAGE)).status_code == 403
    assert save(as_owner).status_code == 403

    Workspace.objects.update(requires_second_factor=False)

    assert as_owner.get(reverse(PAGE)).status_code == 200


# --- the audit log ------------------------------------------------------------------------------


def test_a_change_is_audited_once_with_what_it_was_before(as_owner: Client, owner: User) -> None:
    save(as_owner, refuses=False)
    again = save(as_owner, refuses=False)

    event = AuditEvent.objects.get(action="workspace.changed")
    assert event.user == owner
    assert (event.before, event.after) == (
        {"allows_secret_in_browser": False},
        {"allows_secret_in_browser": True},
    )
    assert shows(again, "Nothing had changed")


# --- in a browser -------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_the_switches_are_walked_in_a_browser(
    page: Page, live_server: Any, owner: User, workspace: Workspace, axe: Any
) -> None:
    sign_in_browser(page, live_server, owner)
    page.goto(f"{live_server.url}{reverse(PAGE)}")
    axe(page)

    page.get_by_role("switch", name="Require a second factor").check()
    page.get_by_role("button", name="Save", exact=True).click()

    expect(page.get_by_text("Add a second factor to your own account first")).to_be_visible()
    expect(page.get_by_role("switch", name="Require a second factor")).to_be_checked()
    axe(page)
    Workspace.objects.update(requires_second_factor=True)
    stopped = page.context.new_page()  # The console of the other one may not tell of a 403.
    stopped.goto(f"{live_server.url}{reverse(PAGE)}")
    axe(stopped)
    stopped.get_by_role("link", name="Add a second factor").click()
    stopped.get_by_label("Password").fill(PASSWORD)
    stopped.keyboard.press("Enter")
    expect(stopped.get_by_label("The same as text")).to_be_visible()
