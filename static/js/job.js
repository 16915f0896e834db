// The page of one job, updated by its stream of events: figures change where they stand, and what
// changes its shape is fetched again. Without a stream the same parts are polled.

import { bytes, figure, rate } from "./figures.js";

const TEXTS = {
  iteration: figure,
  total_iters: figure,
  left: (text) => text.charAt(0).toUpperCase() + text.slice(1),
  tokens_per_second: rate,
  peak_memory_bytes: bytes,
  train_loss: figure,
};
let { status, situation } = document.querySelector("#live").dataset;

function show(values) {
  for (const [name, text] of Object.entries(TEXTS)) {
    if (values[name] == null) continue;
    for (const place of document.querySelectorAll(`[data-live="${name}"]`))
      place.textContent = text(values[name]);
  }
}

const refresh = (selector) => window.htmx.trigger(document.querySelector(selector), "refresh");
let waiting = 0;
/** Not at once for each of several answers that come together. */
function refreshMeasured() {
  clearTimeout(waiting);
  waiting = setTimeout(() => refresh("#measured"), 400);
}

document.addEventListener("job:status", ({ detail }) => {
  if (detail.status === status && detail.situation === situation) return;
  ({ status, situation } = detail);
  refresh("#live");
});
document.addEventListener("job:progress", ({ detail }) => {
  show(detail);
  const left = document.querySelector('[data-live="left"]');
  if (!left !== !detail.left) refresh("#live");
  const bar = document.querySelector('progress[data-live="progress"]');
  if (bar) bar.value = 100 * detail.progress;
});
document.addEventListener("job:metrics", ({ detail }) => {
  show({ train_loss: detail.train_loss.findLast((value) => value != null) });
  if (detail.val_loss.some((value) => value != null)) {
    refreshMeasured();
    refresh("#live");
  }
});
document.addEventListener("job:sample", refreshMeasured);
document.addEventListener("job:rewind", refreshMeasured);
document.addEventListener("job:end", () => {
  refresh("#live");
  refreshMeasured();
});
