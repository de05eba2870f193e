"""The main path in a real browser against the real server: from signing in to a served request."""

import json
import re
import time
import urllib.error
import urllib.request
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.support.installation import Demo

pytestmark = [pytest.mark.server, pytest.mark.database]


def lower(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def call(demo: Demo, value: str) -> tuple[int, dict[str, str], Any]:
    """GET /v1/data/DEMO/STOCKS/AAPL?last=3 with a token."""
    url = f"http://127.0.0.1:{demo.port}/v1/data/DEMO/STOCKS/AAPL?last=3&token={value}"
    try:
        with urllib.request.urlopen(url, timeout=10) as reply:
            return reply.status, lower(reply.headers), json.load(reply)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, lower(refused.headers), json.load(refused)


def sign_in(page: Page, demo: Demo) -> None:
    page.goto(demo.facts["tokens_url"])
    page.get_by_label("E-mail").fill(demo.facts["email"])
    page.get_by_label("Password").fill(demo.facts["password"])
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="API Tokens", level=1)).to_be_visible()


def walk(page: Page, demo: Demo, axe: Any, nickname: str, *, scripts: bool) -> None:
    sign_in(page, demo)
    before = page.locator("tbody tr").count()
    check = axe if scripts else (lambda page: None)  # axe is a script itself.
    check(page)

    page.get_by_role("link", name="Create new token").or_(
        page.get_by_role("button", name="Create new token")
    ).first.click()
    expect(page.get_by_text("Core dataset read access by default").first).to_be_visible()
    check(page)
    page.get_by_role("button", name="Add publishable token").click()
    expect(page.locator("tbody tr")).to_have_count(before + 1)
    new = page.locator("tbody tr").last  # The newest is at the bottom.
    expect(new).to_contain_text("Activating")
    check(page)

    new.get_by_role("link", name="Settings").or_(new.get_by_role("link", name="Edit")).first.click()
    expect(page.get_by_label("Nickname")).to_be_visible()
    check(page)
    value = page.locator("#token-value, #token, code").first.inner_text().strip()
    page.get_by_label("Nickname").fill(nickname)
    page.get_by_role("button", name="Click to add access").click()
    page.get_by_label("STOCKS: read").check()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Done").click()
    expect(page.get_by_text(re.compile("Saved")).first).to_be_visible()
    saved_at = time.monotonic()

    status, headers, problem = call(demo, value)
    assert (status, problem["code"]) == (403, "not-active-yet"), problem
    assert 1 <= int(headers["retry-after"]) <= 5
    check(page)

    while (answer := call(demo, value))[0] != 200:
        assert answer[2]["code"] == "not-active-yet", answer
        assert time.monotonic() - saved_at < 20
        time.sleep(0.1)
    assert time.monotonic() - saved_at > 3, "it was served before the delay had passed"
    assert [record["Ticker"] for record in answer[2]] == ["AAPL"] * 3
    assert answer[2][0]["Date"] > answer[2][1]["Date"]

    page.goto(demo.facts["tokens_url"])
    row = page.locator("tbody tr", has_text=nickname)
    expect(row).to_contain_text("Active")


def test_walk_from_sign_in_to_a_served_request(page: Page, demo: Demo, axe: Any) -> None:
    walk(page, demo, axe, "Walked", scripts=True)


@pytest.mark.browser_context_args(java_script_enabled=False)
def test_the_same_walk_without_javascript(page: Page, demo: Demo, axe: Any) -> None:
    walk(page, demo, axe, "Walked without scripts", scripts=False)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_of_the_walk_are_accessible_in_both_schemes(
    page: Page, demo: Demo, axe: Any, scheme: str
) -> None:
    page.emulate_media(color_scheme=scheme)
    page.goto(f"{demo.facts['url']}/account/login/")
    axe(page)
    sign_in(page, demo)
    axe(page)
    page.locator("tbody tr", has_text="Publishable").first.get_by_role("link").first.click()
    expect(page.get_by_label("Nickname")).to_be_visible()
    axe(page)
    page.get_by_role("button", name="Click to add access").click()
    axe(page)


def test_a_request_is_tried_on_the_docs_page(page: Page, demo: Demo, axe: Any) -> None:
    sign_in(page, demo)
    page.goto(f"{demo.facts['url']}/datasets/STOCKS/docs/")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        axe(page)
    page.get_by_label("Key", exact=False).first.fill("AAPL")
    page.get_by_label("last", exact=True).fill("2")

    page.get_by_role("button", name="Send request").click()

    answer = page.get_by_label("Answer", exact=True)
    expect(answer).to_contain_text('"Ticker": "AAPL"')
    assert [record["Ticker"] for record in json.loads(answer.inner_text())] == ["AAPL"] * 2
    expect(page.get_by_text("200 OK")).to_be_visible()
    expect(page.get_by_label("Request as code")).to_contain_text("/STOCKS/AAPL?last=2&token=pk_")
    axe(page)
    page.get_by_label("Language").get_by_role("link", name="Python").click()
    expect(page.get_by_label("Request as code")).to_contain_text('"last": 2')
    expect(page.get_by_label("last", exact=True)).to_have_value("2")
    for width in (320, 390):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width


@pytest.mark.browser_context_args(java_script_enabled=False)
def test_a_request_is_tried_without_javascript(page: Page, demo: Demo) -> None:
    sign_in(page, demo)
    page.goto(f"{demo.facts['url']}/datasets/STOCKS/docs/")
    page.get_by_label("last", exact=True).fill("3")

    page.get_by_role("button", name="Show request").click()

    expect(page.get_by_label("Request as code")).to_contain_text("/STOCKS?last=3&token=pk_")
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="Open the answer").click()
    assert len(json.loads(opened.value.locator("pre").inner_text())) == 3
