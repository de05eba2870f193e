// The figures of a bar chart, beside the column that is pointed at, or reached with the arrow keys.
import { make, say } from "./dom.js";

const STEPS = { ArrowRight: 1, ArrowLeft: -1 };
const GAP = 8;

// One line of a tip: "Core 1,200" with the figure at the other side.
function line(text) {
  const cut = text.lastIndexOf(" ");
  const paragraph = document.createElement("p");
  paragraph.append(make("span", { textContent: text.slice(0, cut) }), text.slice(cut + 1));
  return paragraph;
}

function follow(chart) {
  const plot = chart.querySelector(".plot");
  const columns = [...chart.querySelectorAll(".col[data-tip]")].filter((column) => column.dataset.tip);
  if (!columns.length) return;
  // The browser's own tips would cover these.
  for (const title of plot.querySelectorAll("title")) title.remove();
  const tip = make("div", { className: "tip", hidden: true });
  chart.append(tip);
  plot.setAttribute("tabindex", "0");
  let at = -1;

  function show(index) {
    columns[at]?.classList.remove("on");
    at = index;
    const column = columns[at];
    tip.hidden = !column;
    if (!column) return;
    column.classList.add("on");
    const { label, total, tip: figures } = column.dataset;
    // From the top of the column down, as it is drawn.
    const lines = figures.split("; ").reverse().map(line);
    tip.replaceChildren(make("b", { textContent: `${label}: ${total}` }), ...lines);
    place(column);
  }

  // To the right of the column; to its left where the chart ends.
  function place(column) {
    const frame = chart.getBoundingClientRect();
    const hit = column.querySelector(".hit").getBoundingClientRect();
    const right = hit.left - frame.left + hit.width + GAP;
    const left = hit.left - frame.left - tip.offsetWidth - GAP;
    tip.style.left = `${right + tip.offsetWidth > frame.width ? left : right}px`;
    tip.style.top = "12px";
  }

  plot.addEventListener("pointermove", (event) => {
    const index = columns.indexOf(event.target.closest(".col"));
    if (index !== at) show(index);
  });
  plot.addEventListener("pointerleave", () => show(-1));
  plot.addEventListener("blur", () => show(-1));
  plot.addEventListener("keydown", (event) => {
    if (event.key === "Escape") show(-1);
    const step = STEPS[event.key];
    if (!step) return;
    event.preventDefault();
    show((at + step + columns.length) % columns.length);
    const { label, total, tip: figures } = columns[at].dataset;
    say(`${label}: ${total}. ${figures}`);
  });
}

for (const chart of document.querySelectorAll(".chart")) follow(chart);
