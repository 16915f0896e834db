// Whether the hub still answers: the one place that knows, for polled parts, streams, charts and the
// playground. While it does not, a banner says so on every open page, figures are grey, nothing is
// sent, and one timer alone asks again.

import { clock } from "./figures.js";

const QUIET_MS = 1500; // without a sign of the hub, it is asked for one
const PATIENCE_MS = 2500; // for that answer
const LOOK_MS = 500;
const RETRY_MS = [1000, 1000, 2000, 3000, 5000]; // the last one again and again
const BACK_MS = 4000; // how long "Connected again" is shown

// What would be sent to the hub. Buttons that only change the page, such as the theme's, stay.
const SENDS =
  'form:not([method="dialog"]) :is(button:not([type="button"]), input[type="submit"]), [data-sends], [hx-post], [hx-put], [hx-delete]';

const tabs = "BroadcastChannel" in window ? new BroadcastChannel("hub-connection") : null;
let heardAt = Date.now(); // the last sign of the hub
let lost = false;
let asking = null;
let tries = 0;
let retry = 0;

export const isLost = () => lost;

/** There was a sign of the hub: an answer, an event, a message. */
export function heard() {
  heardAt = Date.now();
  if (lost) found();
}

/** Something failed that may mean that the hub is gone: whether it answers now. */
export function check() {
  asking ??= ask().finally(() => {
    asking = null;
  });
  return asking;
}

/** Resolves at once, or when the hub is back. */
export function connected() {
  if (!lost) return Promise.resolve();
  return new Promise((resolve) =>
    document.addEventListener("hub:back", () => resolve(), { once: true }),
  );
}

async function ask() {
  const began = Date.now();
  let alive = false;
  try {
    const answer = await fetch(import.meta.url, {
      method: "HEAD",
      cache: "no-store",
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
    alive = answer.ok;
  } catch {
    alive = heardAt >= began; // something else was heard meanwhile
  }
  if (alive) heard();
  else lose(heardAt);
  return alive;
}

/* -------------------------------------------------------- lost, and found again */
function lose(since) {
  if (!lost) {
    lost = true;
    heardAt = since;
    document.documentElement.dataset.lost = "";
    for (const sender of document.querySelectorAll(SENDS)) {
      if (!sender.hasAttribute("aria-disabled")) {
        sender.setAttribute("aria-disabled", "true");
        sender.dataset.cut = "";
      }
    }
    show();
    document.dispatchEvent(new CustomEvent("hub:lost"));
    tabs?.postMessage({ lost: since });
  }
  clearTimeout(retry);
  retry = setTimeout(tryAgain, RETRY_MS[Math.min(tries, RETRY_MS.length - 1)]);
  tries += 1;
  show();
}

function found() {
  lost = false;
  tries = 0;
  clearTimeout(retry);
  delete document.documentElement.dataset.lost;
  for (const sender of document.querySelectorAll("[data-cut]")) {
    sender.removeAttribute("aria-disabled");
    delete sender.dataset.cut;
  }
  show(true);
  document.dispatchEvent(new CustomEvent("hub:back"));
  tabs?.postMessage({ back: true });
}

function tryAgain() {
  if (document.hidden) document.addEventListener("visibilitychange", check, { once: true });
  else check();
}

// Tabs agree: what one has noticed the others look for at once; a hidden one, which does not ask by
// itself, believes it. The time is that of the tab that heard from the hub last.
tabs?.addEventListener("message", ({ data }) => {
  if (data.back) return lost && check();
  if (!lost && !document.hidden) return check();
  if (!lost) return lose(Math.max(heardAt, data.lost));
  heardAt = Math.max(heardAt, data.lost);
  show();
});

/* ------------------------------------------------------------------ the banner */
const banner = document.createElement("div");
banner.id = "connection";
banner.setAttribute("role", "alert");
banner.hidden = true;
const words = document.createElement("p");
const again = document.createElement("button");
Object.assign(again, { type: "button", className: "btn small", textContent: "Try now" });
again.addEventListener("click", check);
banner.append(words, again);
document.body.prepend(banner);

let telling = 0;
/** Say what is the matter, or for a moment that all is well again. */
function show(isBack = false) {
  clearTimeout(telling);
  banner.hidden = !lost && !isBack;
  banner.classList.toggle("back", isBack);
  again.hidden = isBack;
  if (isBack) {
    words.textContent = "Connected again. This page is up to date.";
    telling = setTimeout(() => {
      banner.hidden = true;
    }, BACK_MS);
  } else if (lost) {
    const since = clock(heardAt / 1000, true);
    const title = document.createElement("strong");
    title.textContent = `No connection to the hub since ${since}.`;
    const rest = " What you see is from then, and nothing can be sent. Trying again by itself.";
    if (words.dataset.since !== since) words.replaceChildren(title, rest);
    words.dataset.since = since;
  }
  if (!lost) delete words.dataset.since;
}

/** Somebody tried to send something: point at the reason. */
export function point() {
  banner.classList.remove("pointed");
  void banner.offsetWidth; // so that the animation starts again
  banner.classList.add("pointed");
  banner.scrollIntoView({ block: "nearest" });
}

/* --------------------------------------------------- nothing is sent meanwhile */
function hold(event) {
  if (!lost) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  point();
}
addEventListener(
  "submit",
  (event) => {
    const method = event.submitter?.formMethod || event.target.method;
    if (method !== "dialog") hold(event);
  },
  true,
);
addEventListener("click", (event) => event.target.closest?.("[data-cut]") && hold(event), true);
document.addEventListener("htmx:beforeRequest", (event) => {
  if (lost) event.preventDefault();
});

/* ----------------------------------------------------------------- signs of it */
document.addEventListener("htmx:afterRequest", ({ detail }) => {
  if (detail.xhr.status) heard();
});
document.addEventListener("htmx:sendError", check);
document.addEventListener("visibilitychange", () => document.hidden || lost || check());
addEventListener("online", check);
setInterval(() => {
  if (!lost && !document.hidden && !asking && Date.now() - heardAt > QUIET_MS) check();
}, LOOK_MS);
