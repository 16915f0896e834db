// The present request as a command and as programs.

import { call } from "./api.js";

const dialog = document.querySelector("#code");
const problem = document.querySelector("#code-problem");
const places = {
  curl: document.querySelector("#code-curl"),
  python: document.querySelector("#code-python"),
  anthropic: document.querySelector("#code-anthropic"),
  javascript: document.querySelector("#code-javascript"),
};

/** Show what would be sent: `fields`, to the column of that model; null when there is nothing. */
export async function showCode(fields) {
  const what = fields && `Ask ${fields.model} this from your own program.`;
  document.querySelector("#code-what").textContent = what ?? "";
  for (const place of Object.values(places)) place.textContent = "";
  tell(fields ? "" : "Enter a prompt first.");
  dialog.showModal();
  if (!fields) return;
  try {
    const code = await call("POST", "/api/playground/code", fields);
    for (const [name, place] of Object.entries(places)) place.textContent = code[name];
  } catch (error) {
    tell(error.message);
  }
}

function tell(text) {
  problem.textContent = text;
  problem.hidden = !text;
  for (const place of Object.values(places)) place.parentElement.hidden = text !== "";
}
