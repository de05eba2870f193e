"""Writes docs/pictures/*.png: starts the product on a throw-away data directory and looks at its pages.

Run by `make pictures`; it needs Chromium. Every picture is of the demo, by a real server and a real browser.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "docs" / "pictures"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER_OPTIONS = (
    "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars",
    "--font-render-hinting=none", "--force-color-profile=srgb",
)  # fmt: skip
START_SECONDS_MAX = 90
READY = "Ctrl-C stops it."
NICKNAME = "Customer websites"
CREDIT_LIMIT = "250000"


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture: the page, the size of the window, and light or dark. `page`: "list" or "form"."""

    name: str
    page: str
    width: int
    height: int
    scheme: Literal["light", "dark"] = "light"


ALL = (
    Picture("token-form-light", "form", 1280, 1240),
    Picture("token-list-light", "list", 1440, 720),
    Picture("token-form-dark", "form", 1280, 1240, "dark"),
    Picture("token-form-phone", "form", 390, 844),
)


def main() -> None:
    browser_path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser_path is None:
        sys.exit("The pictures need Chromium, and it is not installed.")
    PICTURES.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="apperate-pictures-") as folder,
        running(Path(folder)) as (address, demo),
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=browser_path, args=list(BROWSER_OPTIONS))
        take_all(browser, address, demo)
        browser.close()


@contextlib.contextmanager
def running(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The address of an installation with the demo, and what `manage.py demo --json` says of it."""
    port = free_port()
    unwanted = {"DATABASE_URL", "DATABASE_OWNER_URL", "DATABASE_REPLICA_URL", "APPERATE_DATABASE_ROLE"}
    environment = {name: value for name, value in os.environ.items() if name not in unwanted} | {
        "APPERATE_DATA_DIR": str(folder / "data"),
        "APPERATE_PUBLIC_URL": "http://127.0.0.1:8000",  # What the example on the page shows.
        "HOST": "127.0.0.1",
        "PORT": str(port),
    }
    log = folder / "log"
    with log.open("wb") as output:
        command = [sys.executable, "manage.py", "up"]
        server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)  # noqa: S603
    try:
        deadline = time.monotonic() + START_SECONDS_MAX
        while READY not in log.read_text():
            if server.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"The product did not start:\n{log.read_text()}")
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}", what_the_demo_is(environment)
    finally:
        server.terminate()
        server.wait()


def what_the_demo_is(environment: Mapping[str, str]) -> dict[str, Any]:
    command = [sys.executable, "manage.py", "demo", "--json"]
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True)  # noqa: S603
    demo: dict[str, Any] = json.loads(done.stdout)
    return demo


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def take_all(browser: Browser, address: str, demo: Mapping[str, Any]) -> None:
    """Sign in once, put a credit limit in force, and take every picture with that session."""
    with browser.new_context(base_url=address, viewport={"width": 1280, "height": 900}) as context:
        page = context.new_page()
        sign_in(page, demo)
        form = set_limit(page)
        state = context.storage_state()
    for picture in ALL:
        size = ViewportSize(width=picture.width, height=picture.height)
        with browser.new_context(
            base_url=address, storage_state=state, viewport=size, color_scheme=picture.scheme,
            reduced_motion="reduce", locale="en-GB", timezone_id="UTC",
        ) as context:  # fmt: skip
            page = context.new_page()
            page.goto(form if picture.page == "form" else "/tokens/")
            page.evaluate("document.fonts.ready")
            path = PICTURES / f"{picture.name}.png"
            page.screenshot(path=path, animations="disabled", caret="hide")
            print(path.relative_to(ROOT))


def sign_in(page: Page, demo: Mapping[str, Any]) -> None:
    page.goto("/account/login/")
    page.locator("input[name=login]").fill(demo["email"])
    page.locator("input[name=password]").fill(demo["password"])
    page.locator("main form button").last.click()
    expect(page.get_by_role("heading", name="API Tokens")).to_be_visible()


def set_limit(page: Page) -> str:
    """Give a token of the demo a credit limit that is in force at once; returns the form's address."""
    page.goto("/tokens/")
    row = page.get_by_role("row").filter(has_text=NICKNAME)
    row.get_by_role("link").first.click()
    page.get_by_label("Core Credit Usage Limit").fill(CREDIT_LIMIT)
    page.get_by_role("button", name="Done", exact=True).click()
    page.get_by_role("button", name="Apply now").click()
    expect(page.get_by_text("Active", exact=True).first).to_be_visible()
    return page.url


if __name__ == "__main__":
    main()
