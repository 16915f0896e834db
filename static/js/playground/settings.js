// The panel: presets, the system prompt, how tokens are chosen, the shape of answers and tools.

import { call } from "./api.js";

const panel = document.querySelector("#settings");
const form = document.querySelector("#sampling");
const opener = document.querySelector("#open-settings");
const chosen = document.querySelector("#preset");
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

const SHOWN = new Set([
  ...NUMBERS,
  "stop",
  "json_schema",
  "regex",
  "template",
  "logprobs",
  "top_logprobs",
]);
let rest = {}; // of the sampling, what no field shows
let presets = [];
let model = ""; // of the first column, without its version

/** {system, sampling, tools} as they stand, or null while a field is wrong, which is then shown. */
export function read() {
  if (!form.checkValidity()) {
    toggle(true);
    form.querySelector(":invalid").closest("details")?.setAttribute("open", "");
    form.reportValidity();
    return null;
  }
  const fields = new FormData(form);
  const sampling = structuredClone(rest);
  if (fields.get("max_tokens") === "") sampling.max_tokens = null; // to the end of the context
  for (const name of NUMBERS)
    if (fields.get(name) !== "") sampling[name] = Number(fields.get(name));
  const thinking = THINKING[fields.get("thinking")];
  if (thinking !== undefined)
    sampling.template = { ...sampling.template, enable_thinking: thinking };
  const stop = fields
    .get("stop")
    .split(/\r?\n/)
    .filter((line) => line !== "")
    .slice(0, 16);
  if (stop.length)
    sampling.stop = stop.map((line) => line.replace(/\\[nt\\]/g, (mark) => ESCAPES[mark]));
  if (fields.get("regex")) sampling.regex = fields.get("regex");
  const schema = parsed("json_schema");
  if (schema) sampling.json_schema = schema;
  return { system: fields.get("system").trim(), sampling, tools: parsed("tools") ?? [] };
}

/** The JSON in a field; null when it is empty. */
function parsed(name) {
  const text = form.elements[name].value.trim();
  return text ? JSON.parse(text) : null;
}

const SHAPES = {
  json_schema: [
    (value) => typeof value === "object" && !Array.isArray(value),
    'A schema is a JSON object, such as {"type": "object"}.',
  ],
  tools: [
    (value) => Array.isArray(value) && value.every((tool) => tool?.function?.name),
    'Tools are a JSON list of {"type": "function", "function": {"name": …}}.',
  ],
};

/** Mark a field whose JSON is none, or something else. */
function checkJson(name) {
  const [fits, wanted] = SHAPES[name];
  let problem = "";
  try {
    const value = parsed(name);
    if (value !== null && !fits(value)) problem = wanted;
  } catch {
    problem = "This is no JSON yet: check brackets, commas and quotes.";
  }
  if (name === "json_schema" && !problem && form.elements.regex.value && form.elements[name].value)
    problem = "An answer keeps either a schema or a regular expression; clear one of them.";
  form.elements[name].setCustomValidity(problem);
}

const written = (value) =>
  value && Object.keys(value).length ? JSON.stringify(value, null, 2) : "";

/** Show what a conversation was asked with; what it does not say is as at first. */
export function write({ system = "", sampling = {}, tools = [] }) {
  const preset = chosen.value; // a field of the form, too
  form.reset();
  chosen.value = preset;
  form.elements.system.value = system;
  for (const name of NUMBERS)
    if (sampling[name] != null) form.elements[name].value = sampling[name];
  if (sampling.max_tokens === null) form.elements.max_tokens.value = "";
  rest = Object.fromEntries(Object.entries(sampling).filter(([name]) => !SHOWN.has(name)));
  const { enable_thinking: _shown, ...template } = sampling.template ?? {};
  if (Object.keys(template).length) rest.template = template;
  const also = document.querySelector("#also");
  also.hidden = !Object.keys(rest).length;
  also.textContent = `Also set: ${JSON.stringify(rest)}. Reset turns it off.`;
  form.elements.thinking.value =
    { true: "on", false: "off" }[sampling.template?.enable_thinking] ?? "";
  const lines = (sampling.stop ?? []).map((text) =>
    text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n").replaceAll("\t", "\\t"),
  );
  form.elements.stop.value = lines.join("\n");
  form.elements.json_schema.value = written(sampling.json_schema);
  form.elements.regex.value = sampling.regex ?? "";
  form.elements.tools.value = written(tools);
  document.querySelector("#shapes").open = Boolean(
    form.elements.json_schema.value || form.elements.regex.value || form.elements.tools.value,
  );
  for (const name of Object.keys(SHAPES)) checkJson(name);
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

/* ------------------------------------------------------------------ presets */
function say(text, wrong = false) {
  const said = document.querySelector("#preset-said");
  said.textContent = text;
  said.classList.toggle("error-text", wrong);
}

const chosenPreset = () => presets.find(({ id }) => String(id) === chosen.value);

/** The presets that the server has. */
export function setPresets(all) {
  presets = all;
  offerPresets();
}

/** `name` is what the first column asks: its model's presets are offered, and those for all. */
export function setModel(name) {
  const bare = name.split("@")[0];
  if (bare === model) return;
  model = bare;
  offerPresets();
}

function offerPresets(id = chosen.value) {
  const first = new Option("Presets…", "");
  const groups = [
    [`For ${model}`, presets.filter((one) => one.model === model && model !== "")],
    ["For all models", presets.filter((one) => one.model === "")],
  ].filter(([, some]) => some.length);
  chosen.replaceChildren(
    first,
    ...groups.map(([label, some]) => {
      const group = document.createElement("optgroup");
      group.label = label;
      group.append(...some.map((one) => new Option(one.name, one.id)));
      return group;
    }),
  );
  chosen.value = id;
  if (chosen.selectedIndex < 0) chosen.value = "";
  offerDelete();
}

function offerDelete() {
  document.querySelector("#delete-preset").hidden = !chosen.value;
}

async function keepPreset() {
  const name = document.querySelector("#preset-name");
  const asked = read();
  if (!asked) return;
  if (!name.value.trim()) return say("Enter a name first.", true);
  const body = { ...asked, name: name.value.trim(), model: "" };
  if (document.querySelector("#preset-for").value === "model") body.model = model;
  const same = presets.find((one) => one.name === body.name && one.model === body.model);
  const path = "/api/playground/presets";
  try {
    const kept = await (same ? call("PUT", `${path}/${same.id}`, body) : call("POST", path, body));
    presets = [...presets.filter((one) => one.id !== kept.id), kept];
    presets.sort((one, other) => one.name.localeCompare(other.name));
    offerPresets(String(kept.id));
    name.value = "";
    document.querySelector("#save-preset").open = false;
    say(`“${kept.name}” is saved.`);
  } catch (error) {
    say(error.message, true);
  }
}

async function deletePreset() {
  const preset = chosenPreset();
  if (!preset || !confirm(`Delete the preset “${preset.name}”?`)) return;
  try {
    await call("DELETE", `/api/playground/presets/${preset.id}`);
    presets = presets.filter((one) => one !== preset);
    offerPresets("");
    say(`“${preset.name}” is deleted.`);
  } catch (error) {
    say(error.message, true);
  }
}

/* ------------------------------------------------------------------- wiring */
form.addEventListener("input", showValues);
form.addEventListener("submit", (event) => event.preventDefault());
for (const name of Object.keys(SHAPES))
  form.elements[name].addEventListener("input", () => checkJson(name));
form.elements.regex.addEventListener("input", () => checkJson("json_schema"));
chosen.addEventListener("change", () => {
  if (chosenPreset()) write(chosenPreset());
  offerDelete();
});
document.querySelector("#keep-preset").addEventListener("click", keepPreset);
document.querySelector("#preset-name").addEventListener("keydown", (event) => {
  if (event.key !== "Enter") return;
  event.preventDefault();
  keepPreset();
});
document.querySelector("#delete-preset").addEventListener("click", deletePreset);
document.querySelector("#reset").addEventListener("click", () => {
  chosen.value = "";
  write({ system: form.elements.system.value });
  offerDelete();
});
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
