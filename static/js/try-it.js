// "Try it" on a dataset's docs page: sends the request that the form put together and shows its answer.
// Without script the same request opens in a tab of its own.
import { make } from "./dom.js";

const SHOWN_MAX = 20_000;
// An answer that begins this close to the lower edge of the window, or below it, is brought into sight.
const EDGE_PX = 160;
// A string, a bracket, brace, comma or colon, or whatever else stands between them.
const PIECES = /"(?:[^"\\]|\\.)*"|[[\]{},:]|[^\s"[\]{},:]+/g;
// A string with the colon that may follow it, or a number.
const VALUES = /("(?:[^"\\]|\\.)*")(\s*:)?|(-?\d[\d.eE+-]*)/g;

const part = (root, name) => root.querySelector(`[data-${name}]`);

function sizeInWords(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  return bytes < 1e6 ? `${(bytes / 1000).toFixed(1)} KB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

// Indented without parsing, so that numbers keep the digits they were sent with.
function indented(text) {
  let depth = 0;
  let out = "";
  const newLine = () => `\n${"  ".repeat(depth)}`;
  for (const [piece] of text.matchAll(PIECES)) {
    if (piece === "[" || piece === "{") {
      depth += 1;
      out += piece + newLine();
    } else if (piece === "]" || piece === "}") {
      depth -= 1;
      out = out.trimEnd();
      // An empty one stays on its line.
      out += /[[{]$/.test(out) ? piece : newLine() + piece;
    } else if (piece === ",") {
      out += piece + newLine();
    } else {
      out += piece === ":" ? ": " : piece;
    }
    if (out.length > SHOWN_MAX * 2) break;
  }
  return out;
}

// Strings and numbers get their colours; a string before a colon is a name and gets none.
function colour(code, text) {
  let at = 0;
  for (const found of text.matchAll(VALUES)) {
    const [value, , colon, number] = found;
    if (colon) continue;
    code.append(
      text.slice(at, found.index),
      make("span", { className: number ? "n" : "s", textContent: value }),
    );
    at = found.index + value.length;
  }
  code.append(text.slice(at));
}

function showBody(root, type, text, url) {
  const isJson = type.includes("json") && !type.includes("ndjson");
  const whole = isJson ? indented(text) : text;
  const shown = whole.slice(0, SHOWN_MAX);
  const code = part(root, "body");
  const cut = part(root, "cut");
  if (isJson) colour(code, shown);
  else code.textContent = shown;
  if (!text) part(root, "code-box").hidden = true;
  if (isJson && text.replace(/\s/g, "") === "[]") {
    cut.hidden = false;
    cut.textContent = "No record matches. A key that is not there is no error.";
  }
  if (whole.length > shown.length) {
    cut.hidden = false;
    cut.append(
      `The first ${SHOWN_MAX.toLocaleString("en")} characters. `,
      make("a", { href: url, target: "_blank", rel: "noopener", textContent: "Open all of it" }),
    );
  }
  if (type.includes("parquet")) {
    cut.hidden = false;
    cut.textContent = "A Parquet file: open the answer to save it.";
  }
}

function showProblem(root, problem) {
  const note = part(root, "problem");
  const detail = problem.detail ?? "";
  const needed = problem.needed ?? "";
  note.hidden = false;
  part(note, "title").textContent = problem.title;
  part(note, "detail").textContent = detail;
  // The detail often says already what is needed, and the same twice helps nobody.
  if (!detail.includes(needed.slice(needed.indexOf(": ") + 1).trim())) {
    part(note, "needed").hidden = false;
    part(note, "needed").textContent = `Needed: ${needed}`;
  }
  Object.assign(part(note, "code"), { textContent: problem.code, href: problem.docs });
}

function showHeaders(root, headers) {
  for (const [name, value] of headers) {
    part(root, "headers").append(
      make("dt", { className: "mono", textContent: name }),
      make("dd", { className: "mono", textContent: value }),
    );
  }
}

async function answerTo(url) {
  const root = document.getElementById("answer-template").content.cloneNode(true);
  const began = performance.now();
  const answer = await fetch(url, { credentials: "omit", cache: "no-store" });
  const type = answer.headers.get("content-type") ?? "";
  const bytes = await answer.arrayBuffer();
  const took = Math.round(performance.now() - began);
  const text = type.includes("parquet") ? "" : new TextDecoder().decode(bytes);
  const status = part(root, "status");
  status.textContent = `${answer.status} ${answer.statusText}`.trim();
  status.classList.add(answer.ok ? "badge-ok" : "badge-bad");
  part(root, "time").textContent = `${took} ms`;
  part(root, "size").textContent = sizeInWords(bytes.byteLength);
  showHeaders(root, answer.headers);
  if (type.includes("problem+json")) showProblem(root, JSON.parse(text));
  showBody(root, type, text, url);
  return root;
}

async function send(card) {
  const url = card.dataset.run;
  const place = part(card, "answer");
  card.removeAttribute("data-run");
  place.setAttribute("aria-busy", "true");
  try {
    place.replaceChildren(await answerTo(url));
  } catch {
    const textContent = "The server did not answer. Check the connection and send it again.";
    place.replaceChildren(make("p", { className: "card-foot", textContent }));
  }
  place.removeAttribute("aria-busy");
  if (place.getBoundingClientRect().top > innerHeight - EDGE_PX) place.scrollIntoView({ block: "center" });
}

document.addEventListener("htmx:afterSettle", () => {
  for (const card of document.querySelectorAll("[data-run]")) send(card);
});
