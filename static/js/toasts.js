// Toasts: a success leaves by itself, unless it is pointed at or focused. A warning or an error stays until
// it is dismissed. Requests that fail get a toast of their own.
import { on } from "./dom.js";

const STAYS_MS = 6000;
const ASKED_AGAIN_MS = 2000;
const FADES_MS = 200;

const toasts = document.getElementById("toasts");

function leave(toast) {
  if (!toast.isConnected) return;
  if (toast.matches(":hover, :focus-within")) {
    setTimeout(leave, ASKED_AGAIN_MS, toast);
    return;
  }
  toast.classList.add("leaving");
  setTimeout(() => toast.remove(), FADES_MS);
}

function watch(toast) {
  if (!toast.matches(".toast-warning, .toast-error")) setTimeout(leave, STAYS_MS, toast);
}

if (toasts) {
  for (const toast of toasts.querySelectorAll(".toast")) watch(toast);
  new MutationObserver((records) => {
    for (const record of records)
      for (const node of record.addedNodes) if (node.matches?.(".toast")) watch(node);
  }).observe(toasts, { childList: true });
}

on("click", "[data-dismiss]", (button) => button.closest(".toast").remove());

function fail(text) {
  const toast = document.getElementById("toast-template")?.content.firstElementChild.cloneNode(true);
  if (!toast) return;
  // What is asked for every second fails every second: one toast says it.
  const said = [...toasts.querySelectorAll(".toast-error span")].map((span) => span.textContent);
  if (said.includes(text)) return;
  toast.querySelector("span").textContent = text;
  toasts.append(toast);
}

document.addEventListener("htmx:responseError", ({ detail }) =>
  fail(
    detail.xhr.status === 403
      ? "That is not allowed, or this page is out of date. Reload it and try again."
      : "That did not work. What you typed is still here: try again in a moment.",
  ),
);
document.addEventListener("htmx:sendError", () =>
  fail("The server did not answer. Check the connection and try again."),
);
document.addEventListener("htmx:timeout", () =>
  fail("The server took too long. Reload the page to see what was saved."),
);
