"""Writes docs/pictures/*.png: starts the product on a throw-away data directory and looks at its pages.

Run by `make pictures`; it needs Chromium. Every picture is of the demo, by a real server and a real browser.
"""

import contextlib
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from PIL import Image
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
INVITED = "lena@demo.example"
TRIED = "/datasets/STOCKS/docs/?key=AAPL&last=2"
COLOURS = 256  # Of a picture: a page has few, and a picture of it with more is much larger.
COLOURS_SEEN = 5_000
NEAR = 8  # quantize() compares the lower end of steps of 4: what is no further could take a colour's place.
AVERAGED = 64  # Of these: they stand for the edges of letters and for what is blurred.


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture: the address of a page, the size of the window, light or dark, and what is pressed first.

    `{form}` in an address is the page of the token that prepared() gives a credit limit.
    """

    name: str
    address: str
    width: int
    height: int
    scheme: Literal["light", "dark"] = "light"
    presses: str = ""


ALL = (
    Picture("token-list-light", "/tokens/", 1440, 720),
    Picture("token-list-dark", "/tokens/", 1440, 720, "dark"),
    Picture("token-list-phone", "/tokens/", 390, 844),
    Picture("token-new-light", "/tokens/", 1440, 720, presses="Create new token"),
    Picture("token-form-light", "{form}", 1280, 1240),
    Picture("token-form-dark", "{form}", 1280, 1240, "dark"),
    Picture("token-form-phone", "{form}", 390, 844),
    Picture("token-access-light", "{form}", 1280, 900, presses="Click to add access to a dataset"),
    Picture("usage-light", "/tokens/usage/", 1280, 1000),
    Picture("usage-dark", "/tokens/usage/", 1280, 1000, "dark"),
    Picture("usage-phone", "/tokens/usage/", 390, 844),
    Picture("dataset-list-light", "/datasets/", 1280, 640),
    Picture("dataset-light", "/datasets/STOCKS/", 1280, 1080),
    Picture("dataset-dark", "/datasets/STOCKS/", 1280, 1080, "dark"),
    Picture("dataset-phone", "/datasets/STOCKS/", 390, 844),
    Picture("dataset-try-light", TRIED, 1280, 1240, presses="Send request"),
    Picture("dataset-records-light", "/datasets/STOCKS/records/?key=AAPL", 1280, 760),
    Picture("dataset-new-light", "/datasets/new/", 1280, 900),
    Picture("jobs-light", "/jobs/", 1280, 560),
    Picture("guide-light", "/docs/access-and-security/", 1280, 900),
    Picture("audit-log-light", "/team/audit-log/", 1280, 900),
    Picture("team-light", "/team/", 1280, 640),
    Picture("workspace-light", "/team/workspace/", 1280, 1160),
    Picture("start-light", "/start/", 1280, 640),
)


def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="apperate-pictures-") as folder,
        running(Path(folder)) as (address, demo),
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(**chromium())
        take_all(browser, address, demo)
        browser.close()


def chromium() -> dict[str, Any]:
    """How to start the browser that is installed."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        sys.exit("The pictures need Chromium, and it is not installed.")
    return {"executable_path": path, "args": list(BROWSER_OPTIONS)}


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
    """Sign in once, give the pages something to show, and take every picture with that session."""
    with browser.new_context(base_url=address, viewport={"width": 1280, "height": 900}) as context:
        page = context.new_page()
        sign_in(page, demo)
        form = prepared(page)
        state = context.storage_state()
    for picture in ALL:
        size = ViewportSize(width=picture.width, height=picture.height)
        with browser.new_context(
            base_url=address, storage_state=state, viewport=size, color_scheme=picture.scheme,
            reduced_motion="reduce", locale="en-GB", timezone_id="UTC",
        ) as context:  # fmt: skip
            page = context.new_page()
            page.goto(picture.address.format(form=form))
            show(page, picture)
            path = PICTURES / f"{picture.name}.png"
            save(page.screenshot(animations="disabled", caret="hide"), path)
            print(f"{path.relative_to(ROOT)} {path.stat().st_size / 1000:.0f} kB")


def show(page: Page, picture: Picture) -> None:
    if picture.presses:
        name = re.compile(re.escape(picture.presses))
        page.get_by_role("button", name=name).or_(page.get_by_role("link", name=name)).first.click()
        page.mouse.move(0, 0)
        page.wait_for_load_state("networkidle")
    page.evaluate("document.fonts.ready")


def save(picture: bytes, path: Path) -> None:
    """Write a picture with few colours, without dots that would blur its letters."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    few = image.quantize(palette=palette_of([image]), dither=Image.Dither.NONE)
    few.save(path, optimize=True)


def palette_of(images: Iterable[Image.Image]) -> Image.Image:
    """The colours that are seen most, exactly as they are, and some that stand for all others.

    An average would tint what is large and plain. So would a colour that hardly differs from a more frequent
    one: quantize() compares only the upper bits.
    """
    seen: Counter[tuple[int, ...]] = Counter()
    for image in images:
        seen.update({colour: count for count, colour in image.getcolors(image.width * image.height)})
    exact: list[tuple[int, ...]] = []
    others: list[tuple[int, ...]] = []
    for colour, _ in seen.most_common(COLOURS_SEEN):
        if len(exact) == COLOURS - AVERAGED:
            others.append(colour)
        elif all(differ(colour, chosen) for chosen in exact):
            exact.append(colour)
    if others:
        rest = Image.new("RGB", (len(others), 1))
        rest.putdata(others)
        averages = rest.quantize(AVERAGED).convert("RGB").getcolors(len(others))
        exact += [colour for _, colour in averages if all(differ(colour, chosen) for chosen in exact)]
    palette = Image.new("P", (1, 1))
    palette.putpalette([part for colour in exact for part in colour])
    return palette


def differ(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return any(abs(part - same) > NEAR for part, same in zip(one, other, strict=True))


def sign_in(page: Page, demo: Mapping[str, Any]) -> None:
    page.goto("/account/login/")
    page.locator("input[name=login]").fill(demo["email"])
    page.locator("input[name=password]").fill(demo["password"])
    page.locator("main form button").last.click()
    expect(page.get_by_role("heading", name="API Tokens")).to_be_visible()


def prepared(page: Page) -> str:
    """Invite somebody, and give a token of the demo a credit limit in force; the address of its form."""
    page.goto("/team/invite/")
    page.get_by_label("E-mail").fill(INVITED)
    page.get_by_role("button", name="Send an Invite").click()
    expect(page.get_by_text(INVITED).first).to_be_visible()
    page.goto("/tokens/")
    row = page.get_by_role("row").filter(has_text=NICKNAME)
    row.get_by_role("link").first.click()
    page.get_by_label("Core Credit Usage Limit").fill(CREDIT_LIMIT)
    page.get_by_role("button", name="Done", exact=True).click()
    page.get_by_role("button", name="Apply now").click()
    expect(page.locator("#pending-heading")).to_have_count(0)
    return page.url


if __name__ == "__main__":
    main()
