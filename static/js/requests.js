// Tells screen readers what becomes of a request. Everybody else sees a line move at the top of the page.
import { say } from "./dom.js";

const LONG_MS = 2000;

let slow;
document.addEventListener("htmx:beforeRequest", () => {
  clearTimeout(slow);
  slow = setTimeout(say, LONG_MS, "Still waiting for the server.");
});
document.addEventListener("htmx:afterRequest", () => clearTimeout(slow));

// <section data-say="text"> says what an answer is about, unless the answer before it said the same.
let said = "";
document.addEventListener("htmx:afterSettle", () => {
  const text = document.querySelector("[data-say]")?.dataset.say;
  if (!text || text === said) return;
  said = text;
  say(text);
});
