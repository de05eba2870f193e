"""Writes docs/pictures/token-created.gif: a token is created, given a dataset, and its call is copied.

Run by `make recording`; it needs Chromium. The pages are those of a real server, driven as a person would;
only the pointer is drawn here, because a browser's picture has none.
"""

import io
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pictures import PICTURES, ROOT, chromium, palette_of, running, sign_in
from PIL import Image, ImageDraw
from playwright.sync_api import Locator, Page, expect, sync_playwright

WIDTH, HEIGHT = 1000, 640
BYTES_MAX = 1_000_000
LOOK, BLINK, KEY, STEP = 1_600, 350, 90, 60  # milliseconds that a frame is shown
STEPS = 6  # pictures of the pointer on its way
POINTER = ((0, 0), (0, 17), (4, 13), (7, 19), (10, 18), (7, 12), (12, 12))


@dataclass
class Film:
    """The frames so far, each with how long it is shown, and where the pointer is."""

    page: Page
    at: tuple[float, float] = (620, 560)
    frames: list[Image.Image] = field(default_factory=list)
    milliseconds: list[int] = field(default_factory=list)

    def shoot(self, milliseconds: int) -> None:
        picture = self.page.screenshot(animations="disabled", caret="initial")
        self.add(Image.open(io.BytesIO(picture)).convert("RGB"), milliseconds)

    def add(self, picture: Image.Image, milliseconds: int) -> None:
        """Add a picture with the pointer on it."""
        framed = picture.copy()
        pen = ImageDraw.Draw(framed)
        shape = [(self.at[0] + x * 1.15, self.at[1] + y * 1.15) for x, y in POINTER]
        pen.polygon(shape, fill="#101828", outline="#ffffff", width=1)
        self.frames.append(framed)
        self.milliseconds.append(milliseconds)

    def go(self, target: Locator) -> None:
        """Move the pointer onto something, slower at both ends."""
        target.scroll_into_view_if_needed()
        box = target.bounding_box()
        if box is None:
            sys.exit(f"There is no {target} to point at.")
        start, end = self.at, (box["x"] + min(box["width"] / 2, 90), box["y"] + box["height"] / 2)
        plain = Image.open(io.BytesIO(self.page.screenshot(animations="disabled"))).convert("RGB")
        for step in range(1, STEPS + 1):
            part = step / STEPS
            part = part * part * (3 - 2 * part)
            self.at = (start[0] + (end[0] - start[0]) * part, start[1] + (end[1] - start[1]) * part)
            self.add(plain, STEP)
        self.page.mouse.move(*self.at)
        self.shoot(BLINK)

    def press(self, target: Locator, shows: Locator, milliseconds: int = LOOK) -> None:
        """Click on something, and look at what it shows."""
        self.go(target)
        target.click()
        expect(shows).to_be_visible()
        self.page.wait_for_load_state("networkidle")
        self.shoot(milliseconds)

    def type(self, target: Locator, text: str) -> None:
        self.go(target)
        target.click()
        for start in range(0, len(text), 3):
            self.page.keyboard.type(text[start : start + 3])
            self.shoot(KEY * 3)
        self.shoot(BLINK)

    def save(self, path: Path) -> None:
        """Write the frames with one palette, so that what stays the same is stored once."""
        palette = palette_of(self.frames[:: len(self.frames) // 8])
        first, *others = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in self.frames]
        first.save(
            path, save_all=True, append_images=others, duration=self.milliseconds, loop=0, optimize=True
        )


def main() -> None:
    path = PICTURES / "token-created.gif"
    with (
        tempfile.TemporaryDirectory(prefix="apperate-recording-") as folder,
        running(Path(folder)) as (address, demo),
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(**chromium())
        with browser.new_context(
            base_url=address, viewport={"width": WIDTH, "height": HEIGHT}, reduced_motion="reduce",
            color_scheme="light", locale="en-GB", timezone_id="UTC",
        ) as context:  # fmt: skip
            film = played(context.new_page(), demo)
        browser.close()
    film.save(path)
    seconds, size = sum(film.milliseconds) / 1000, path.stat().st_size
    print(f"{path.relative_to(ROOT)} {size / 1000:.0f} kB, {seconds:.0f} s, {len(film.frames)} frames")
    if size > BYTES_MAX:
        sys.exit(f"It is larger than {BYTES_MAX / 1000:.0f} kB.")


def played(page: Page, demo: Mapping[str, Any]) -> Film:
    """From the list of tokens to the call of a new one."""
    sign_in(page, demo)
    film = Film(page)
    film.shoot(LOOK)
    add = page.get_by_role("button", name="Add publishable token")
    row, done = page.locator("tr.is-new"), page.locator("#done")
    film.press(page.get_by_role("link", name="Create new token"), add)
    film.press(add, row)
    film.press(row.get_by_role("link", name="Settings of"), done)
    film.type(page.get_by_label("Nickname"), "Price widget")
    reads = page.get_by_label("STOCKS: read")
    film.press(page.get_by_role("button", name="Click to add access"), reads, BLINK * 2)
    film.press(reads, page.locator("#picker :checked"), BLINK * 2)
    page.keyboard.press("Escape")
    film.type(page.get_by_label("Allowed Domain(s)"), "www.example.com")
    film.press(done, page.get_by_role("heading", name="Price widget"))
    film.press(page.get_by_role("button", name="Apply now"), page.get_by_text("The change is in force"))
    film.press(page.get_by_role("button", name="Copy").last, page.locator(".done"), LOOK * 2)
    return film


if __name__ == "__main__":
    main()
