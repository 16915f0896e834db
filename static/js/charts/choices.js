// What a reader chose for the charts: smoothing and a logarithmic axis, kept in this browser, and the
// part of each axis that all charts of the page are zoomed to.

const KEY = "charts";
const DEFAULTS = { smoothing: 0.6, log: false };

function read() {
  try {
    return { ...DEFAULTS, ...JSON.parse(localStorage.getItem(KEY) ?? "{}") };
  } catch {
    return { ...DEFAULTS };
  }
}

export const choices = read();
const zooms = new Map();

/** The part of the axis `x` that is shown: [least, most], or undefined for all of it. */
export const zoomOf = (x) => zooms.get(x);

const tell = (name, detail) =>
  document.dispatchEvent(new CustomEvent(`charts:${name}`, { detail }));

export function zoomTo(x, range) {
  if (range) zooms.set(x, range);
  else zooms.delete(x);
  tell("zoom", { x, range });
}

function choose(change) {
  Object.assign(choices, change);
  try {
    localStorage.setItem(KEY, JSON.stringify(choices));
  } catch {
    // A browser that keeps nothing still draws.
  }
  show();
  tell("choice");
}

/** Every tool bar of the page shows what is chosen; without JavaScript there is none. */
export function show() {
  for (const bar of document.querySelectorAll("[data-chart-tools]")) {
    bar.hidden = false;
    bar.querySelector("[data-smoothing]").value = choices.smoothing;
    bar.querySelector("[data-smoothed]").textContent = choices.smoothing.toFixed(2);
    bar.querySelector("[data-log]").checked = choices.log;
  }
}

document.addEventListener("input", ({ target }) => {
  if (target.matches("[data-smoothing]")) choose({ smoothing: Number(target.value) });
});
document.addEventListener("change", ({ target }) => {
  if (target.matches("[data-log]")) choose({ log: target.checked });
});
