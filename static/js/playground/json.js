// JSON as a tree that folds, and tool calls with their arguments.

import { copy } from "../copying.js";

const OPEN_DEPTH = 3; // deeper parts are folded at first
const MOST = 200_000; // characters; what is longer stays a text

function read(text) {
  if (!/^\s*[{[]/.test(text) || text.length > MOST) return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

export const isJson = (text) => typeof read(text) === "object";

/** Of a text that is still being written. */
export const looksLikeJson = (text) => /^\s*(\{\s*("|\}|$)|\[\s*([{["\]\d-]|$))/.test(text);

function make(name, className, text = "") {
  const element = document.createElement(name);
  element.className = className;
  element.textContent = text;
  return element;
}

/** A value after its name, as lines of a tree. */
function branch(name, value, depth) {
  const label = name === null ? [] : [make("span", "key", name), ": "];
  if (typeof value !== "object" || value === null || !Object.keys(value).length) {
    const line = make("div", "leaf");
    const kind = value === null ? "null" : typeof value;
    line.append(...label, make("span", `value ${kind}`, JSON.stringify(value)));
    return line;
  }
  const isList = Array.isArray(value);
  const size = Object.keys(value).length;
  const details = make("details", "");
  details.open = depth < OPEN_DEPTH;
  const summary = make("summary", "");
  const what = isList ? "item" : "field";
  summary.append(...label, make("span", "size", `${size} ${what}${size === 1 ? "" : "s"}`));
  const inner = make("div", "inner");
  for (const [key, part] of Object.entries(value))
    inner.append(branch(isList ? null : key, part, depth + 1));
  details.append(summary, inner);
  return details;
}

/** A frame with the tree, or with the text where that is not JSON yet. */
function framed(title, text) {
  const value = read(text);
  const box = make("div", "code json");
  const top = make("div", "code-top");
  const button = make("button", "btn small ghost", "Copy");
  button.type = "button";
  const pretty = value === undefined ? text : JSON.stringify(value, null, 2);
  const tree = value === undefined ? make("pre", "", text) : make("div", "tree");
  if (value !== undefined) tree.append(branch(null, value, 0));
  tree.tabIndex = 0;
  if (value !== undefined) tree.setAttribute("role", "group");
  tree.setAttribute("aria-label", title);
  button.addEventListener("click", () => copy(button, tree, pretty));
  top.append(make("span", "", title), button);
  box.append(top, tree);
  return box;
}

/** Make `element` show a JSON text, whole or still being written. */
export function showJson(element, text) {
  if (element.shownJson === text && element.querySelector(":scope > .json")) return;
  element.shownJson = text;
  element.shownText = null;
  element.replaceChildren(framed("JSON", text));
}

/** Make `element` show calls of tools: {name, arguments}. */
export function showCalls(element, calls) {
  const shown = JSON.stringify(calls);
  if (element.shownCalls === shown) return;
  element.shownCalls = shown;
  element.hidden = calls.length === 0;
  element.replaceChildren(
    ...calls.map(({ name, arguments: text }) => framed(`calls ${name}`, text)),
  );
}
