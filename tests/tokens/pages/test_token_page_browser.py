"""The token pages in a real browser: smooth with script, whole without, usable by keyboard."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from apperate.accounts.models import User, Workspace
from apperate.database.clock import database_now
from tests.conftest import sign_in_browser
from tests.support.factories import PASSWORD, DatasetFactory
from tokens.models import Token
from tokens.rules.permissions import Settings
from tokens.services import lifecycle

pytestmark = pytest.mark.django_db(transaction=True)
Axe = Callable[[Page], None]


@pytest.fixture
def secret(workspace: Workspace) -> Token:
    return lifecycle.create_secret_token(workspace=workspace, by=None, now=database_now())


@pytest.fixture
def token(workspace: Workspace, owner: User, secret: Token) -> Token:
    created = lifecycle.create_publishable_token(
        workspace=workspace, by=owner, now=database_now(), nickname="Customer XYZ", active_at_once=True
    )
    assert isinstance(created, Token)
    return created


@pytest.fixture
def visit(page: Page, live_server: Any, owner: User) -> Callable[..., Page]:
    """Open an address as the owner."""

    def open_page(address: str = "/tokens/", *, user: User = owner) -> Page:
        sign_in_browser(page, live_server, user)
        page.goto(live_server.url + address)
        return page

    return open_page


def edit_address(token: Token) -> str:
    return f"/tokens/{token.public_id}/"


def test_new_token_appears_at_the_bottom_and_turns_active_by_itself(
    visit: Callable[..., Page], token: Token, settings: Any
) -> None:
    settings.ACTIVATION_SECONDS = 4
    page = visit()
    page.evaluate("window.stayed = true")

    page.get_by_role("link", name="Create new token").click()
    dialog = page.get_by_role("dialog", name="Add publishable token")
    expect(dialog).to_be_visible()
    dialog.get_by_role("button", name="Add publishable token").click()

    row = page.locator("tbody tr").last
    expect(dialog).to_be_hidden()
    expect(row).to_have_class("is-new")
    expect(row).to_be_in_viewport()
    expect(row).to_contain_text("Activating")
    expect(page.locator("#toasts")).to_contain_text("created")
    expect(row).to_contain_text("Active", timeout=15_000)
    expect(row).not_to_contain_text("Activating", timeout=15_000)
    assert page.evaluate("window.stayed")
    assert page.locator("tbody tr").count() == 3


def test_pending_notice_goes_by_itself_and_leaves_what_is_being_typed(
    visit: Callable[..., Page], token: Token, settings: Any
) -> None:
    settings.ACTIVATION_SECONDS = 4
    page = visit(edit_address(token))
    limit = page.get_by_label("Core Credit Usage Limit")
    limit.fill("500,000")
    page.get_by_role("button", name="Done").click()

    notice = page.get_by_role("heading", name="Saved settings take effect")
    expect(notice).to_be_visible()
    expect(page.get_by_role("row", name="Core Credit Usage Limit")).to_contain_text("500,000 credits a month")
    page.get_by_label("Nickname").fill("Half typed")

    expect(notice).to_be_hidden(timeout=15_000)
    expect(page.get_by_label("Nickname")).to_have_value("Half typed")
    expect(limit).to_have_value("500,000")


def test_errors_are_announced_at_their_fields(visit: Callable[..., Page], token: Token, axe: Axe) -> None:
    page = visit(edit_address(token))
    page.get_by_label("Core Credit Usage Limit").fill("lots")
    expect(page.get_by_text("You have unsaved changes.")).to_be_visible()

    page.get_by_role("button", name="Done").click()

    field = page.get_by_label("Core Credit Usage Limit")
    expect(page.get_by_role("alert")).to_contain_text("Nothing was saved yet")
    expect(field).to_have_attribute("aria-invalid", "true")
    assert "Write a whole number of credits" in described(field)
    expect(field).to_have_value("lots")
    axe(page)

    # The form is long: what is wrong is listed above it, and leads to its field.
    page.get_by_role("alert").get_by_role("link", name="Core Credit Usage Limit").press("Enter")
    expect(field).to_be_in_viewport()
    expect(field).to_be_focused()


def test_a_request_that_takes_long_shows_it(visit: Callable[..., Page], token: Token) -> None:
    page = visit(edit_address(token))
    held: list[Route] = []
    page.route("**/tokens/*/", lambda route: held.append(route))
    line = """() => { const style = getComputedStyle(document.body, "::before");
        return style.content === '""' && style.opacity === "1"; }"""
    page.get_by_label("Nickname").fill("Patience")
    assert not page.evaluate(line)

    page.locator("#done").click()

    page.wait_for_function(line)
    expect(page.locator("#done")).to_be_disabled()
    expect(page.locator("#live")).to_have_text("Still waiting for the server.")
    held.pop().continue_()
    expect(page.get_by_role("heading", level=1)).to_have_text("Patience")
    # The mark of the request goes a moment after its answer stands on the page.
    page.wait_for_function(f"() => !({line})()")


def test_a_request_that_fails_keeps_what_was_typed(visit: Callable[..., Page], token: Token) -> None:
    # The browser's console says that a request failed, so another page is used here.
    page = visit(edit_address(token)).context.new_page()
    page.goto(visit(edit_address(token)).url)
    for outcome, said in (
        (lambda route: route.abort(), "The server did not answer."),
        (lambda route: route.fulfill(status=503, body="away"), "That did not work."),
        (
            lambda route: route.fulfill(status=403, body="no"),
            "That is not allowed, or this page is out of date.",
        ),
    ):
        page.route("**/tokens/*/", outcome)
        page.get_by_label("Nickname").fill("Typed once")
        page.locator("#done").click()
        expect(page.locator("#toasts .toast-error").last).to_contain_text(said)
        expect(page.get_by_label("Nickname")).to_have_value("Typed once")
        page.unroute("**/tokens/*/")

    page.evaluate("htmx.config.timeout = 300")
    page.route("**/tokens/*/", lambda route: None)  # Nobody answers.
    page.locator("#done").click()
    expect(page.locator("#toasts .toast-error").last).to_contain_text("The server took too long.")
    expect(page.locator("#done")).to_be_enabled()
    page.unroute("**/tokens/*/")
    page.evaluate("htmx.config.timeout = 30000")
    page.locator("#done").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Typed once")


def described(field: Any) -> str:
    ids = field.get_attribute("aria-describedby").split()
    return " ".join(field.page.locator(f"#{one}").inner_text() for one in ids)


def test_picker_adds_and_removes_access(visit: Callable[..., Page], token: Token) -> None:
    for name in ("CARS", "NEWS"):
        DatasetFactory(workspace=token.workspace, name=name)
    page = visit(edit_address(token))

    page.get_by_role("button", name="Click to add access to a dataset").click()
    page.get_by_label("Find a dataset").fill("ca")
    expect(page.get_by_label("NEWS: read")).to_be_hidden()
    picker = page.locator("#picker")
    place = picker.bounding_box()
    page.get_by_label("CARS: read").check()
    assert picker.bounding_box() == place, "the picker moves away under the pointer"
    page.get_by_label("CARS: write").check()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Remove read access to CARS").click()
    expect(page.get_by_role("button", name="Remove write access to CARS")).to_be_focused()
    page.get_by_role("button", name="Done").click()

    expect(page.get_by_role("row", name="Dataset permissions")).to_contain_text("CARS: write")
    saved, _ = lifecycle.saved(Token.objects.get(pk=token.pk), now=database_now())
    assert [sorted(actions) for actions in saved.grants.values()] == [["write"]]


def test_picker_searches_many_datasets_and_keeps_ticks(visit: Callable[..., Page], token: Token) -> None:
    for number in range(105):
        DatasetFactory(workspace=token.workspace, name=f"SET_{number:03}")
    page = visit(edit_address(token))

    page.get_by_role("button", name="Click to add access to a dataset").click()
    page.get_by_label("SET_001: read").check()
    page.get_by_label("Find a dataset").press_sequentially("SET_104")
    page.get_by_label("SET_104: read").check()
    expect(page.get_by_label("SET_001: read")).to_be_checked()
    expect(page.get_by_label("SET_002: read")).to_have_count(0)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Done").click()

    expect(page.get_by_role("row", name="Dataset permissions")).to_contain_text(
        "SET_001: read; SET_104: read"
    )


def test_row_menu_disables_without_leaving_the_list(visit: Callable[..., Page], token: Token) -> None:
    page = visit()
    page.evaluate("window.stayed = true")

    more = page.get_by_role("button", name="More actions for Customer XYZ")
    more.click()
    page.get_by_role("button", name="Disable").last.click()

    expect(page.locator(f"#{token.public_id}")).to_contain_text("Disabled")
    expect(more).to_be_focused()
    expect(page.locator("#toasts")).to_contain_text("Customer XYZ is disabled")
    assert page.evaluate("window.stayed")


def test_copy_takes_the_whole_value(visit: Callable[..., Page], token: Token) -> None:
    page = visit()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])

    page.get_by_role("button", name="Copy token Customer XYZ").click()

    expect(page.locator("#live")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == token.value


def test_keyboard_alone_opens_and_leaves_the_dialog_and_turns_a_switch(
    visit: Callable[..., Page], token: Token
) -> None:
    page = visit()
    opener = page.get_by_role("link", name="Create new token")
    opener.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(opener).to_be_focused()

    visit(edit_address(token))
    switch = page.get_by_role("switch", name="Core Data Access")
    page.get_by_label("Nickname").focus()
    for _ in range(6):
        page.keyboard.press("Tab")
        if switch.evaluate("e => e === document.activeElement"):
            break
    page.keyboard.press("Space")
    expect(switch).not_to_be_checked()


@pytest.mark.check("S06")
def test_secret_is_revealed_for_a_while_and_nowhere_afterwards(
    visit: Callable[..., Page], secret: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S06: second visit, back button and history cache show no secret."""
    monkeypatch.setattr("tokens.pages.tokens.HIDE_SECONDS", 2)
    value = lifecycle.reveal_secret(token=secret, by=None, now=database_now(), address="")
    page = visit(edit_address(secret))

    page.get_by_role("button", name="Reveal secret token").click()
    page.get_by_label("Password").fill(PASSWORD)
    page.locator("main").get_by_role("button").first.click()
    page.wait_for_url(f"**{edit_address(secret)}")
    page.get_by_role("button", name="Reveal secret token").click()
    expect(page.get_by_text(value)).to_be_visible()

    expect(page.get_by_text(value)).to_have_count(0, timeout=15_000)
    expect(page.get_by_role("button", name="Reveal secret token")).to_be_visible()
    page.goto(page.url.replace(edit_address(secret), "/tokens/"))
    page.go_back()
    assert value not in page.content()
    assert value not in page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])")


@pytest.mark.browser_context_args(java_script_enabled=False)
def test_create_edit_and_delete_without_script(visit: Callable[..., Page], token: Token) -> None:
    DatasetFactory(workspace=token.workspace, name="CARS")
    page = visit()
    page.get_by_role("link", name="Create new token").click()
    page.get_by_role("button", name="Add publishable token").click()
    expect(page.locator("tbody tr").last).to_have_class("is-new")

    page.get_by_role("link", name="Settings of Customer XYZ").click()
    page.get_by_label("Nickname").fill("No script")
    page.get_by_role("button", name="Click to add access to a dataset").click()
    page.get_by_label("CARS: read").check()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Done").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("No script")
    expect(page.locator("#pending-heading")).to_contain_text("UTC")
    page.get_by_role("button", name="Apply now").click()
    expect(page.locator("#pending-heading")).to_have_count(0)

    page.get_by_role("link", name="Delete").click()
    page.get_by_role("button", name="Delete token").click()
    expect(page.locator("#toasts")).to_contain_text("No script is in the trash")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_meet_the_accessibility_rules(
    visit: Callable[..., Page], page: Page, token: Token, secret: Token, teammate: User, axe: Axe, scheme: Any
) -> None:
    page.emulate_media(color_scheme=scheme)
    DatasetFactory(workspace=token.workspace, name="CARS")
    lifecycle.save_settings(
        token=token, changes=Settings(core_credit_limit=5), by=None, now=database_now(), based_on=None
    )

    for address in ("/tokens/", "/tokens/new/", edit_address(secret), f"{edit_address(token)}delete/"):
        axe(visit(address))
    visit(edit_address(token)).get_by_role("button", name="Click to add access to a dataset").click()
    axe(page)
    visit().get_by_role("link", name="Create new token").click()
    axe(page)
    axe(visit(edit_address(token), user=teammate))


@pytest.mark.parametrize("width", [320, 390])
def test_phone_has_no_sideways_scroll(
    visit: Callable[..., Page], page: Page, token: Token, width: int
) -> None:
    lifecycle.save_settings(
        token=token, changes=Settings(core_credit_limit=5), by=None, now=database_now(), based_on=None
    )
    page.set_viewport_size({"width": width, "height": 780})

    for address in ("/tokens/", "/tokens/new/", edit_address(token)):
        visit(address)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), address
