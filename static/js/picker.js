// The permission picker: its checkboxes are the data, and chips above it mirror them.
import { on, say } from "./dom.js";

// Another chip can make its row taller, and that would move the open picker away from under the pointer. So
// the chips wait until it is closed.
const waiting = new Map();

const chipFor = (box) => document.querySelector(`.chip[data-for="${box.id}"]`);

function mirror(box) {
  const shown = chipFor(box);
  if (!box.checked) {
    shown?.remove();
    return;
  }
  if (shown) return;
  const chip = document.getElementById("chip-template").content.firstElementChild.cloneNode(true);
  const [name, operation] = box.value.split(":");
  const dataset = box.dataset.label ?? name;
  chip.dataset.for = box.id;
  chip.querySelector(".mono").textContent = dataset;
  chip.querySelector("em").textContent = operation;
  chip.querySelector("button").ariaLabel = `Remove ${operation} access to ${dataset}`;
  document.querySelector("[data-perm] .chips ul").append(chip);
}

on("change", "[data-perm] input[type=checkbox]", (box) => {
  if (box.closest(":popover-open")) waiting.set(box.id, box);
  else mirror(box);
  say(`${box.value.replace(":", " ")} ${box.checked ? "added" : "removed"}`);
});

document.getElementById("picker")?.addEventListener("toggle", (event) => {
  if (event.newState === "open") return;
  for (const box of waiting.values()) mirror(box);
  waiting.clear();
});

on("click", ".chip button", (button) => {
  const chip = button.closest(".chip");
  const box = document.getElementById(chip.dataset.for);
  // The chip goes, and the focus to its neighbour, or to where a new one is added.
  const neighbour = chip.nextElementSibling ?? chip.previousElementSibling;
  const next = neighbour?.querySelector("button") ?? chip.closest(".chips").querySelector(".chips-add");
  box.checked = false;
  box.dispatchEvent(new Event("change", { bubbles: true }));
  next.focus();
});

// <input data-filter="selector"> hides the rows that do not contain what is typed.
on("input", "[data-filter]", (input) => {
  const wanted = input.value.trim().toLowerCase();
  for (const row of document.querySelectorAll(input.dataset.filter))
    row.hidden = !row.textContent.toLowerCase().includes(wanted);
});
