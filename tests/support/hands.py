"""Ways to use a page in a real browser: by keyboard alone, with a mouse, or on a phone.

hands = Keyboard(page)          Mouse(page), Finger(page)
hands.type(field, "text")       press(button), switch(checkbox), go("Usage"): a link of the navigation
"""

from playwright.sync_api import Locator, Page, expect

PHONE = {"viewport": {"width": 375, "height": 667}, "is_mobile": True, "has_touch": True}
# What is wrong with where the focus is: it must be marked, and not wholly behind something else.
FOCUS = """() => {
  const one = document.activeElement, box = one.getBoundingClientRect();
  if (one === document.body) return "";
  const marked = [one, one.closest("label, .choice, .drop, .switch"), one.nextElementSibling].some((part) => {
    const { outlineStyle, outlineWidth, boxShadow } = part ? getComputedStyle(part) : {};
    return part && ((outlineStyle !== "none" && outlineWidth !== "0px") || boxShadow !== "none");
  });
  const spots = [[0.5, 0.5], [0.1, 0.5], [0.9, 0.5], [0.5, 0.1], [0.5, 0.9]];
  const seen = spots.some(([x, y]) => {
    const top = document.elementFromPoint(box.left + box.width * x, box.top + box.height * y);
    return top && (one.contains(top) || top.contains(one) || top.closest("label")?.control === one);
  });
  const said = one.outerHTML.slice(0, 160);
  return !marked ? `not marked: ${said}` : !seen ? `hidden: ${said}` : "";
}"""


class Mouse:
    """A page whose buttons are clicked and whose fields are filled."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def press(self, target: Locator) -> None:
        target.click()

    def switch(self, target: Locator) -> None:
        self.press(target)

    def type(self, target: Locator, text: str) -> None:
        target.fill(text)

    def go(self, name: str) -> None:
        """Follow a link of the navigation, which is folded away on a small screen."""
        opener = self.page.get_by_role("button", name="Open navigation")
        if opener.is_visible():
            self.press(opener)
        self.press(self.page.get_by_role("navigation", name="Main").get_by_role("link", name=name))
        expect(self.page.get_by_role("heading", name=name, level=1)).to_be_visible()


class Finger(Mouse):
    """A page on a phone: everything is tapped, and nothing may be wider than the screen."""

    def press(self, target: Locator) -> None:
        target.tap()

    def go(self, name: str) -> None:
        super().go(name)
        assert self.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), self.page.url


class Keyboard(Mouse):
    """A page that only keys are pressed on."""

    def to(self, target: Locator, key: str = "Tab") -> None:
        """Press Tab until the target has the focus, which has to be seen at every stop."""
        expect(target).to_be_attached()
        for _ in range(80):
            if target.evaluate("one => one === document.activeElement"):
                return
            self.page.keyboard.press(key)
            assert self.page.evaluate(FOCUS) == ""
        raise AssertionError(f"{key} does not lead to {target}")

    def press(self, target: Locator, key: str = "Enter") -> None:
        self.to(target)
        self.page.keyboard.press(key)

    def switch(self, target: Locator) -> None:
        self.press(target, "Space")

    def type(self, target: Locator, text: str) -> None:
        self.to(target)
        self.page.keyboard.press("ControlOrMeta+a")
        self.page.keyboard.type(text)
