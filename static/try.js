// "Try it" on a dataset's docs page: sends the request that the form put together and shows its answer.
// The page works without it: the same request opens in a tab of its own.
const SHOWN_MAX = 20000;
const TOKENS = /("(?:[^"\\]|\\.)*")(\s*:)?|(-?\d[\d.eE+-]*)/g;
const words = (n) => n < 1000 ? `${n} B` : n < 1e6 ? `${(n / 1000).toFixed(1)} KB` : `${(n / 1e6).toFixed(1)} MB`;
const part = (root, name) => root.querySelector(`[data-${name}]`);

// Indented without parsing, so that numbers keep the digits they were sent with.
const indented = (text) => {
  let depth = 0, out = "";
  for (const [piece] of text.matchAll(/"(?:[^"\\]|\\.)*"|[\[\]{},:]|[^\s"\[\]{},:]+/g)) {
    if (piece === "[" || piece === "{") out += piece + "\n" + "  ".repeat(++depth);
    else if (piece === "]" || piece === "}") out = out.trimEnd() + (/[[{]$/.test(out.trimEnd()) ? (depth--, "") : "\n" + "  ".repeat(--depth)) + piece;
    else if (piece === ",") out += ",\n" + "  ".repeat(depth);
    else out += piece === ":" ? ": " : piece;
    if (out.length > SHOWN_MAX * 2) break;
  }
  return out;
};
const coloured = (code, text) => {
  let at = 0;
  for (const m of text.matchAll(TOKENS)) {
    if (m[2]) continue;
    code.append(text.slice(at, m.index), Object.assign(document.createElement("span"), { className: m[3] ? "n" : "s", textContent: m[0] }));
    at = m.index + m[0].length;
  }
  code.append(text.slice(at));
};

const showBody = (root, type, text, url) => {
  const isJson = type.includes("json") && !type.includes("ndjson");
  const whole = isJson ? indented(text) : text, shown = whole.slice(0, SHOWN_MAX), code = part(root, "body");
  if (isJson) coloured(code, shown); else code.textContent = shown;
  if (!text) part(root, "code-box").hidden = true;
  const cut = part(root, "cut");
  if (isJson && text.replace(/\s/g, "") === "[]") { cut.hidden = false; cut.textContent = "No record matches. A key that is not there is no error."; }
  if (whole.length > shown.length) {
    cut.hidden = false;
    const link = Object.assign(document.createElement("a"), { href: url, target: "_blank", rel: "noopener", textContent: "Open all of it" });
    cut.append(`The first ${SHOWN_MAX.toLocaleString("en")} characters. `, link);
  }
};
const showProblem = (root, problem) => {
  const note = part(root, "problem");
  note.hidden = false;
  part(note, "title").textContent = problem.title;
  part(note, "detail").textContent = problem.detail ?? "";
  const needed = problem.needed || "";
  if (!(problem.detail || "").includes(needed.slice(needed.indexOf(": ") + 1).trim())) { part(note, "needed").hidden = false; part(note, "needed").textContent = `Needed: ${problem.needed}`; }
  Object.assign(part(note, "code"), { textContent: problem.code, href: problem.docs });
};
const showHeaders = (root, headers) => {
  for (const [name, value] of headers) {
    const dd = document.createElement("dd");
    dd.className = "mono";
    dd.textContent = value;
    part(root, "headers").append(Object.assign(document.createElement("dt"), { className: "mono", textContent: name }), dd);
  }
};

const send = async (card) => {
  const url = card.dataset.run, place = part(card, "answer");
  card.removeAttribute("data-run");
  place.setAttribute("aria-busy", "true");
  const root = document.getElementById("answer-template").content.cloneNode(true), began = performance.now();
  try {
    const answer = await fetch(url, { credentials: "omit", cache: "no-store" });
    const type = answer.headers.get("content-type") ?? "", bytes = await answer.arrayBuffer();
    const took = Math.round(performance.now() - began), text = type.includes("parquet") ? "" : new TextDecoder().decode(bytes);
    const badge = part(root, "status");
    badge.textContent = `${answer.status} ${answer.statusText}`.trim();
    badge.classList.add(answer.ok ? "badge-ok" : "badge-bad");
    part(root, "time").textContent = `${took} ms`;
    part(root, "size").textContent = words(bytes.byteLength);
    showHeaders(root, answer.headers);
    if (type.includes("problem+json")) showProblem(root, JSON.parse(text));
    showBody(root, type, text, url);
    if (type.includes("parquet")) { part(root, "cut").hidden = false; part(root, "cut").textContent = "A Parquet file: open the answer to save it."; }
    place.replaceChildren(root);
  } catch {
    const p = Object.assign(document.createElement("p"), { className: "card-foot", textContent: "The server did not answer. Check the connection and send it again." });
    place.replaceChildren(p);
  }
  place.removeAttribute("aria-busy");
  if (place.getBoundingClientRect().top > innerHeight - 160) place.scrollIntoView({ block: "center" });
};
document.addEventListener("htmx:afterSettle", () => { for (const card of document.querySelectorAll("[data-run]")) send(card); });
