// What a finished action says: messages that came with the page, or in the header of an answer to htmx.
// They go by themselves, except mistakes, and not while somebody points at them.

const STAYS_MS = 8000;
const place = () => document.querySelector("#toasts"); // a boosted form brings another one

function leave(toast) {
  clearTimeout(toast.timer);
  toast.remove();
}

function stay(toast) {
  toast.addEventListener("click", ({ target }) => target.closest("button") && leave(toast));
  if (toast.matches(".error, .warning")) return;
  const wait = () => {
    clearTimeout(toast.timer);
    toast.timer = setTimeout(leave, STAYS_MS, toast);
  };
  const hold = () => clearTimeout(toast.timer);
  for (const kind of ["pointerenter", "focusin"]) toast.addEventListener(kind, hold);
  for (const kind of ["pointerleave", "focusout"]) toast.addEventListener(kind, wait);
  wait();
}

/** Show a message; `level` is one of Django's tags: success, info, warning, error. */
export function toast(text, level = "success") {
  const shown = document.createElement("div");
  shown.className = `toast notice ${level}`;
  const words = document.createElement("p");
  words.textContent = text;
  const close = document.createElement("button");
  Object.assign(close, { type: "button", className: "btn ghost small", textContent: "✕" });
  close.setAttribute("aria-label", "Close this message");
  shown.append(words, close);
  place().append(shown);
  stay(shown);
}

for (const shown of place().querySelectorAll(".toast")) stay(shown);
document.addEventListener("hub:messages", ({ detail }) => {
  for (const { text, level } of detail.messages) toast(text, level);
});
