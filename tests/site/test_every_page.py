"""Every page of the dashboard in a real browser: accessible in light and dark, whole on a phone, no error.

The pages are those of tests/support/pages/page_table.py, which must know every route. They are opened on one
running installation whose demo is filled by fill_demo.py beside it. All faults of a group are told at once.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from django.template.loader import render_to_string
from django.urls import get_resolver
from playwright.sync_api import Error, Page

from tests.apperate.dashboard.test_shell import routes
from tests.conftest import ACCESSIBILITY_RULES, COLOUR_RULES
from tests.support.installation import Demo
from tests.support.pages.fill_demo import filled
from tests.support.pages.page_states import STATES
from tests.support.pages.page_table import AWAY, FILE, NO_PAGE, PAGES, PART, PLAIN, POST, Visit, visits

pytestmark = [pytest.mark.server, pytest.mark.database]
Axe = Callable[..., None]
OTHERS = ("operator/", "v1/")  # Django's own pages, and the data plane, which has none.
NARROW = (375, 320)
ERRORS = ("400", "403", "403_csrf", "404", "429", "500", "503")
OF_FRAME = (Path(__file__).parent / "frame.js").read_text()


class Opened:
    """A page of the browser, the people who may be signed in on it, and the faults that were seen."""

    def __init__(self, page: Page, demo: Demo, made: dict[str, Any], axe: Axe) -> None:
        self.page, self.made, self.axe = page, made, axe
        self.url = demo.facts["url"]
        self.who = ""
        self.faults: list[str] = []
        # A page that is refused is a line of the console too, and its status is compared anyway.
        self.errors: list[str] = []
        page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(f"script: {error}"))
        page.add_init_script(
            "document.addEventListener('securitypolicyviolation',"
            " e => console.error('CSP ' + e.violatedDirective + ' ' + e.blockedURI))"
        )

    def open(self, visit: Visit) -> None:
        if visit.who != self.who:
            self.who = visit.who
            self.page.context.clear_cookies()
            self.page.context.add_cookies(
                [
                    {"name": name, "value": value, "url": self.url}
                    for name, value in self.made["sessions"][self.who].items()
                ]
            )
        address = visit.filled(self.made)
        answer = self.page.goto(self.url + address)
        shown = self.page.url.removeprefix(self.url)
        if answer is None or answer.status != visit.status:
            self.faults.append(f"{address} ({self.who}): status {answer.status if answer else None}")
        if shown != address and not visit.address.startswith("account/password/reset/key/"):
            self.faults.append(f"{address} ({self.who}): leads to {shown}")

    def look(self, name: str, *, is_narrow: bool = True) -> None:
        """Compare what is shown with what holds of every page."""
        # A page of the other scheme has other colours and is the same otherwise.
        self.page.emulate_media(color_scheme="dark")
        self.check(f"{name} dark", COLOUR_RULES if is_narrow else ACCESSIBILITY_RULES)
        self.page.emulate_media(color_scheme="light")
        self.check(f"{name} light")
        self.faults += [f"{name}: {fault}" for fault in self.page.evaluate(OF_FRAME)]
        for width in NARROW if is_narrow else ():
            self.fits(name, width)
        if is_narrow:
            self.page.set_viewport_size({"width": 1280, "height": 900})
        self.faults += [f"{name}: {text}" for text in self.errors if "Failed to load resource" not in text]
        self.errors.clear()

    def check(self, name: str, rules: Sequence[str] = ACCESSIBILITY_RULES) -> None:
        try:
            self.axe(self.page, rules)
        except AssertionError as broken:
            self.faults.append(f"{name}: {broken}")

    def fits(self, name: str, width: int) -> None:
        self.page.set_viewport_size({"width": width, "height": 800})
        if over := self.page.evaluate("document.documentElement.scrollWidth - innerWidth"):
            self.faults += [f"{name}: {over} px too wide at {width} px"] if over > 0 else []

    def told(self) -> None:
        assert not self.faults, "\n".join(self.faults)


@pytest.fixture(scope="module")
def made(demo: Demo) -> dict[str, Any]:
    return filled(demo)


@pytest.fixture
def opened(context: Any, demo: Demo, made: dict[str, Any], axe: Axe) -> Opened:
    page = context.new_page()
    page.set_default_timeout(10_000)
    return Opened(page, demo, made, axe)


def test_every_route_is_in_the_table() -> None:
    found = {route for route, _ in routes(get_resolver().url_patterns) if not route.startswith(OTHERS)}

    assert len(found) > 50
    assert sorted(found - set(PAGES) - set(NO_PAGE)) == []
    assert sorted((set(PAGES) | set(NO_PAGE)) - found) == []
    assert sorted(set(PAGES) & set(NO_PAGE)) == []


def test_a_route_without_a_page_shows_none(opened: Opened) -> None:
    opened.open(Visit("team/audit-log/", "second factor"))  # An admin with recovery codes to download.
    for route, what in NO_PAGE.items():
        address = filled_route(route, opened.made)
        answer = opened.page.request.get(opened.url + address, max_redirects=0)
        text, kind = answer.text(), answer.headers.get("content-type", "")
        holds = {
            POST: answer.status == 405,
            AWAY: answer.status == 302,
            FILE: "content-disposition" in answer.headers,
            PART: answer.status == 200 and "<html" not in text,
            PLAIN: answer.status == 200 and kind.startswith("text/plain"),
        }
        if not holds.get(what, True):
            opened.faults.append(f"{route} {what}: {answer.status} {kind}")
    opened.told()


def filled_route(route: str, made: dict[str, Any]) -> str:
    given = {"public_id": made["token"], "job_id": made["job"], "pk": "1", "deletion_id": "1"}
    return "/" + re.sub(r"<\w+:(\w+)>", lambda found: given.get(found[1], "QUOTES"), route)


@pytest.mark.parametrize("of_owner", [True, False], ids=["owner", "others"])
def test_every_page(opened: Opened, of_owner: bool) -> None:
    for visit in visits(of_owner=of_owner):
        opened.open(visit)
        opened.look(f"{visit.filled(opened.made)} ({visit.who})")
    opened.told()


def test_dialogs_menus_and_errors(opened: Opened) -> None:
    for name, state in STATES.items():
        opened.open(state.visit)
        opened.page.set_viewport_size({"width": state.width, "height": 900})
        try:
            state.reach(opened.page)
        except (AssertionError, Error) as fault:
            opened.faults.append(f"{name}: {str(fault).splitlines()[:2]}")
        opened.look(name, is_narrow=False)
    opened.told()


def test_error_pages(opened: Opened) -> None:
    for name in ERRORS:
        page = render_to_string(f"{name}.html", {"request_id": "0123456789abcdef"})
        opened.page.route("**/shown/", shown(page))
        opened.page.goto(f"{opened.url}/shown/")
        opened.look(f"{name}.html")
        opened.page.unroute("**/shown/")
    opened.told()


def shown(html: str) -> Callable[[Any], None]:
    return lambda route: route.fulfill(body=html, content_type="text/html")


def test_forced_colours_and_a_wide_screen(opened: Opened) -> None:
    for address in ("tokens/", "tokens/{token}/", "datasets/STOCKS/"):
        opened.open(Visit(address))
        opened.page.emulate_media(forced_colors="active")
        opened.check(f"{address} in forced colours")
        opened.page.emulate_media(forced_colors="none")
        opened.fits(address, 2560)
    opened.told()
