// Dialogs: <a href="/tokens/new/" data-dialog="id"> opens the page's own <dialog>, and is a plain link
// without script, or where somebody wants it in a tab of its own.
import { on } from "./dom.js";

on("click", "[data-dialog]", (link, event) => {
  const dialog = document.getElementById(link.dataset.dialog);
  if (!dialog?.showModal || event.metaKey || event.ctrlKey) return;
  event.preventDefault();
  dialog.showModal();
});

on("click", "[data-close]", (button) => button.closest("dialog")?.close());

// A click on the dialog itself, and not on anything in it, is a click on its backdrop.
on("click", "dialog", (dialog, event) => {
  if (event.target === dialog) dialog.close();
});

// Cancel is a link for the page without script; here it has closed the dialog already.
on("click", "dialog a[data-close]", (_link, event) => event.preventDefault());

document.addEventListener("htmx:afterRequest", ({ detail, target }) => {
  if (detail.successful && target.matches?.("[data-close-on-success]")) target.closest("dialog")?.close();
});
