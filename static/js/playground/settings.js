// The panel: system prompt, saved prompts, and how tokens are chosen.

import { call } from "./api.js";

const panel = document.querySelector("#settings");
const form = document.querySelector("#sampling");
const opener = document.querySelector("#open-settings");
const saved = document.querySelector("#saved-prompt");
const NUMBERS = [
  "max_tokens",
  "temperature",
  "top_p",
  "min_p",
  "top_k",
  "seed",
  "repetition_penalty",
  "presence_penalty",
  "frequency_penalty",
  "thinking_budget",
];
const THINKING = { on: true, off: false };
const ESCAPES = { "\\n": "\n", "\\t": "\t", "\\\\": "\\" };

/** {system, sampling} as they stand, or null while a field is wrong, which is then shown. */
export function read() {
  if (!form.checkValidity()) {
    toggle(true);
    form.querySelector(":invalid").closest("details")?.setAttribute("open", "");
    form.reportValidity();
    return null;
  }
  const fields = new FormData(form);
  const sampling = {};
  for (const name of NUMBERS)
    if (fields.get(name) !== "") sampling[name] = Number(fields.get(name));
  const thinking = THINKING[fields.get("thinking")];
  if (thinking !== undefined) sampling.template = { enable_thinking: thinking };
  const stop = fields
    .get("stop")
    .split(/\r?\n/)
    .filter((line) => line !== "")
    .slice(0, 16);
  if (stop.length)
    sampling.stop = stop.map((line) => line.replace(/\\[nt\\]/g, (mark) => ESCAPES[mark]));
  return { system: fields.get("system").trim(), sampling };
}

/** Show what a conversation was asked with; what it does not say is as at first. */
export function write({ system = "", sampling = {} }) {
  form.reset();
  form.elements.system.value = system;
  for (const name of NUMBERS)
    if (sampling[name] != null) form.elements[name].value = sampling[name];
  form.elements.thinking.value =
    { true: "on", false: "off" }[sampling.template?.enable_thinking] ?? "";
  const lines = (sampling.stop ?? []).map((text) =>
    text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n").replaceAll("\t", "\\t"),
  );
  form.elements.stop.value = lines.join("\n");
  showValues();
}

export function setSystem(text) {
  form.elements.system.value = text;
}

/** A seed for the columns of one message, so that they draw alike and the draw can be repeated. */
export function drawSeed(sampling) {
  if (sampling.seed != null || !sampling.temperature) return sampling.seed ?? null;
  return crypto.getRandomValues(new Uint32Array(1))[0];
}

export function toggle(open = panel.hidden) {
  panel.hidden = !open;
  opener.setAttribute("aria-expanded", String(open));
}

function showValues() {
  for (const slider of form.querySelectorAll(".slider")) {
    slider.querySelector("output").value = slider.querySelector("input").value;
  }
}

/** Whether the panel covers the columns, as on a phone. */
export const liesOver = () => getComputedStyle(panel).position === "fixed";

/* ------------------------------------------------------------ saved prompts */
function say(text, wrong = false) {
  const said = document.querySelector("#prompt-said");
  said.textContent = text;
  said.classList.toggle("error-text", wrong);
}

const chosenPrompt = () => saved.selectedOptions[0];

function offerDelete() {
  document.querySelector("#delete-prompt").hidden = !saved.value;
}

async function keepPrompt() {
  const name = document.querySelector("#prompt-name");
  const text = form.elements.system.value.trim();
  if (!text || !name.value.trim()) return say("Enter a system prompt and a name first.", true);
  const same = [...saved.options].find(
    (option) => option.value && option.text === name.value.trim(),
  );
  const path = "/api/playground/prompts";
  const body = { name: name.value.trim(), text };
  try {
    const kept = await (same
      ? call("PUT", `${path}/${same.value}`, body)
      : call("POST", path, body));
    const option = same ?? saved.appendChild(new Option(kept.name, kept.id));
    option.dataset.text = kept.text;
    saved.value = kept.id;
    name.value = "";
    document.querySelector("#save-prompt").open = false;
    say(`“${kept.name}” is saved.`);
  } catch (error) {
    say(error.message, true);
  }
  return offerDelete();
}

async function deletePrompt() {
  const option = chosenPrompt();
  if (!option.value || !confirm(`Delete the saved prompt “${option.text}”?`)) return;
  try {
    await call("DELETE", `/api/playground/prompts/${option.value}`);
    say(`“${option.text}” is deleted.`);
    option.remove();
    saved.value = "";
  } catch (error) {
    say(error.message, true);
  }
  offerDelete();
}

/* ------------------------------------------------------------------- wiring */
form.addEventListener("input", showValues);
form.addEventListener("submit", (event) => event.preventDefault());
saved.addEventListener("change", () => {
  if (saved.value) form.elements.system.value = chosenPrompt().dataset.text;
  offerDelete();
});
document.querySelector("#keep-prompt").addEventListener("click", keepPrompt);
document.querySelector("#prompt-name").addEventListener("keydown", (event) => {
  if (event.key !== "Enter") return;
  event.preventDefault();
  keepPrompt();
});
document.querySelector("#delete-prompt").addEventListener("click", deletePrompt);
document
  .querySelector("#reset")
  .addEventListener("click", () => write({ system: form.elements.system.value }));
opener.addEventListener("click", () => {
  toggle();
  if (!panel.hidden) form.elements.system.focus();
});
document.querySelector("#close-settings").addEventListener("click", () => {
  toggle(false);
  opener.focus();
});
panel.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || !liesOver()) return;
  event.preventDefault();
  toggle(false);
  opener.focus();
});
showValues();
