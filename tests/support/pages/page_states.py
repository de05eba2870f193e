"""What pages show after somebody did something: open dialogs and menus, and answers that refuse.

STATES["a wrong limit"].reach(page)   from the state's visit, in a real browser
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from playwright.sync_api import Page, expect

from tests.support.pages.page_table import Visit, nobody

DESKTOP, PHONE = 1280, 375


@dataclass(frozen=True, slots=True)
class State:
    visit: Visit
    reach: Callable[[Page], None]
    width: int = DESKTOP


def opens(role: str, name: str, shows: str) -> Callable[[Page], None]:
    """Press something; `shows` is the selector of what opens."""

    def reach(page: Page) -> None:
        page.get_by_role(role, name=name).first.click()  # type: ignore[arg-type]
        expect(page.locator(shows).first).to_be_visible()

    return reach


def refused(button: str, **fields: str) -> Callable[[Page], None]:
    """Send the form of `button` with fields (by name) filled in; it comes back with what is wrong."""

    def reach(page: Page) -> None:
        form = page.locator("main form").filter(has=page.get_by_role("button", name=button, exact=True)).last
        for name, text in fields.items():
            form.locator(f"[name={name}]").fill(text)
        form.get_by_role("button", name=button, exact=True).click()
        expect(page.locator("[aria-invalid=true], [role=alert], .errorlist").first).to_be_visible()

    return reach


def invites_nobody(page: Page) -> None:
    page.get_by_role("link", name="Send an Invite").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("E-mail").fill("teammate@demo.example")
    dialog.get_by_role("button", name="Send an Invite").click()
    expect(page.locator("[aria-invalid=true]")).to_be_visible()


def names_badly(page: Page) -> None:
    file = {"name": "prices.csv", "mimeType": "text/csv", "buffer": b"a,b\n1,2\n"}
    page.locator("input[type=file]").set_input_files(file)  # type: ignore[arg-type]
    refused("Upload and continue", name="it's mine")(page)


def toast(page: Page) -> None:
    page.get_by_role("button", name="Send again to again@").click()
    expect(page.locator(".toast")).to_be_visible()


def somebody_else_saves(page: Page) -> None:
    """Both change one token; the second is told, and sees what they typed."""
    limit, other = page.get_by_label("Core Credit Usage Limit"), page.context.new_page()
    limit.fill("70000")
    other.goto(page.url)
    other.get_by_label("Core Credit Usage Limit").fill("60000")
    other.locator("#done").click()
    # With a capital: the page says from the start when settings take effect "after they are saved".
    expect(other.get_by_text(re.compile("Saved")).first).to_be_visible()
    other.close()
    page.locator("#done").click()
    expect(page.get_by_role("alert").first).to_be_visible()
    expect(limit).to_have_value("70000")


def tested(page: Page) -> None:
    page.get_by_label("Dataset", exact=True).fill("WEATHER")
    page.get_by_role("button", name="Test", exact=True).click()
    expect(page.locator("#test-result > *").first).to_be_visible()


def tried(page: Page) -> None:
    """A request that is refused, with all that is folded away unfolded."""
    page.get_by_label("last", exact=True).fill("-1")
    page.get_by_role("button", name="Send request").click()
    expect(page.locator("[data-answer] [data-status]")).to_contain_text("400")
    unfolded(page)


def unfolded(page: Page) -> None:
    page.locator("details").evaluate_all("all => all.forEach((one) => { one.open = true; })")


STATES = {
    "all of a token": State(Visit("tokens/{token}/"), unfolded),
    "all of a dataset": State(Visit("datasets/QUOTES/"), unfolded),
    "a changed token": State(Visit("tokens/{limited}/"), somebody_else_saves),
    "a tested token": State(Visit("tokens/{restricted}/"), tested),
    "a refused trial": State(Visit("datasets/STOCKS/docs/"), tried),
    "a revealed secret": State(
        Visit("tokens/{secret}/"), opens("button", "Reveal secret token", "#secret-value")
    ),
    "the dialog of a new token": State(Visit("tokens/"), opens("link", "Create new token", "dialog[open]")),
    "the menu of a row": State(
        Visit("tokens/"), opens("button", "More actions for", "td [popover]:popover-open")
    ),
    "the account menu": State(Visit("tokens/"), opens("button", "account menu", "#account")),
    "the workspaces": State(Visit("tokens/"), opens("button", "Workspace Demo", "#workspaces")),
    "the navigation of a phone": State(Visit("team/"), opens("button", "Open navigation", "#sidebar"), PHONE),
    "the menu of a row on a phone": State(
        Visit("tokens/"), opens("button", "More actions for", "td [popover]:popover-open"), PHONE
    ),
    "the picker": State(Visit("tokens/{token}/"), opens("button", "Click to add access", "#picker")),
    "the picker on a phone": State(
        Visit("tokens/{token}/"), opens("button", "Click to add access", "#picker"), PHONE
    ),
    "the dialog of an invite": State(Visit("team/"), opens("link", "Send an Invite", "dialog[open]")),
    "a wrong invite": State(Visit("team/"), invites_nobody),
    "an invite sent again": State(Visit("team/"), toast),
    "a wrong token form": State(
        Visit("tokens/{token}/"),
        refused("Done", core_credit_limit="lots", allowed_domains="good.example ftp://bad"),
    ),
    "a wrong file": State(Visit("datasets/new/"), names_badly),
    "a wrong name to delete": State(
        Visit("datasets/QUOTES/delete/"), refused("Delete dataset", name="OTHER")
    ),
    "a wrong webhook": State(Visit("team/workspace/"), refused("Save address", url="nowhere")),
    "a wrong sign-in": State(
        nobody("account/login/"), refused("Sign in", login="a@example.com", password="no")
    ),
    "a wrong new password": State(
        Visit("account/password/change/"),
        refused("Change password", oldpassword="no", password1="a", password2="b"),
    ),
    "a weak password": State(
        nobody("join/{invitation}/"), refused("Join Demo workspace", name="Lena", password="short")
    ),
    "a wrong code": State(Visit("account/2fa/totp/activate/"), refused("Switch on", code="123")),
}
