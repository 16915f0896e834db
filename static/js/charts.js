// Charts: every [data-chart] draws the columns behind its data-url with uPlot, or those of several
// runs: each [data-curve] link in it, or in the element that its data-runs names. With data-every
// (seconds) they are read again until the answer says that they are over.

import { Chart } from "./charts/chart.js";
import { show } from "./charts/choices.js";

let charts = [];

/** Draw those that htmx brought too, and forget those that it took away. */
function find() {
  for (const chart of charts) if (!chart.element.isConnected) chart.drop();
  charts = charts.filter((chart) => chart.element.isConnected);
  const known = new Set(charts.map((chart) => chart.element));
  for (const element of document.querySelectorAll("[data-chart]"))
    if (!known.has(element)) charts.push(new Chart(element));
  show();
}

function all(act) {
  for (const chart of charts) act(chart);
}

find();
document.addEventListener("htmx:afterSettle", find);
const repaint = () => all((chart) => chart.repaint());
document.addEventListener("hub:theme", repaint);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
document.addEventListener("charts:choice", () => all((chart) => chart.schedule()));
document.addEventListener("charts:runs", () => all((chart) => chart.wire()));
document.addEventListener("charts:zoom", ({ detail: { x, range } }) => {
  const zoomed = charts.filter((chart) => chart.kind.x === x);
  const feeds = new Set(zoomed.flatMap((chart) => chart.runs.map((run) => run.feed)));
  for (const feed of feeds) feed.zoom(range);
  for (const chart of zoomed) chart.schedule();
});
