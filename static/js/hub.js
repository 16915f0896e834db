// What every page has: theme, shortcuts, menus, and manners for htmx; its other parts are imported.

import "./connection.js";
import "./copying.js";
import "./lists.js";
import "./notify.js";
import { open as openPalette } from "./palette.js";
import "./times.js";
import "./toasts.js";

const $ = (selector, root = document) => root.querySelector(selector);

/* ------------------------------------------------------------------- theme */
const THEMES = ["auto", "light", "dark"];

function showTheme() {
  const theme = localStorage.getItem("theme") ?? "auto";
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  nameTheme();
  document.dispatchEvent(new CustomEvent("hub:theme"));
}

function nameTheme() {
  const theme = localStorage.getItem("theme") ?? "auto";
  for (const label of document.querySelectorAll("[data-theme-label]")) label.textContent = theme;
}
document.addEventListener("htmx:afterSwap", nameTheme);

function nextTheme() {
  const theme = localStorage.getItem("theme") ?? "auto";
  const next = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
  if (next === "auto") localStorage.removeItem("theme");
  else localStorage.setItem("theme", next);
  showTheme();
}

/* --------------------------------------------------------------- shortcuts */
const GO = {
  h: "/",
  m: "/models/",
  d: "/datasets/",
  t: "/training/",
  p: "/playground/",
  r: "/requests/",
  s: "/system/",
};
let pendingGo = 0;

function isTyping(target) {
  return target.isContentEditable || ["INPUT", "TEXTAREA", "SELECT"].includes(target.tagName);
}

document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.target.closest("form[data-submit]")?.requestSubmit();
    return;
  }
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
    const search = $("main [data-search]");
    event.preventDefault();
    if (search?.checkVisibility()) {
      search.focus();
      search.select();
    } else openPalette();
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

// One box ticks all others of its table, or of its form, that have the name it says.
document.addEventListener("change", (event) => {
  const name = event.target.dataset?.tickAll;
  if (!name) return;
  const among = event.target.closest("table") ?? event.target.form;
  for (const box of among.querySelectorAll(`input[name="${name}"]`))
    box.checked = event.target.checked;
});

// A menu closes with a click elsewhere and with Escape.
document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.menu[open]"))
    if (!menu.contains(event.target) || event.target.closest(".menu-panel > button"))
      menu.open = false;
});
document.addEventListener("keydown", (event) => {
  const menu = event.key === "Escape" && event.target.closest?.("details.menu[open]");
  if (!menu) return;
  menu.open = false;
  menu.querySelector("summary").focus();
});

// Older links name a part of a page that has a tab of its own now.
const part = location.hash.slice(1);
if (part && !document.getElementById(part)) {
  const tab = $(`[data-parts~="${CSS.escape(part)}"]`);
  if (tab) location.replace(tab.href + location.hash);
}

/* -------------------------------------------------------------------- htmx */
// A hidden tab does not poll; it catches up with the first poll after it is shown again. What a
// stream of events keeps up to date is not polled either.
const isPoll = (event) =>
  event.target.matches("[data-poll]") && !event.detail.requestConfig?.triggeringEvent;
document.addEventListener("htmx:beforeRequest", (event) => {
  if (!isPoll(event)) return;
  const streamed = "streaming" in document.body.dataset && event.target.matches("[data-streamed]");
  if (document.hidden || streamed) event.preventDefault();
});
// Polled parts are morphed (`hx-swap="morph"`), so focus and scroll position stay. What a person is
// typing and the details they opened stay too, and nothing changes under a selection.
const { defaults } = window.Idiomorph;
defaults.ignoreActiveValue = true;
defaults.callbacks.beforeAttributeUpdated = (name, element) =>
  !(name === "open" && element.matches("details, dialog")) &&
  !(name === "checked" && element.matches("[name=pick]"));
document.addEventListener("htmx:beforeSwap", (event) => {
  const { target } = event.detail;
  const selection = getSelection();
  if (target.matches("[data-poll]") && !selection.isCollapsed)
    event.detail.shouldSwap &&= !target.contains(selection.anchorNode);
});
// When the hub is back, what it would have said meanwhile is asked for at once.
document.addEventListener("hub:back", () => {
  for (const part of document.querySelectorAll("[data-poll]"))
    window.htmx.ajax("GET", part.getAttribute("hx-get"), { source: part });
});
// A log stays at its end, unless someone has scrolled up to read.
const atEnd = (log) => log.scrollHeight - log.scrollTop - log.clientHeight < 30;
let sticks = false;
document.addEventListener("htmx:beforeSwap", ({ detail }) => {
  const log = detail.target.querySelector?.("pre.log");
  sticks = detail.target.matches?.("[data-stick]") && (!log || atEnd(log));
});
function scrollLogs() {
  for (const log of document.querySelectorAll("pre.log")) log.scrollTop = log.scrollHeight;
}
document.addEventListener("htmx:afterSwap", ({ detail }) => {
  if (sticks && detail.target.matches?.("[data-stick]")) scrollLogs();
});
scrollLogs();

showTheme();
