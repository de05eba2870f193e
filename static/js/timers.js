// What happens as time passes: countdowns run, and secrets are hidden again.

const SECOND_MS = 1000;
const HOUR_S = 3600;
// The server may be a moment behind.
const LATER_MS = 300;

// <time data-countdown="end" data-now="server time">: the end is reckoned from the server's clock, which may
// not be that of the browser. Once it is reached, "countdown-end" tells htmx to ask again.
const ends = new WeakMap();

function endOf(element) {
  if (!ends.has(element)) {
    const { countdown, now } = element.dataset;
    const left = new Date(countdown) - new Date(now);
    ends.set(element, { at: performance.now() + left, text: element.textContent });
  }
  return ends.get(element);
}

function tick() {
  for (const element of document.querySelectorAll("[data-countdown]")) {
    const { at, text } = endOf(element);
    const seconds = Math.ceil((at - performance.now()) / SECOND_MS);
    if (seconds >= HOUR_S) continue;
    if (seconds > 0) {
      const left = `in ${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
      element.textContent = "short" in element.dataset ? left : `${left}, ${text}`;
      continue;
    }
    element.removeAttribute("data-countdown");
    element.textContent = text;
    setTimeout(() => element.dispatchEvent(new Event("countdown-end", { bubbles: true })), LATER_MS);
  }
}

// <div data-hide-after="seconds" data-hide-to="address"> is emptied then, and the page is asked for again.
function hideLater() {
  for (const element of document.querySelectorAll("[data-hide-after]")) {
    const seconds = element.dataset.hideAfter;
    element.removeAttribute("data-hide-after");
    setTimeout(() => {
      element.replaceChildren();
      if (element.isConnected) location.replace(element.dataset.hideTo);
    }, SECOND_MS * seconds);
  }
}

tick();
setInterval(tick, SECOND_MS);
hideLater();
document.addEventListener("htmx:afterSettle", () => {
  tick();
  hideLater();
});
