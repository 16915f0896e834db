// Charts: every [data-chart] draws the columns behind its data-url with uPlot, or those of several
// runs: each [data-curve] link in it, or in the element that its data-runs names. With data-every
// (seconds) they are read again until the answer says that they are over.

import { feedOf } from "./feed.js";
import { bytes, clock, figure, loss, percent, rate } from "./figures.js";

const uPlot = window.uPlot;

/** The colour a CSS variable stands for at this moment; light-dark() is resolved by the browser. */
function colour(name) {
  const probe = document.createElement("i");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
}

function faded(value, alpha) {
  return `color-mix(in srgb, ${value} ${alpha * 100}%, transparent)`;
}

/** A small chart of one measurement over the steps. */
function single(key, label, shade, format) {
  const lines = [{ key, label, colour: shade }];
  return { x: "iteration", height: 150, format, lines, empty: "Not measured yet." };
}

const KINDS = {
  curves: {
    x: "iteration",
    height: 320,
    format: loss,
    empty: "These versions have no recorded loss.",
    lines: [
      { key: "train_loss", label: "training", colour: "--series-1", fade: true },
      { key: "val_loss", label: "validation", colour: "--series-2", points: true },
    ],
  },
  loss: {
    x: "iteration",
    height: 280,
    format: loss,
    empty: "No loss measured yet.",
    lines: [
      { key: "train_loss", label: "Train", colour: "--series-1", fade: true },
      { key: "val_loss", label: "Validation", colour: "--series-2", points: true },
    ],
  },
  learning_rate: single("learning_rate", "Learning rate", "--series-3", figure),
  grad_norm: single("grad_norm", "Gradient norm", "--series-4", figure),
  tokens: single("tokens_per_second", "Tokens/s", "--series-7", rate),
  peak: single("peak_memory_bytes", "Peak memory", "--series-6", bytes),
  cpu: {
    x: "time",
    height: 150,
    time: true,
    format: percent,
    range: [0, 100],
    empty: "No samples yet. The sampler takes one every few seconds.",
    lines: [
      { key: "cpu", label: "Processor", colour: "--series-1", fill: true },
      { key: "gpu", label: "GPU", colour: "--series-3", optional: true },
    ],
  },
  memory: {
    x: "time",
    height: 150,
    time: true,
    format: bytes,
    empty: "No samples yet. The sampler takes one every few seconds.",
    lines: [
      { key: "memory", label: "Used", colour: "--series-1", fill: true },
      { key: "engine", label: "Engine", colour: "--series-3", optional: true },
      { key: "training", label: "Training", colour: "--series-2", optional: true },
    ],
  },
};

/** A moving average, so that the eye sees the trend through the noise of single batches. */
function smoothed(values) {
  const weight = 1 - 1 / Math.max(3, values.length / 40);
  let mean = null;
  let correction = 0;
  return values.map((value) => {
    if (value == null) return null;
    mean = mean === null ? value * (1 - weight) : mean * weight + value * (1 - weight);
    correction = correction * weight + (1 - weight);
    return mean / correction;
  });
}

const WIDTHS = new Map([
  [bytes, 62],
  [figure, 62],
]); // of the values beside the y axis, in pixels

/** The feeds that an element shows, by the label of each; one alone has no label. */
function runsOf(element) {
  const { url, every, runs } = element.dataset;
  if (url) return [{ label: "", feed: feedOf(url, { every }) }];
  const links = [
    ...(runs ? document.querySelector(runs) : element).querySelectorAll("[data-curve]"),
  ];
  return links.map((link) => ({
    label: links.length > 1 ? link.textContent.split(" · ")[0] : "",
    feed: feedOf(link.dataset.curve, link.dataset),
  }));
}

class Chart {
  constructor(element) {
    this.element = element;
    this.kind = KINDS[element.dataset.chart];
    this.plot = null;
    this.runs = runsOf(element);
    this.drawing = 0;
    for (const { feed } of this.runs) feed.listen(() => this.schedule());
    this.resizes = new ResizeObserver(() => this.fit());
    this.resizes.observe(element);
  }

  /** Once a frame, however many feeds have something new. */
  schedule() {
    this.drawing ||= requestAnimationFrame(() => {
      this.drawing = 0;
      this.draw();
    });
  }

  /** Lines that have at least one value; a raw and a smoothed one where the kind asks for it. */
  shown(columns) {
    const shown = [];
    for (const line of this.kind.lines) {
      const values = columns[line.key] ?? [];
      if (values.every((value) => value == null)) continue;
      if (line.fade && values.length > 40) {
        shown.push({ ...line, values, faint: true });
        shown.push({ ...line, label: `${line.label}, smoothed`, values: smoothed(values) });
      } else shown.push({ ...line, values: [...values], dots: values.length < 2 });
    }
    return shown;
  }

  /** The lines of several runs over the steps of all of them, a colour for each run. */
  overlaid(steps) {
    const place = new Map(steps.map((step, index) => [step, index]));
    return this.runs.flatMap(({ label, feed }, number) => {
      if (!feed.columns) return [];
      const { iteration } = feed.columns;
      return this.kind.lines.flatMap((line) => {
        const own = line.fade ? smoothed(feed.columns[line.key]) : feed.columns[line.key];
        if (own.every((value) => value == null)) return [];
        const values = new Array(steps.length).fill(null);
        iteration.forEach((step, index) => {
          values[place.get(step)] = own[index];
        });
        const what = this.kind.lines.length > 1 ? ` ${line.label.toLowerCase()}` : "";
        const look = { colour: `--series-${number + 1}`, dash: line.points ? [5, 4] : undefined };
        return [{ ...line, ...look, label: `${label}${what}`, values }];
      });
    });
  }

  draw() {
    const known = this.runs.map(({ feed }) => feed.columns).filter(Boolean);
    if (!known.length) {
      const failed = this.runs.some(({ feed }) => feed.failed);
      if (failed || !this.runs.length)
        this.say(failed ? "The chart data could not be loaded." : this.kind.empty);
      return;
    }
    const many = this.runs.length > 1;
    const x = many
      ? [...new Set(known.flatMap((columns) => columns[this.kind.x]))].sort((a, b) => a - b)
      : [...known[0][this.kind.x]];
    const lines = many ? this.overlaid(x) : this.shown(known[0]);
    if (!x.length || !lines.length) {
      this.say(this.kind.empty);
      return;
    }
    const data = [x, ...lines.map((line) => line.values)];
    const shape = lines.map((line) => line.label).join();
    this.describe(lines);
    if (this.plot && this.shape === shape) {
      this.plot.setData(data);
      return;
    }
    this.plot?.destroy();
    for (const old of this.element.querySelectorAll(".chart-empty, [data-curve]")) old.remove();
    this.shape = shape;
    this.plot = new uPlot(this.options(lines), data, this.element);
  }

  options(lines) {
    const { kind } = this;
    const axis = {
      stroke: colour("--muted"),
      grid: { stroke: colour("--line"), width: 1 },
      ticks: { show: false },
      font: `12px ${getComputedStyle(document.body).fontFamily}`,
    };
    return {
      width: Math.max(200, this.element.clientWidth),
      height: kind.height,
      legend: { live: true },
      cursor: { drag: { x: true, y: false }, points: { size: 6 }, sync: { key: kind.x } },
      scales: {
        x: { time: Boolean(kind.time) },
        y: { range: kind.range ?? ((_, low, high) => [Math.min(0, low), high * 1.08 || 1]) },
      },
      axes: [
        {
          ...axis,
          grid: { show: false },
          space: 70,
          size: 30,
          values: kind.time ? (_, ticks) => ticks.map((tick) => clock(tick)) : undefined,
        },
        {
          ...axis,
          size: WIDTHS.get(kind.format) ?? 50,
          values: (_, ticks) =>
            ticks.map((tick) => (kind.format === loss || tick === 0 ? tick : kind.format(tick))),
        },
      ],
      series: [
        {
          label: kind.time ? "Time" : "Step",
          value: kind.time
            ? (_, seconds) => (seconds == null ? "–" : clock(seconds, true))
            : undefined,
        },
        ...lines.map((line) => this.series(line)),
      ],
    };
  }

  series(line) {
    const stroke = colour(line.colour);
    return {
      label: line.label,
      stroke: line.faint ? faded(stroke, 0.3) : stroke,
      width: line.faint ? 1 : 2,
      fill: line.fill ? faded(stroke, 0.12) : undefined,
      dash: line.dash,
      spanGaps: !this.kind.time, // over steps that were not measured, not over time without a hub
      points: { show: Boolean(line.points || line.dots), size: 6, fill: stroke },
      value: (_, value) => this.kind.format(value),
    };
  }

  /** A text for those who cannot see the lines. */
  describe(lines) {
    const last = lines.map((line) => {
      const value = line.values.findLast((one) => one != null);
      return `${line.label} ${this.kind.format(value)}`;
    });
    this.element.setAttribute("role", "img");
    this.element.setAttribute("aria-label", `Chart. Last values: ${last.join(", ")}.`);
  }

  say(text) {
    this.plot?.destroy();
    this.plot = null;
    this.shape = "";
    const note = document.createElement("p");
    note.className = "chart-empty small";
    note.textContent = text;
    this.element.querySelector(".chart-empty")?.remove();
    this.element.append(note);
  }

  fit() {
    const width = Math.max(200, this.element.clientWidth);
    if (this.plot && this.plot.width !== width)
      this.plot.setSize({ width, height: this.kind.height });
  }

  repaint() {
    this.plot?.destroy();
    this.plot = null;
    this.shape = "";
    this.draw();
  }
}

let charts = [];
/** Draw those that htmx brought too, and forget those that it took away. */
function find() {
  charts = charts.filter((chart) => chart.element.isConnected);
  const known = new Set(charts.map((chart) => chart.element));
  for (const element of document.querySelectorAll("[data-chart]"))
    if (!known.has(element)) charts.push(new Chart(element));
}
find();
document.addEventListener("htmx:afterSettle", find);
function repaint() {
  for (const chart of charts) chart.repaint();
}
document.addEventListener("hub:theme", repaint);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
