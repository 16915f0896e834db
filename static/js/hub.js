// What every page has: theme, shortcuts, copy buttons, relative times, and manners for htmx.

import "./copying.js";

const $ = (selector, root = document) => root.querySelector(selector);

/* ------------------------------------------------------------------- theme */
const THEMES = ["auto", "light", "dark"];

function showTheme() {
  const theme = localStorage.getItem("theme") ?? "auto";
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  for (const label of document.querySelectorAll("[data-theme-label]")) label.textContent = theme;
  document.dispatchEvent(new CustomEvent("hub:theme"));
}

function nextTheme() {
  const theme = localStorage.getItem("theme") ?? "auto";
  const next = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
  if (next === "auto") localStorage.removeItem("theme");
  else localStorage.setItem("theme", next);
  showTheme();
}

/* --------------------------------------------------------------- shortcuts */
const GO = { h: "/", m: "/models/", d: "/datasets/", t: "/training/", p: "/playground/", r: "/requests/", s: "/system/" };
let pendingGo = 0;

function isTyping(target) {
  return target.isContentEditable || ["INPUT", "TEXTAREA", "SELECT"].includes(target.tagName);
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  if (isTyping(event.target)) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (document.querySelector("dialog[open]")) return;
  if (performance.now() - pendingGo < 1200 && GO[event.key]) {
    pendingGo = 0;
    event.preventDefault();
    location.assign(GO[event.key]);
    return;
  }
  pendingGo = 0;
  if (event.key === "g") pendingGo = performance.now();
  else if (event.key === "?") showShortcuts();
  else if (event.key === "/") {
    const search = $("main [data-search]") ?? $("[data-search]");
    if (search?.checkVisibility()) {
      event.preventDefault();
      search.focus();
      search.select();
    } else {
      event.preventDefault();
      location.assign("/models/?focus=search");
    }
  }
});

function showShortcuts() {
  $("#shortcuts")?.showModal();
}

/* ------------------------------------------------------------------ clicks */
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-action]");
  if (!button) return;
  if (button.dataset.action === "theme") nextTheme();
  if (button.dataset.action === "shortcuts") showShortcuts();
});

/* ----------------------------------------------------------- relative time */
// Keep in step with `_relative` in hub/templatetags/display.py.
function relative(seconds) {
  if (seconds < 5) return "just now";
  for (const [limit, length, unit] of [[60, 1, "s"], [3600, 60, "min"], [86400, 3600, "h"]]) {
    if (seconds < limit) return `${Math.floor(seconds / length)} ${unit} ago`;
  }
  const days = Math.floor(seconds / 86400);
  return `${days} day${days > 1 ? "s" : ""} ago`;
}

function refreshTimes() {
  for (const time of document.querySelectorAll("time[data-ago]")) {
    const text = relative((Date.now() - new Date(time.dateTime)) / 1000);
    if (time.textContent !== text) time.textContent = text;
  }
}
setInterval(refreshTimes, 10_000);

/* -------------------------------------------------------------------- htmx */
// A hidden tab does not poll; what it missed comes with the first poll after it is shown again. What
// a stream of events keeps up to date is not polled either.
const isPoll = (event) => event.target.matches("[data-poll]") && !event.detail.requestConfig?.triggeringEvent;
document.addEventListener("htmx:beforeRequest", (event) => {
  if (!isPoll(event)) return;
  const streamed = "streaming" in document.body.dataset && event.target.matches("[data-streamed]");
  if (document.hidden || streamed) event.preventDefault();
});
// What is polled gives the focus back to the control that had it, and waits while text is selected or
// a value is being typed in it.
let focused = null;
const CONTROLS = "a, button, input, select, summary, [tabindex]";
document.addEventListener("htmx:beforeSwap", (event) => {
  const { target } = event.detail;
  if (!target.matches("[data-poll]")) return;
  const selection = getSelection();
  const active = document.activeElement;
  if (!selection.isCollapsed && target.contains(selection.anchorNode)) event.detail.shouldSwap = false;
  if (isTyping(active) && target.contains(active) && !event.detail.requestConfig?.triggeringEvent) event.detail.shouldSwap = false;
  const index = [...target.querySelectorAll(CONTROLS)].indexOf(active);
  focused = index < 0 ? null : { id: target.id, index, text: active.textContent, own: active.id };
});
document.addEventListener("htmx:afterSwap", () => {
  const control = focused?.own
    ? document.getElementById(focused.own)
    : focused && document.getElementById(focused.id)?.querySelectorAll(CONTROLS)[focused.index];
  if (control && control.textContent === focused.text) control.focus({ preventScroll: true });
  focused = null;
  for (const log of document.querySelectorAll("[data-stick]")) log.scrollTop = log.scrollHeight;
});
for (const log of document.querySelectorAll("pre.log")) log.scrollTop = log.scrollHeight;

// A form with mistakes comes back with status 4xx and belongs on the page like any other answer.
document.addEventListener("htmx:beforeSwap", (event) => {
  const { status } = event.detail.xhr;
  if (status >= 400 && status < 500 && event.detail.xhr.getResponseHeader("X-Form") === "invalid") {
    event.detail.shouldSwap = true;
    event.detail.isError = false;
  }
});

/* ----------------------------------------------------------------- columns */
// Offers the columns of the chosen CSV or JSONL file; those of a Parquet file are typed.
async function offerColumns(fields) {
  const file = document.getElementById(fields.dataset.columnsOf)?.files[0];
  const names = file ? columnsIn(file.name, await file.slice(0, 65536).text()) : [];
  $("#columns").replaceChildren(...names.map((name) => new Option(name, name)));
  $("#columns-found").textContent = names.length ? `The file has: ${names.join(", ")}` : "";
}

function columnsIn(name, start) {
  const [line] = start.replace(/^\uFEFF/, "").split(/\r?\n/, 1);
  if (/\.(csv|tsv)$/i.test(name)) {
    const mark = [",", ";", "\t", "|"].reduce((a, b) => (line.split(b).length > line.split(a).length ? b : a));
    return line.split(mark).map((column) => column.trim().replace(/^"(.*)"$/, "$1"));
  }
  try {
    const first = JSON.parse(line);
    return first && typeof first === "object" && !Array.isArray(first) ? Object.keys(first) : [];
  } catch {
    return [];
  }
}

for (const fields of document.querySelectorAll("[data-columns-of]")) {
  const input = document.getElementById(fields.dataset.columnsOf);
  input?.addEventListener("change", () => offerColumns(fields));
}

showTheme();
if (new URLSearchParams(location.search).get("focus") === "search") $("main [data-search]")?.focus();
