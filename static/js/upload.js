// Uploads: files that are dropped onto the form, and how much of one has been sent. Without script the form
// posts as usual, and the next page shows the job.
import { on, say } from "./dom.js";

const megabytes = (bytes) => (bytes / 1e6).toFixed(1);

document.addEventListener("htmx:xhr:progress", ({ detail, target }) => {
  const row = target.querySelector("[data-upload]");
  const { loaded, total, lengthComputable } = detail;
  if (!row || !lengthComputable || row.dataset.sent) return;
  const bar = row.querySelector("progress");
  const isSent = loaded >= total;
  row.hidden = false;
  row.querySelector("[data-upload-name]").textContent =
    target.querySelector("input[type=file]").files[0]?.name ?? "";
  row.querySelector("[data-upload-sent]").textContent = isSent
    ? "is sent and being checked"
    : `${megabytes(loaded)} of ${megabytes(total)} MB`;
  if (!isSent) {
    bar.value = (100 * loaded) / total;
    return;
  }
  row.dataset.sent = "yes";
  bar.removeAttribute("value"); // How long the check takes is not known.
  say("The file is sent and being checked.");
});

// Whatever came of it, the next upload starts from nothing.
document.addEventListener("htmx:afterRequest", ({ target }) => {
  const row = target.querySelector?.("[data-upload]");
  if (!row) return;
  row.hidden = true;
  delete row.dataset.sent;
  row.querySelector("progress").value = 0;
});

on("click", "[data-abort]", (button) => window.htmx.trigger(button.form, "htmx:abort"));

for (const type of ["dragover", "dragleave", "drop"])
  on(type, "[data-drop]", (zone, event) => {
    event.preventDefault();
    zone.classList.toggle("over", type === "dragover");
    const { files } = event.dataTransfer;
    if (type === "drop" && files.length) zone.querySelector("input[type=file]").files = files;
  });
