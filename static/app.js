// Apperate UI behaviours. Everything here only improves pages that already work without it.
const on = (type, selector, fn) =>
  document.addEventListener(type, (e) => { const el = e.target.closest?.(selector); if (el) fn(el, e); });
const say = (text) => { const r = document.getElementById("live"); if (r) r.textContent = text; };

// Copy: <button data-copy="#id"> or data-copy-text="..."; an empty data-copy copies the code beside it
on("click", "[data-copy],[data-copy-text]", async (b) => {
  const src = b.dataset.copy ? document.querySelector(b.dataset.copy) : b.parentElement.querySelector("pre");
  try { await navigator.clipboard.writeText(b.dataset.copyText ?? src.textContent.trim()); } catch { return; }
  b.classList.add("done"); say("Copied");
  setTimeout(() => b.classList.remove("done"), 1600);
});

// Dialogs: <a href="/tokens/new/" data-dialog="id"> opens the page's own <dialog>, else follows the link
on("click", "[data-dialog]", (a, e) => {
  const d = document.getElementById(a.dataset.dialog);
  if (d?.showModal && !e.metaKey && !e.ctrlKey) { e.preventDefault(); d.showModal(); }
});
on("click", "[data-close]", (b) => b.closest("dialog")?.close());
on("click", "dialog", (d, e) => { if (e.target === d) d.close(); });
on("click", "[data-dismiss]", (b) => b.closest(".toast").remove());

// Theme: the form posts and the server keeps a cookie; here the page also changes at once
on("submit", "[data-theme-form]", (f, e) => {
  e.preventDefault();
  const body = new FormData(f, e.submitter);
  document.documentElement.dataset.theme = body.get("theme");
  f.querySelector(body.get("theme") === "dark" ? ".to-light" : ".to-dark").focus();
  fetch(f.action, { method: "POST", body, redirect: "manual" });
});

// Toasts: a success leaves after 6 s unless it is pointed at or focused; a warning or an error stays
const toasts = document.getElementById("toasts");
const leave = (t) => {
  if (!t.isConnected) return;
  if (t.matches(":hover, :focus-within")) return setTimeout(leave, 2000, t);
  t.classList.add("leaving");
  setTimeout(() => t.remove(), 200);
};
const watch = (t) => { if (!t.matches(".toast-warning, .toast-error")) setTimeout(leave, 6000, t); };
if (toasts) {
  toasts.querySelectorAll(".toast").forEach(watch);
  new MutationObserver((records) => {
    for (const r of records) for (const n of r.addedNodes) if (n.matches?.(".toast")) watch(n);
  }).observe(toasts, { childList: true });
}
const fail = (text) => {
  const t = document.getElementById("toast-template")?.content.firstElementChild.cloneNode(true);
  // What is asked for every second fails every second: one toast says it.
  if (!t || [...toasts.querySelectorAll(".toast-error span")].some((span) => span.textContent === text)) return;
  t.querySelector("span").textContent = text;
  toasts.append(t);
};
document.addEventListener("htmx:responseError", (e) => fail(e.detail.xhr.status === 403
  ? "That is not allowed, or this page is out of date. Reload it and try again."
  : "That did not work. What you typed is still here: try again in a moment."));
document.addEventListener("htmx:sendError", () => fail("The server did not answer. Check the connection and try again."));
document.addEventListener("htmx:timeout", () => fail("The server took too long. Reload the page to see what was saved."));

// The page shows by itself that a request takes long; who does not see it is told
let slow;
document.addEventListener("htmx:beforeRequest", () => { clearTimeout(slow); slow = setTimeout(say, 2000, "Still waiting for the server."); });
document.addEventListener("htmx:afterRequest", () => clearTimeout(slow));

// Permission picker: the checkboxes are the data; chips mirror them. A chip more can make the row above the
// picker taller, and move the picker away under the pointer: while it is open, the chips wait.
const chipFor = (box) => document.querySelector(`.chip[data-for="${box.id}"]`);
const waiting = new Map();
const mirror = (box) => {
  if (!box.checked) return chipFor(box)?.remove();
  if (chipFor(box)) return;
  const chip = document.getElementById("chip-template").content.firstElementChild.cloneNode(true);
  const op = box.value.split(":")[1], dataset = box.dataset.label ?? box.value.split(":")[0];
  chip.dataset.for = box.id;
  chip.querySelector(".mono").textContent = dataset;
  chip.querySelector("em").textContent = op;
  chip.querySelector("button").ariaLabel = `Remove ${op} access to ${dataset}`;
  document.querySelector("[data-perm] .chips ul").append(chip);
};
on("change", "[data-perm] input[type=checkbox]", (box) => {
  if (box.closest(":popover-open")) waiting.set(box.id, box);
  else mirror(box);
  say(`${box.value.replace(":", " ")} ${box.checked ? "added" : "removed"}`);
});
document.getElementById("picker")?.addEventListener("toggle", (e) => {
  if (e.newState === "open") return;
  waiting.forEach(mirror);
  waiting.clear();
});
on("click", ".chip button", (b) => {
  const chip = b.closest(".chip"), box = document.getElementById(chip.dataset.for);
  const next = (chip.nextElementSibling ?? chip.previousElementSibling)?.querySelector("button") ??
    chip.closest(".chips").querySelector(".chips-add");
  box.checked = false;
  box.dispatchEvent(new Event("change", { bubbles: true }));
  next.focus();
});
on("input", "[data-filter]", (input) => {
  const q = input.value.trim().toLowerCase();
  for (const tr of document.querySelectorAll(input.dataset.filter)) tr.hidden = !tr.textContent.toLowerCase().includes(q);
});

// Unsaved changes
on("input", "form[data-dirty]", (f) => {
  f.classList.add("is-dirty");
  const note = f.querySelector("[data-dirty-note]");
  if (note) note.textContent = "You have unsaved changes.";
});

// A line for a text of several, put in by a link that leads to the same without script
on("click", "[data-add-line]", (link, e) => {
  e.preventDefault();
  const text = document.getElementById(link.dataset.to), line = link.dataset.addLine;
  if (!text.value.split("\n").includes(line)) text.value = `${text.value.replace(/\s+$/, "")}\n${line}`.replace(/^\n/, "");
  text.dispatchEvent(new Event("input", { bubbles: true }));
  link.remove();
  text.focus();
  say(`${line} is added to the list. Choose Done to save it.`);
});

// Upload progress and file drop. Without script the form posts as usual and the next page shows the job.
const MB = (bytes) => (bytes / 1e6).toFixed(1);
document.addEventListener("htmx:xhr:progress", (e) => {
  const row = e.target.querySelector("[data-upload]"), { loaded, total, lengthComputable } = e.detail;
  if (!row || !lengthComputable || row.dataset.sent) return;
  const bar = row.querySelector("progress");
  row.hidden = false;
  row.querySelector("[data-upload-name]").textContent = e.target.querySelector("input[type=file]").files[0]?.name ?? "";
  row.querySelector("[data-upload-sent]").textContent = loaded < total ? `${MB(loaded)} of ${MB(total)} MB` : "is sent and being checked";
  if (loaded < total) { bar.value = (100 * loaded) / total; return; }
  row.dataset.sent = "yes";
  bar.removeAttribute("value");
  say("The file is sent and being checked.");
});
document.addEventListener("htmx:afterRequest", (e) => {
  const row = e.target.querySelector?.("[data-upload]");
  if (row) { row.hidden = true; delete row.dataset.sent; row.querySelector("progress").value = 0; }
});
on("click", "[data-abort]", (b) => htmx.trigger(b.form, "htmx:abort"));
for (const type of ["dragover", "dragleave", "drop"]) on(type, "[data-drop]", (zone, e) => {
  e.preventDefault();
  zone.classList.toggle("over", type === "dragover");
  if (type === "drop" && e.dataTransfer.files.length) zone.querySelector("input[type=file]").files = e.dataTransfer.files;
});

// What an answer of htmx is said to be: <section data-say="text"> is heard when its text is another one
let said = "";
document.addEventListener("htmx:afterSettle", () => {
  const text = document.querySelector("[data-say]")?.dataset.say;
  if (text && text !== said) say(said = text);
});

// Chart tips: pointer, or arrow keys once the chart has focus
for (const chart of document.querySelectorAll(".chart")) {
  const cols = [...chart.querySelectorAll(".col[data-tip]")].filter((c) => c.dataset.tip), svg = chart.querySelector(".plot");
  if (!cols.length) continue;
  for (const t of svg.querySelectorAll("title")) t.remove();
  const tip = Object.assign(document.createElement("div"), { className: "tip", hidden: true });
  chart.append(tip);
  svg.setAttribute("tabindex", "0");
  let at = -1;
  const show = (i) => {
    cols[at]?.classList.remove("on");
    at = i;
    const c = cols[i];
    tip.hidden = !c;
    if (!c) return;
    c.classList.add("on");
    tip.replaceChildren(Object.assign(document.createElement("b"), { textContent: `${c.dataset.label}: ${c.dataset.total}` }),
      ...c.dataset.tip.split("; ").reverse().map((row) => {
        const p = document.createElement("p"), cut = row.lastIndexOf(" ");
        p.append(Object.assign(document.createElement("span"), { textContent: row.slice(0, cut) }), row.slice(cut + 1));
        return p;
      }));
    const box = chart.getBoundingClientRect(), r = c.querySelector(".hit").getBoundingClientRect();
    const left = r.left - box.left + r.width + 8;
    tip.style.left = `${left + tip.offsetWidth > box.width ? r.left - box.left - tip.offsetWidth - 8 : left}px`;
    tip.style.top = "12px";
  };
  svg.addEventListener("pointermove", (e) => { const i = cols.indexOf(e.target.closest(".col")); if (i !== at) show(i); });
  svg.addEventListener("pointerleave", () => show(-1));
  svg.addEventListener("blur", () => show(-1));
  svg.addEventListener("keydown", (e) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[e.key];
    if (e.key === "Escape") return show(-1);
    if (!step) return;
    e.preventDefault();
    show((at + step + cols.length) % cols.length);
    say(`${cols[at].dataset.label}: ${cols[at].dataset.total}. ${cols[at].dataset.tip}`);
  });
}

// Countdown: <span data-countdown="end" data-now="server time">; at its end "countdown-end" tells htmx to ask again
const ends = new WeakMap();
const tick = () => {
  for (const el of document.querySelectorAll("[data-countdown]")) {
    if (!ends.has(el)) ends.set(el, { at: performance.now() + (new Date(el.dataset.countdown) - new Date(el.dataset.now)), text: el.textContent });
    const { at, text } = ends.get(el), s = Math.ceil((at - performance.now()) / 1000);
    const left = `in ${Math.floor(s / 60)}:${String(s % 60).padStart(2, "0")}`;
    if (s > 0) { if (s < 3600) el.textContent = "short" in el.dataset ? left : `${left}, ${text}`; continue; }
    el.removeAttribute("data-countdown");
    el.textContent = text;
    setTimeout(() => el.dispatchEvent(new Event("countdown-end", { bubbles: true })), 300);
  }
};
tick(); setInterval(tick, 1000);
document.addEventListener("htmx:afterSettle", tick);

// What is shown for a while: <div data-hide-after="seconds"> is emptied, and its page is asked for again
const hide = () => document.querySelectorAll("[data-hide-after]").forEach((el) => {
  const seconds = el.dataset.hideAfter;
  el.removeAttribute("data-hide-after");
  setTimeout(() => { el.replaceChildren(); if (el.isConnected) location.replace(el.dataset.hideTo); }, 1000 * seconds);
});
hide();
document.addEventListener("htmx:afterSettle", hide);

// A dialog's form that went through closes its dialog; its Cancel link is only for the page without script
document.addEventListener("htmx:afterRequest", (e) => {
  if (e.detail.successful && e.target.matches?.("[data-close-on-success]")) e.target.closest("dialog")?.close();
});
on("click", "dialog a[data-close]", (a, e) => e.preventDefault());
