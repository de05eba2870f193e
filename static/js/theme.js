// The theme: the form posts, and the server keeps the choice in a cookie, from which the next page has it
// before anything is painted. Here this page changes at once.
import { on } from "./dom.js";

on("submit", "[data-theme-form]", (form, event) => {
  event.preventDefault();
  const body = new FormData(form, event.submitter);
  const theme = body.get("theme");
  document.documentElement.dataset.theme = theme;
  // The button that was pressed is gone; the one in its place keeps the focus.
  form.querySelector(theme === "dark" ? ".to-light" : ".to-dark").focus();
  fetch(form.action, { method: "POST", body, redirect: "manual" });
});
