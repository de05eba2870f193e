"""A user's day and an admin's day in a real browser: by keyboard alone, without script, and on a phone.

Each begins with the invite. What an owner does is in tests/site/test_walks.py, and what any member is refused
in tests/site/test_url_policy.py.
"""

import json
import re
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.site.test_walk import sign_in
from tests.support.hands import PHONE, Finger, Keyboard, Mouse
from tests.support.installation import Demo

pytestmark = [pytest.mark.server, pytest.mark.database]
PASSWORD = "a long enough sentence"
WAYS = [
    pytest.param(Keyboard, id="keyboard"),
    pytest.param(Mouse, marks=pytest.mark.browser_context_args(java_script_enabled=False), id="no script"),
    pytest.param(Finger, marks=pytest.mark.browser_context_args(**PHONE), id="phone"),
]


@pytest.mark.parametrize("way", WAYS)
def test_a_user_looks_around_and_an_admin_looks_after_it(
    page: Page, demo: Demo, browser: Browser, browser_context_args: dict[str, Any], way: type[Mouse]
) -> None:
    who, hands = f"Robin {way.__name__}", way(page)
    plain = {name: browser_context_args[name] for name in ("locale", "timezone_id", "reduced_motion")}
    owner = browser.new_context(**plain).new_page()
    sign_in(owner, demo)
    join(hands, demo, invited(owner, demo, f"{way.__name__.lower()}@demo.example"), who)

    look_around(hands)
    owner.goto(f"{demo.facts['url']}/team/")
    owner.get_by_role("button", name=f"Add Admin status to {who}").click()
    expect(owner.get_by_role("row", name=who)).to_contain_text("Admin")
    look_after(hands)
    end_other_sessions(hands, browser.new_context(**plain).new_page(), demo)
    for context in browser.contexts:
        if context != page.context:
            context.close()


def invited(owner: Page, demo: Demo, email: str) -> str:
    """The address of the link in the message that the owner had sent."""
    owner.goto(f"{demo.facts['url']}/team/invite/")
    owner.get_by_label("E-mail").fill(email)
    owner.get_by_role("button", name="Send an Invite").click()
    expect(owner.get_by_role("row", name=email)).to_be_visible()
    found = re.search(r"/join/[\w-]+/", demo.said().split(f"To: {email}")[-1])
    assert found
    return str(demo.facts["url"]) + found[0]


def join(hands: Mouse, demo: Demo, link: str, who: str) -> None:
    page = hands.page
    page.goto(link)
    hands.type(page.get_by_label("Name"), who)
    hands.type(page.get_by_label("Password"), PASSWORD)
    hands.press(page.get_by_role("button", name="Join"))
    expect(page.get_by_role("heading", name="API Tokens", level=1)).to_be_visible()


def look_around(hands: Mouse) -> None:
    """A user sees settings, usage and data, and tries a request; nothing there can be changed."""
    page = hands.page
    hands.press(page.get_by_role("link", name="Settings of Analytics dashboard"))
    expect(page.get_by_label("Nickname")).to_be_disabled()
    expect(page.locator("#done")).to_have_count(0)
    hands.press(page.get_by_role("link", name="View usage"))
    expect(page.get_by_role("main")).to_contain_text("What Analytics dashboard did")
    hands.press(page.get_by_role("link", name="7 days"))
    expect(page.get_by_role("link", name="7 days")).to_have_attribute("aria-current", "page")

    hands.go("Datasets")
    hands.press(page.get_by_role("link", name="STOCKS"))
    expect(page.get_by_role("link", name="Add data")).to_have_count(0)
    hands.press(page.get_by_role("link", name="API docs"))
    hands.type(page.get_by_label("Key", exact=False).first, "MSFT")
    hands.press(page.get_by_role("button", name=re.compile("Send request|Show request")))
    answer = page.get_by_role("link", name="Open the answer")
    expect(answer).to_have_attribute("href", re.compile("/v1/data/DEMO/STOCKS/MSFT"))
    with page.context.expect_page() as opened:
        hands.press(answer)
    assert json.loads(opened.value.locator("pre").inner_text())[0]["Ticker"] == "MSFT"
    opened.value.close()

    hands.go("Workspace")
    expect(page.get_by_role("switch", name="Refuse secret tokens from browsers")).to_be_disabled()
    hands.go("Team")
    expect(page.get_by_role("link", name="Send an Invite")).to_have_count(0)


def look_after(hands: Mouse) -> None:
    """An admin turns a switch off and on, finds that in the audit log, and withdraws an invite."""
    page = hands.page
    switch = page.get_by_role("switch", name="Refuse secret tokens from browsers")
    for _ in range(2):
        hands.go("Workspace")
        was_on = switch.is_checked()
        hands.switch(switch)
        hands.press(page.get_by_role("button", name="Save", exact=True))
        expect(page.get_by_role("status").filter(has_text="saved")).to_be_visible()
        assert switch.is_checked() is not was_on
    assert switch.is_checked()

    hands.go("Audit log")
    expect(page.get_by_role("row", name="Changed the workspace").first).to_contain_text(
        "Allows secret in browser"
    )
    hands.go("Team")
    hands.press(page.get_by_role("link", name="Send an Invite"))
    hands.type(page.get_by_label("E-mail"), "nobody@demo.example")
    hands.press(page.get_by_role("button", name="Send an Invite"))
    expect(page.get_by_role("row", name="nobody@demo.example")).to_be_visible()
    hands.press(page.get_by_role("button", name="Withdraw the invite of nobody@demo.example"))
    expect(page.get_by_role("row", name="nobody@demo.example")).to_have_count(0)


def end_other_sessions(hands: Mouse, elsewhere: Page, demo: Demo) -> None:
    """Somebody signed in twice ends the other session, and then this one."""
    page = hands.page
    email = f"{type(hands).__name__.lower()}@demo.example"
    elsewhere.goto(demo.facts["tokens_url"])
    elsewhere.get_by_label("E-mail").fill(email)
    elsewhere.get_by_label("Password").fill(PASSWORD)
    elsewhere.get_by_role("button", name="Sign in").click()
    expect(elsewhere.get_by_role("heading", name="API Tokens", level=1)).to_be_visible()

    menu = page.get_by_role("button", name="account menu")
    hands.press(menu)
    hands.press(page.get_by_role("link", name="Sessions"))
    expect(page.get_by_role("row", name="This one")).to_have_count(1)
    hands.press(page.get_by_role("button", name="End the others"))
    expect(page.get_by_text("You are signed in here alone.")).to_be_visible()
    elsewhere.reload()
    expect(elsewhere.get_by_role("heading", name="Sign in", level=1)).to_be_visible()

    hands.press(menu)
    hands.press(page.get_by_role("button", name="Sign out"))
    expect(page.get_by_role("heading", name="Sign in", level=1)).to_be_visible()
