// Copying to the clipboard: <button data-copy="#id"> copies the text of an element, data-copy-text="…" its
// own value, and an empty data-copy the code beside the button.
import { on, say } from "./dom.js";

const SHOWN_MS = 1600;

on("click", "[data-copy], [data-copy-text]", async (button) => {
  const source = button.dataset.copy
    ? document.querySelector(button.dataset.copy)
    : button.parentElement.querySelector("pre");
  try {
    await navigator.clipboard.writeText(button.dataset.copyText ?? source.textContent.trim());
  } catch {
    return; // The browser refused. The text is on the page, to be copied by hand.
  }
  button.classList.add("done");
  say("Copied");
  setTimeout(() => button.classList.remove("done"), SHOWN_MS);
});
