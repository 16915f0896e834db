// A model that is dropped on the page or chosen in its form is sent in pieces; the same files
// continue after a pause, a lost connection or a reload.

import { call } from "./playground/api.js";

const PIECE = 8 * 2 ** 20;
const AGAIN_MS = 2000; // after a lost connection

const form = document.querySelector("[data-pieces]");
const box = document.querySelector("[data-sending]");
const part = (name) => box.querySelector(`[data-sent-${name}]`);
const bar = box.querySelector("progress");
const pause = part("pause");
const here = document.querySelector("[data-drop-here]");
let files = [];
let stop = null; // an AbortController while something is sent

const bytes = (n) =>
  n < 1e9 ? `${(n / 1e6).toFixed(n < 1e7 ? 1 : 0)} MB` : `${(n / 1e9).toFixed(2)} GB`;

function say(error) {
  part("error").textContent = error;
  part("error").hidden = !error;
}

function show(sent, total) {
  bar.value = total ? sent / total : 0;
  part("share").textContent = `${bytes(sent)} of ${bytes(total)}`;
}

/** The hub keeps the name and the size of each file; a folder gives its name to the model. */
function nameOf(chosen) {
  const [first] = chosen;
  const folder = first.folder ?? first.webkitRelativePath?.split("/")[0];
  const stem = chosen.length === 1 ? first.name.replace(/\.gguf$/, "") : folder;
  return (stem || "model").replace(/[^A-Za-z0-9._-]+/g, "-").replace(/^[-._]+|[-._]+$/g, "");
}

async function sendPiece(url, file, offset, signal) {
  const body = new FormData();
  body.set("name", file.name);
  body.set("offset", offset);
  body.set("piece", file.slice(offset, offset + PIECE), file.name);
  const headers = { "X-CSRFToken": form.elements.csrfmiddlewaretoken.value };
  const answer = await fetch(url, { method: "POST", body, headers, signal });
  const content = await answer.json().catch(() => null);
  if (answer.status === 409) return null; // another page has sent it
  if (!answer.ok) throw new Error(content?.error?.message ?? `The hub answered ${answer.status}.`);
  return content.received;
}

/** Send every file from where it stopped; true when all of it is there. */
async function sendAll(chosen, signal) {
  const named = chosen.map(({ name, size, lastModified: modified }) => ({ name, size, modified }));
  const upload = await call("POST", form.dataset.pieces, { files: named });
  const url = `${form.dataset.pieces}/${upload.upload}`;
  const total = upload.files.reduce((sum, file) => sum + file.size, 0);
  let before = upload.files.reduce((sum, file) => sum + file.received, 0);
  show(before, total);
  for (const wanted of upload.files) {
    const file = chosen.find((one) => one.name === wanted.name);
    let received = wanted.received;
    while (received < wanted.size) {
      const now = await sendPiece(`${url}/pieces`, file, received, signal);
      if (now === null) return sendAll(chosen, signal);
      before += now - received;
      received = now;
      show(before, total);
    }
  }
  return url;
}

async function start(chosen) {
  if (!chosen.length || stop) return;
  if (chosen !== files) part("as").value = "";
  files = chosen;
  here.hidden = true;
  box.hidden = false;
  say("");
  part("as").value ||= nameOf(files);
  stop = new AbortController();
  pause.textContent = "Pause";
  pause.hidden = false;
  try {
    const url = await sendAll(files, stop.signal);
    pause.hidden = true;
    part("note").textContent = "Everything has arrived; the import begins.";
    await call("POST", `${url}/import`, { name: part("as").value });
    location.assign(form.dataset.done);
  } catch (error) {
    const paused = error.name === "AbortError";
    const lost = error instanceof TypeError || /not responding/.test(error.message);
    pause.textContent = paused || lost ? "Resume" : "Try again";
    pause.hidden = false;
    if (lost && !paused) {
      say("The connection was lost; trying again…");
      setTimeout(() => box.hidden || stop || start(files), AGAIN_MS);
    } else if (!paused) {
      say(error.message);
    }
  } finally {
    stop = null;
  }
}

pause.addEventListener("click", () => (stop ? stop.abort() : start(files)));
form.addEventListener("submit", (event) => {
  event.preventDefault();
  start([...form.elements.files.files]);
});
document
  .getElementById("base-folder")
  .addEventListener("change", (event) => start(plain([...event.target.files])));

/** The files of the folder itself: what lies in folders below is another copy of the weights. */
const plain = (found) => found.filter((file) => file.webkitRelativePath.split("/").length <= 2);

/** A dropped folder is read here; its files have no path of their own. */
async function filesIn(folder) {
  const reader = folder.createReader();
  const entries = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) break;
    entries.push(...some);
  }
  const found = entries.filter((entry) => entry.isFile);
  const read = await Promise.all(
    found.map((entry) => new Promise((resolve, reject) => entry.file(resolve, reject))),
  );
  for (const file of read) file.folder = folder.name;
  return read;
}

document.addEventListener(
  "drop",
  (event) => {
    const entries = [...(event.dataTransfer?.items ?? [])].map((item) => item.webkitGetAsEntry?.());
    const folder = entries.find((entry) => entry?.isDirectory);
    if (!folder) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    filesIn(folder).then(start, (error) => say(error.message));
  },
  { capture: true },
);
