// Charts: every [data-chart] reads columns from its data-url and draws them with uPlot.
// With data-every (seconds) it reads again until the answer says that it is over.

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

const percent = (value) => (value == null ? "–" : `${value.toFixed(0)} %`);
const loss = (value) => (value == null ? "–" : value.toPrecision(4));
function bytes(value) {
  if (value == null) return "–";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let step = 0;
  while (value >= 999.5 && step < 4) {
    value /= 1000;
    step += 1;
  }
  return `${Number(value.toPrecision(3))} ${units[step]}`;
}

function clock(seconds, fine = false) {
  const moment = new Date(seconds * 1000);
  const parts = [moment.getHours(), moment.getMinutes(), ...(fine ? [moment.getSeconds()] : [])];
  return parts.map((part) => String(part).padStart(2, "0")).join(":");
}

const KINDS = {
  curves: {
    x: "iteration",
    height: 320,
    time: false,
    format: loss,
    empty: "No loss is known of these versions.",
    lines: [],
  },
  loss: {
    x: "iteration",
    height: 260,
    time: false,
    format: loss,
    empty: "No loss has been measured yet.",
    lines: [
      { key: "train_loss", label: "Train", colour: "--series-1", fade: true },
      { key: "val_loss", label: "Validation", colour: "--series-2", points: true },
    ],
  },
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

class Chart {
  constructor(element) {
    this.element = element;
    this.kind = KINDS[element.dataset.chart];
    this.columns = null;
    this.plot = null;
    this.every = Number(element.dataset.every) * 1000;
    this.resizes = new ResizeObserver(() => this.fit());
    this.resizes.observe(element);
    this.read();
  }

  async read() {
    if (!this.element.isConnected) return;
    let over = false;
    if (!document.hidden || !this.columns) {
      try {
        over = await this.fetch();
      } catch {
        if (!this.columns) this.say("The chart's data could not be read.");
      }
    }
    if (this.every && !over) setTimeout(() => this.read(), this.every);
  }

  async fetch() {
    const url = new URL(this.element.dataset.url, location.href);
    const growing = this.kind.x === "iteration";
    const known = this.columns?.iteration?.at(-1);
    if (growing && known !== undefined) url.searchParams.set("after", known);
    const response = await fetch(url, { headers: { Accept: "application/json" } });
    if (!response.ok) throw new Error(response.statusText);
    const news = await response.json();
    if (growing && known !== undefined) this.append(news);
    else this.columns = news;
    this.draw();
    return news.over === true;
  }

  append(news) {
    for (const key of ["iteration", ...this.kind.lines.map((line) => line.key)]) {
      this.columns[key].push(...news[key]);
    }
  }

  /** Lines that have at least one value; a raw and a smoothed one where the kind asks for it. */
  shown() {
    const shown = [];
    for (const line of this.kind.lines) {
      const values = this.columns[line.key];
      if (line.optional && values.every((value) => value == null)) continue;
      if (line.fade && values.length > 40) {
        shown.push({ ...line, label: line.label, values, faint: true });
        shown.push({ ...line, label: "Train, smoothed", values: smoothed(values) });
      } else shown.push({ ...line, values, dots: values.length < 2 });
    }
    return shown;
  }

  draw() {
    const x = this.columns[this.kind.x];
    if (!x.length) return this.say(this.kind.empty);
    const lines = this.shown();
    const data = [x, ...lines.map((line) => line.values)];
    const shape = lines.map((line) => line.label).join();
    if (this.plot && this.shape === shape) return this.plot.setData(data);
    this.plot?.destroy();
    this.element.replaceChildren();
    this.shape = shape;
    this.plot = new uPlot(this.options(lines), data, this.element);
    this.describe(lines);
    return undefined;
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
      cursor: { drag: { x: true, y: false }, points: { size: 6 } },
      scales: { x: { time: kind.time }, y: { range: kind.range ?? ((_, low, high) => [Math.min(0, low), high * 1.08 || 1]) } },
      axes: [
        { ...axis, grid: { show: false }, space: 70, size: 30, values: kind.time ? (_, ticks) => ticks.map((tick) => clock(tick)) : undefined },
        { ...axis, size: kind.format === bytes ? 62 : 50, values: (_, ticks) => ticks.map((tick) => (kind.format === loss ? tick : kind.format(tick))) },
      ],
      series: [
        { label: kind.time ? "Time" : "Step", value: kind.time ? (_, seconds) => (seconds == null ? "–" : clock(seconds, true)) : undefined },
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
      spanGaps: true,
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
    this.element.replaceChildren(note);
  }

  fit() {
    const width = Math.max(200, this.element.clientWidth);
    if (this.plot && this.plot.width !== width) this.plot.setSize({ width, height: this.kind.height });
  }

  repaint() {
    this.plot?.destroy();
    this.plot = null;
    this.shape = "";
    if (this.columns) this.draw();
  }
}

/** Loss curves of several jobs in one picture; each [data-curve] link inside names one of them. */
class Curves extends Chart {
  async fetch() {
    this.sources ??= [...this.element.querySelectorAll("[data-curve]")].map((link) => ({
      url: link.dataset.curve,
      label: link.textContent,
    }));
    const curves = await Promise.all(this.sources.map(({ url }) => this.curve(url)));
    const steps = [...new Set(curves.flatMap((curve) => curve.iteration))].sort((a, b) => a - b);
    const place = new Map(steps.map((step, index) => [step, index]));
    this.columns = { iteration: steps };
    const lines = [];
    curves.forEach((curve, number) => {
      const shade = `--series-${number + 1}`;
      const train = smoothed(curve.train_loss);
      const { label } = this.sources[number];
      const add = (key, values, look) => {
        const column = new Array(steps.length).fill(null);
        curve.iteration.forEach((step, index) => {
          column[place.get(step)] = values[index];
        });
        this.columns[key] = column;
        lines.push({ key, colour: shade, optional: true, ...look });
      };
      add(`train-${number}`, train, { label: `${label} training` });
      add(`val-${number}`, curve.val_loss, { label: `${label} validation`, points: true, dash: [5, 4] });
    });
    this.kind = { ...this.kind, lines };
    this.draw();
    return true;
  }

  async curve(url) {
    const response = await fetch(url, { headers: { Accept: "application/json" } });
    if (!response.ok) throw new Error(response.statusText);
    return response.json();
  }
}

const charts = [...document.querySelectorAll("[data-chart]")].map((element) =>
  element.dataset.chart === "curves" ? new Curves(element) : new Chart(element),
);
const repaint = () => charts.forEach((chart) => chart.repaint());
document.addEventListener("hub:theme", repaint);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
