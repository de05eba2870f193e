// Forms: that something was changed, and lines that are added with a press.
import { on, say } from "./dom.js";

on("input", "form[data-dirty]", (form) => {
  form.classList.add("is-dirty");
  const note = form.querySelector("[data-dirty-note]");
  if (note) note.textContent = "You have unsaved changes.";
});

// Without script the link leads to the same form with the line in it.
on("click", "[data-add-line]", (link, event) => {
  event.preventDefault();
  const area = document.getElementById(link.dataset.to);
  const line = link.dataset.addLine;
  if (!area.value.split("\n").includes(line))
    area.value = `${area.value.replace(/\s+$/, "")}\n${line}`.replace(/^\n/, "");
  area.dispatchEvent(new Event("input", { bubbles: true }));
  link.remove();
  area.focus();
  say(`${line} is added to the list. Choose Done to save it.`);
});
