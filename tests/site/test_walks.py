"""The main paths in a real browser, each once as somebody who has no mouse, no script, or a phone.

test_walk.py is the path of a mouse. Here: from signing in to a served request by keyboard alone and on a
phone; from a file to an answer of its API; from an invite to a member, an admin, and nobody again.
"""

import json
import re
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.site.test_walk import call, sign_in
from tests.support.hands import PHONE, Keyboard
from tests.support.installation import Demo, until

pytestmark = [pytest.mark.server, pytest.mark.database]
CSV = "Ticker,Date,Close\nAAPL,2024-01-02,185.64\nAAPL,2024-01-03,184.25\nMSFT,2024-01-02,370.87\n"
PASSWORD = "a long enough sentence"
WITHOUT_SCRIPT = pytest.param(False, marks=pytest.mark.browser_context_args(java_script_enabled=False))


def button(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True)


def token_of(page: Page) -> str:
    """The value of the token whose page is shown, out of its example."""
    found = re.search(r"pk_[0-9a-f]{40}", page.locator("#example-curl").inner_text())
    assert found
    return found[0]


def test_by_keyboard_alone_from_sign_in_to_a_served_request(page: Page, demo: Demo) -> None:
    keys = Keyboard(page)
    page.goto(demo.facts["tokens_url"])
    keys.type(page.get_by_label("E-mail"), demo.facts["email"])
    keys.type(page.get_by_label("Password"), demo.facts["password"])
    keys.press(button(page, "Sign in"))

    # The first stop leads past the navigation; a dialog keeps the focus in it and gives it back.
    expect(page.get_by_role("heading", name="API Tokens", level=1)).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    opener = page.get_by_role("link", name="Create new token")
    keys.press(opener)
    dialog = page.get_by_role("dialog", name="Add publishable token")
    for _ in range(5):
        page.keyboard.press("Tab")
        assert page.evaluate(
            "document.activeElement === document.body || !!document.activeElement.closest('dialog')"
        )
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(opener).to_be_focused()
    page.keyboard.press("Enter")
    keys.press(button(page, "Add publishable token"))
    row = page.locator("tr.is-new")
    expect(row).to_be_in_viewport()

    # A menu opens below its button, closes with Escape, and gives the focus back too.
    more = row.get_by_role("button", name="More actions for")
    keys.press(more)
    keys.to(row.get_by_role("link", name="Edit settings"))
    page.keyboard.press("Escape")
    expect(more).to_be_focused()
    keys.press(more)
    keys.press(row.get_by_role("link", name="Edit settings"))

    keys.type(page.get_by_label("Nickname"), "By keyboard")
    picker = page.get_by_role("button", name="Click to add access")
    keys.press(picker)
    keys.press(page.get_by_label("STOCKS: read"), "Space")
    page.keyboard.press("Escape")
    expect(page.locator("#picker")).to_be_hidden()
    expect(picker).to_be_focused()
    keys.type(page.get_by_label("Core Credit Usage Limit"), "lots")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Nothing was saved yet")).to_be_visible()
    keys.type(page.get_by_label("Core Credit Usage Limit"), "5000")
    keys.press(page.locator("#done"))
    expect(page.get_by_role("heading", level=1)).to_have_text("By keyboard")
    keys.press(button(page, "Apply now"))
    expect(page.locator("#pending-heading")).to_have_count(0)

    # The call is copied, served, and counted.
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    keys.press(page.get_by_role("button", name="Copy example in curl"))
    expect(page.locator("#live")).to_have_text("Copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("curl -G") and token_of(page) in copied
    until(lambda: call(demo, token_of(page))[0] == 200)
    keys.press(page.get_by_role("link", name="Usage", exact=True))
    expect(page.get_by_role("heading", name="Usage", level=1)).to_be_visible()
    keys.to(page.get_by_role("combobox", name="Token"))
    page.keyboard.type("By keyboard")
    keys.press(button(page, "Show"))
    expect(page.get_by_role("main")).to_contain_text("What By keyboard did")
    until(lambda: reloaded(page, "STOCKS"))


@pytest.mark.browser_context_args(**PHONE)
def test_on_a_phone_from_sign_in_to_a_served_request(page: Page, demo: Demo) -> None:
    def fits() -> None:
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), page.url

    sign_in(page, demo)
    fits()
    button(page, "Open navigation").tap()
    page.get_by_role("navigation", name="Main").get_by_role("link", name="Datasets").tap()
    expect(page.get_by_role("heading", name="Datasets", level=1)).to_be_visible()
    fits()
    button(page, "Open navigation").tap()
    page.get_by_role("navigation", name="Main").get_by_role("link", name="API Tokens").tap()
    page.get_by_role("link", name="Create new token").tap()
    button(page, "Add publishable token").tap()
    row = page.locator("tr.is-new")
    expect(row).to_be_in_viewport()
    fits()
    row.get_by_role("link", name="Settings of").tap()
    button(page, "Apply now").tap()
    expect(page.locator("#pending-heading")).to_have_count(0)
    page.get_by_label("Nickname").fill("On a phone")
    page.get_by_role("button", name="Click to add access").tap()
    page.get_by_label("STOCKS: read").tap()
    expect(page.get_by_label("STOCKS: read")).to_be_in_viewport()
    page.keyboard.press("Escape")
    fits()
    page.locator("#done").tap()
    button(page, "Undo").tap()
    expect(page.locator("#toasts")).to_contain_text("undone")
    fits()
    assert call(demo, token_of(page))[0] == 403
    page.get_by_role("button", name="Click to add access").tap()
    page.get_by_label("STOCKS: read").tap()
    page.keyboard.press("Escape")
    page.locator("#done").tap()
    button(page, "Apply now").tap()
    expect(page.locator("#pending-heading")).to_have_count(0)
    fits()
    until(lambda: call(demo, token_of(page))[0] == 200)


@pytest.mark.parametrize("scripts", [True, WITHOUT_SCRIPT], ids=["with script", "without"])
def test_a_file_becomes_an_api_that_answers(page: Page, demo: Demo, scripts: bool) -> None:
    name = "WALKED" if scripts else "WALKED_PLAINLY"
    sign_in(page, demo)
    page.get_by_role("navigation", name="Main").get_by_role("link", name="Datasets").click()
    page.get_by_role("link", name="Create a dataset").or_(
        page.get_by_role("link", name="Create dataset")
    ).first.click()
    page.get_by_label("Dataset ID").fill(name)
    file: Any = {"name": "prices.csv", "mimeType": "text/csv", "buffer": CSV.encode()}
    page.get_by_label("Choose a CSV").set_input_files(file)
    button(page, "Upload and continue").click()
    button(page, "Create dataset").click()
    expect(page.get_by_role("heading", name=f"prices.csv into {name}")).to_be_visible()
    until(lambda: scripts or reloaded(page, "Complete"))
    expect(page.get_by_text("Complete", exact=True)).to_be_visible(timeout=20_000)

    page.goto(demo.facts["tokens_url"])
    page.locator("tbody tr", has_text="Analytics dashboard").get_by_role("link", name="Settings of").click()
    page.get_by_role("button", name="Click to add access").click()
    page.get_by_label(f"{name}: read").check()
    page.keyboard.press("Escape")
    page.locator("#done").click()
    button(page, "Apply now").click()
    expect(page.locator("#pending-heading")).to_have_count(0)

    page.goto(f"{demo.facts['url']}/datasets/{name}/docs/")
    tokens = page.get_by_label("Token", exact=True)
    tokens.select_option(tokens.locator("option", has_text="Analytics dashboard").get_attribute("value"))
    page.get_by_label("Key", exact=False).first.fill("MSFT")
    if scripts:
        button(page, "Send request").click()
        text = page.get_by_label("Answer", exact=True)
        expect(text).to_contain_text("370.87")
        records = json.loads(text.inner_text())
    else:
        button(page, "Show request").click()
        with page.context.expect_page() as opened:
            page.get_by_role("link", name="Open the answer").click()
        records = json.loads(opened.value.locator("pre").inner_text())
    assert [(record["Ticker"], record["Close"]) for record in records] == [("MSFT", 370.87)]


def reloaded(page: Page, text: str) -> bool:
    page.reload()
    return page.get_by_text(text, exact=True).count() > 0


@pytest.mark.parametrize("scripts", [True, WITHOUT_SCRIPT], ids=["with script", "without"])
def test_somebody_is_invited_becomes_an_admin_and_is_removed(
    page: Page, demo: Demo, browser: Browser, browser_context_args: dict[str, Any], scripts: bool
) -> None:
    email, who = ("kim@demo.example", "Kim") if scripts else ("alex@demo.example", "Alex")
    sign_in(page, demo)
    page.get_by_role("navigation", name="Main").get_by_role("link", name="Team").click()
    page.get_by_role("link", name="Send an Invite").click()
    page.get_by_label("E-mail").fill(email)
    button(page, "Send an Invite").click()
    expect(page.get_by_role("row", name=email)).to_contain_text("User")
    other = browser.new_context(**browser_context_args, java_script_enabled=scripts).new_page()
    join(other, demo, email, who)

    # A user looks and copies, and is offered nothing else.
    expect(other.get_by_role("heading", name="API Tokens", level=1)).to_be_visible()
    expect(other.get_by_role("link", name="Create new token")).to_have_count(0)
    other.locator("tbody tr", has_text="Partner feed").get_by_role("link", name="Settings of").click()
    expect(other.get_by_label("Nickname")).to_be_disabled()
    expect(other.locator("#done")).to_have_count(0)
    other.goto(f"{demo.facts['url']}/tokens/new/")
    expect(other.get_by_role("heading", level=1)).to_contain_text("admins")

    # An admin does what the owner does.
    page.reload()
    button(page, f"Add Admin status to {who}").click()
    expect(page.get_by_role("row", name=email)).to_contain_text("Admin")
    other.goto(demo.facts["tokens_url"])
    other.get_by_role("link", name="Create new token").click()
    button(other, "Add publishable token").click()
    expect(other.locator("tr.is-new")).to_be_visible()
    other.locator("tr.is-new").get_by_role("link", name="Settings of").click()
    other.get_by_label("Nickname").fill(f"Made by {who}")
    other.locator("#done").click()
    expect(other.get_by_role("heading", level=1)).to_have_text(f"Made by {who}")

    # And nobody again: what they made is named first, and their session opens no page of the workspace.
    page.reload()
    page.get_by_role("link", name=f"Remove user {who}").click()
    expect(page.get_by_role("main")).to_contain_text(f"Made by {who}")
    button(page, "Remove user").click()
    expect(page.get_by_role("row", name=email)).to_have_count(0)
    other.goto(f"{demo.facts['url']}/team/")
    expect(other.get_by_role("heading", level=1)).not_to_have_text("Team")
    other.context.close()


def join(page: Page, demo: Demo, email: str, who: str) -> None:
    """Follow the link of the message that was sent, and choose a password: first one that is too short."""
    messages = demo.said().split(f"To: {email}")
    found = re.search(r"/join/[\w-]+/", messages[-1])
    assert len(messages) == 2 and found
    page.goto(demo.facts["url"] + found[0])
    for password in ("short", PASSWORD):
        page.get_by_label("Name").fill(who)
        page.get_by_label("Password").fill(password)
        page.get_by_role("button", name="Join").click()
        if password != PASSWORD:
            expect(page.get_by_label("Password")).to_have_attribute("aria-invalid", "true")
