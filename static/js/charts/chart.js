// One chart: a [data-chart] that draws with uPlot what its feeds have.

import { feedOf } from "../feed.js";
import { clock, whole } from "../figures.js";
import { choices, zoomOf, zoomTo } from "./choices.js";
import { KINDS } from "./kinds.js";
import { entriesOf } from "./lines.js";
import { marks } from "./marks.js";
import { linksOf } from "./runs.js";
import { savePicture, saveTable } from "./saving.js";
import { spoken, tooltip } from "./tooltip.js";

const uPlot = window.uPlot;
const FOLLOWED = new Set(["mousemove", "mouseleave"]); // of the charts of a page by one another
const STEPS = [...Array(10).keys()].flatMap((power) =>
  [1, 2, 5].map((digit) => digit * 10 ** power),
);

/** The colour a CSS variable stands for at this moment; light-dark() is resolved by the browser. */
function colour(name) {
  const probe = document.createElement("i");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
}

const faded = (value, alpha) => `color-mix(in srgb, ${value} ${alpha * 100}%, transparent)`;

function button(text, act) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = "btn small ghost";
  made.textContent = text;
  made.addEventListener("click", act);
  return made;
}

export class Chart {
  constructor(element) {
    this.element = element;
    this.kind = KINDS[element.dataset.chart];
    this.plot = null;
    this.entries = [];
    this.axis = [0, 0]; // all of it
    this.hidden = new Set(); // labels of lines that the reader took away
    this.runs = [];
    this.drawing = 0;
    this.listener = () => this.schedule();
    this.name = element.parentElement.querySelector("figcaption")?.textContent.trim() || "Loss";
    this.foot = document.createElement("div");
    this.foot.className = "chart-foot";
    this.read = document.createElement("span"); // the value where another chart has the cursor
    this.read.className = "num";
    this.said = document.createElement("p");
    this.said.className = "sr-only";
    this.said.setAttribute("aria-live", "polite");
    element.tabIndex = 0;
    element.setAttribute("role", "group");
    element.setAttribute("aria-roledescription", "chart");
    element.addEventListener("keydown", (event) => this.press(event));
    element.addEventListener("focusout", (event) => {
      if (event.target === element) this.leave();
    });
    this.resizes = new ResizeObserver(() => this.fit());
    this.resizes.observe(element);
    this.wire();
  }

  /** Listen to the runs that are chosen now; one alone has no label. */
  wire() {
    const { url, every } = this.element.dataset;
    const links = url ? [] : linksOf(this.element);
    const runs = url
      ? [{ label: "", feed: feedOf(url, { every }) }]
      : links.map((link) => ({
          label: links.length > 1 ? link.textContent.trim().split(" · ")[0] : "",
          feed: feedOf(link.dataset.curve, link.dataset),
        }));
    for (const { feed } of this.runs) feed.listeners.delete(this.listener);
    this.runs = runs.map((run, number) => ({ ...run, number }));
    for (const { feed } of this.runs) {
      feed.listen(this.listener);
      if (zoomOf(this.kind.x)) feed.zoom(zoomOf(this.kind.x));
    }
    this.schedule();
  }

  /** Once a frame, however many feeds have something new. */
  schedule() {
    this.drawing ||= requestAnimationFrame(() => {
      this.drawing = 0;
      this.draw();
    });
  }

  draw() {
    const zoom = zoomOf(this.kind.x);
    const known = this.runs
      .filter(({ feed }) => feed.columns)
      .map((run) => ({ ...run, columns: run.feed.shown(zoom) }));
    if (!known.length) {
      const failed = this.runs.some(({ feed }) => feed.failed);
      if (failed || !this.runs.length)
        this.say(failed ? "The chart data could not be loaded." : this.kind.empty);
      return;
    }
    const { x, entries } = entriesOf(known, this.kind, choices);
    if (!x.length || !entries.length) {
      this.say(this.kind.empty);
      return;
    }
    const data = [x];
    for (const entry of entries) {
      for (const bound of entry.bounds ?? []) data.push(bound);
      entry.at = data.push(entry.raw) - 1;
      if (entry.smooth) data.push(entry.smooth);
      entry.stroke = colour(entry.colour);
    }
    this.entries = entries;
    if (!zoom) this.axis = [x[0], x.at(-1)];
    this.describe();
    const shape = JSON.stringify([
      entries.map((entry) => [entry.label, entry.colour, !entry.smooth, !entry.bounds]),
      choices.log,
      x.length < 60,
    ]);
    if (this.plot && this.shape === shape) this.plot.setData(data);
    else {
      this.plot?.destroy();
      for (const old of this.element.querySelectorAll(".chart-empty, [data-curve]")) old.remove();
      this.shape = shape;
      [this.ground, this.muted] = [colour("--panel"), colour("--muted")];
      this.plot = new uPlot(this.options(x.length), data, this.element);
      this.element.append(this.foot, this.said);
    }
    this.tell();
  }

  options(rows) {
    const { kind } = this;
    const log = choices.log && kind.log;
    const axis = {
      stroke: this.muted,
      grid: { stroke: colour("--line"), width: 1 },
      ticks: { show: false },
      font: `12px ${getComputedStyle(document.body).fontFamily}`,
    };
    const timed = kind.x === "time";
    return {
      width: Math.max(200, this.element.clientWidth),
      height: kind.height,
      legend: { show: false },
      padding: [8, 34, 0, 0],
      cursor: {
        y: false,
        drag: { x: true, y: false, setScale: false },
        points: { size: 7 },
        bind: { dblclick: () => () => zoomTo(kind.x) },
        sync: {
          key: kind.x,
          scales: ["x", null],
          filters: { pub: (type) => FOLLOWED.has(type), sub: (type) => FOLLOWED.has(type) },
        },
      },
      scales: {
        x: { time: false, range: (_, low, high) => zoomOf(kind.x) ?? this.whole(low, high) },
        y: {
          distr: log ? 3 : 1,
          range: log ? (_, low, high) => uPlot.rangeLog(low, high, 10, false) : this.heights(),
        },
      },
      axes: [
        {
          ...axis,
          grid: { show: false },
          space: timed ? 56 : 80,
          size: 30,
          incrs: timed ? [60, 120, 300, 600, 900, 1800, 3600, 7200, 21_600] : STEPS,
          values: (_, ticks) => ticks.map((tick) => (timed ? clock(tick) : whole(tick))),
        },
        {
          ...axis,
          space: 34,
          size: (_, ticks) => this.sizeOf(ticks),
          values: (_, ticks) =>
            ticks.map((tick) => (tick == null ? "" : tick === 0 ? "0" : this.tick(tick))),
        },
      ],
      ...this.series(rows),
      plugins: [tooltip(this), ...(kind.marks ? [marks(this)] : [])],
      hooks: { setSelect: [(plot) => this.select(plot)] },
    };
  }

  /** A number beside the axis: short, without the zeros of a loss. */
  tick(value) {
    const text = this.kind.format(value);
    return text.includes("e")
      ? text
      : text.replace(/(\.\d*?)0+(?=$|\D)/, "$1").replace(/\.(?=$|\D)/, "");
  }

  sizeOf(ticks) {
    const longest = Math.max(0, ...(ticks ?? []).map((text) => text.length));
    return Math.max(36, 14 + longest * 7);
  }

  whole(low, high) {
    return low === high ? [low - 1, high + 1] : [low, high];
  }

  /** The usual least and most of the buckets in sight: a single outlier goes out of the picture. */
  usual(plot) {
    const xs = plot.data[0];
    const [min, max] = zoomOf(this.kind.x) ?? [xs[0], xs.at(-1)];
    const inSight = (_, row) => xs[row] >= min && xs[row] <= max;
    return this.entries.flatMap(({ bounds, label }) => {
      if (!bounds || this.hidden.has(label)) return [];
      return bounds.map((bound, side) => {
        const seen = bound.filter(inSight).filter((value) => value != null);
        seen.sort((a, b) => a - b);
        return seen[Math.floor((seen.length - 1) * (side ? 0.98 : 0.02))];
      });
    });
  }

  /** From zero, so that a change looks as large as it is; a part of the axis shows its own detail. */
  heights() {
    const { range, x } = this.kind;
    return (plot, least, most) => {
      if (least == null) return [0, 1];
      if (range && !zoomOf(x)) return range;
      const seen = [least, most, ...this.usual(plot)].filter((value) => value != null);
      const [low, high] = [Math.min(...seen), Math.max(...seen)];
      const room = (high - low) * 0.08 || Math.abs(high) * 0.08 || 1;
      return zoomOf(x) ? [low - room, high + room] : [Math.min(0, low), high + room];
    };
  }

  series(rows) {
    const series = [{}];
    const bands = [];
    const many = this.runs.length > 1;
    for (const entry of this.entries) {
      const { label, stroke, dash } = entry;
      const show = !this.hidden.has(label);
      const plain = { label, show, points: { show: false } };
      if (entry.bounds) {
        bands.push({ series: [series.length + 1, series.length], fill: faded(stroke, 0.16) });
        series.push({ ...plain, auto: false }, { ...plain, auto: false });
      }
      const dots = entry.points ? rows < 60 || entry.sparse : rows < 2;
      const raw = {
        ...plain,
        stroke: entry.smooth ? faded(stroke, many ? 0.2 : 0.35) : stroke,
        width: entry.smooth ? 1 : 2,
        fill: entry.fill ? faded(stroke, 0.12) : undefined,
        dash,
        points: { show: dots && !many ? this.fewOnly : false, size: 6, fill: stroke, stroke },
      };
      series.push(raw);
      if (entry.smooth) series.push({ ...plain, stroke, width: 2, dash });
    }
    return { series, bands };
  }

  /** Points only where they can be told apart. */
  fewOnly = (plot, at, first, last) => {
    const shown = plot.data[at].slice(first, last + 1).filter((value) => value != null).length;
    return shown * 8 < plot.bbox.width / devicePixelRatio;
  };

  select(plot) {
    const { left, width } = plot.select;
    if (width < 5) return;
    const range = [left, left + width].map((at) => plot.posToVal(at, "x"));
    plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    if (range[1] > range[0]) zoomTo(this.kind.x, range);
  }

  /** Where the cursor is, in words. */
  place(x) {
    return this.kind.x === "time" ? clock(x, true) : `Step ${whole(x)}`;
  }

  /** The best validation of each run, with its colour. */
  bests(plot) {
    return this.runs.flatMap(({ feed, label, number }) => {
      const best = feed.marks?.best;
      if (!best) return [];
      const what = label ? `${label} validation` : "Validation";
      const stroke = colour(label ? `--series-${number + 1}` : "--series-2");
      return [{ best, label, stroke, show: !this.hidden.has(what) && Boolean(plot) }];
    });
  }

  press(event) {
    const { plot } = this;
    if (!plot || event.target !== this.element || event.ctrlKey || event.metaKey) return;
    const xs = plot.data[0];
    const [first, last] = ["min", "max"].map((end) => plot.valToIdx(plot.scales.x[end]));
    const at = plot.cursor.idx;
    const stride = event.shiftKey ? 10 : 1;
    const goal = {
      ArrowRight: at == null ? first : at + stride,
      ArrowLeft: at == null ? last : at - stride,
      Home: first,
      End: last,
    }[event.key];
    if (goal !== undefined) {
      const x = xs[Math.min(last, Math.max(first, goal))];
      const left = plot.valToPos(x, "x");
      plot.setCursor({ left, top: plot.over.clientHeight / 3 }, true, true);
      this.said.textContent = spoken(plot, this);
    } else if (event.key === "Escape") {
      zoomTo(this.kind.x);
      this.leave();
    } else if (event.key === "+" || event.key === "-") this.zoom(event.key === "+" ? 0.5 : 2);
    else return;
    event.preventDefault();
  }

  /** Show `share` of what is shown, around the cursor; more than there is resets it. */
  zoom(share) {
    const { min, max } = this.plot.scales.x;
    const xs = this.plot.data[0];
    const at = this.plot.cursor.idx;
    const middle = at == null ? (min + max) / 2 : xs[at];
    const half = ((max - min) / 2) * share;
    const range = [middle - half, middle + half];
    const all = range[0] <= this.axis[0] && range[1] >= this.axis[1];
    if (share > 1 && (all || !zoomOf(this.kind.x))) zoomTo(this.kind.x);
    else zoomTo(this.kind.x, range);
  }

  /** Whether the cursor is this chart's own, and not that of another one of the page. */
  get isPointed() {
    return this.plot.over.matches(":hover") || document.activeElement === this.element;
  }

  leave() {
    this.plot?.setCursor({ left: -10, top: -10 }, true, true);
    this.said.textContent = "";
  }

  /** The lines that can be taken away, the marks, and what can be done. */
  tell() {
    const zoomed = Boolean(zoomOf(this.kind.x));
    const notes = this.kind.marks ? this.notes() : [];
    const shape = `${this.shape}${notes}${zoomed}${[...this.hidden]}`;
    if (this.told === shape && this.foot.isConnected) return;
    this.told = shape;
    const legend = document.createElement("div");
    legend.className = "chart-legend";
    if (this.kind.legend && this.entries.length > 1) {
      for (const entry of this.entries) legend.append(this.toggle(entry));
    }
    for (const note of notes) {
      const text = document.createElement("span");
      text.textContent = note;
      legend.append(text);
    }
    if (!this.kind.legend) legend.append(this.read);
    const acts = document.createElement("div");
    acts.className = "chart-acts";
    if (zoomed) {
      const reset = button("Reset zoom", () => {
        zoomTo(this.kind.x);
        this.element.focus();
      });
      reset.classList.remove("ghost");
      acts.append(reset);
    }
    for (const [text, share] of [
      ["Zoom in", 0.5],
      ["Zoom out", 2],
    ]) {
      const made = button(text, () => this.zoom(share));
      made.classList.add("touch-only");
      acts.append(made);
    }
    for (const [text, act] of [
      ["PNG", savePicture],
      ["CSV", saveTable],
    ]) {
      const made = button(text, () => act(this));
      made.setAttribute("aria-label", `Download ${this.name} as ${text}`);
      acts.append(made);
    }
    this.foot.replaceChildren(legend, acts);
  }

  toggle(entry) {
    const shown = !this.hidden.has(entry.label);
    const made = button(entry.label, () => {
      if (shown) this.hidden.add(entry.label);
      else this.hidden.delete(entry.label);
      this.repaint();
      this.foot.querySelectorAll("[aria-pressed]")[this.entries.indexOf(entry)]?.focus();
    });
    made.setAttribute("aria-pressed", String(shown));
    const swatch = document.createElement("i");
    swatch.style.background = entry.stroke;
    made.prepend(swatch);
    return made;
  }

  notes() {
    const [{ best } = {}] = this.runs.length === 1 ? this.bests() : [];
    const saved = this.runs[0]?.feed.marks?.checkpoints;
    return [
      best
        ? `○ best validation ${this.kind.format(best.val_loss)}, step ${whole(best.iteration)}`
        : "",
      saved?.last ? "▲ checkpoint" : "",
    ].filter(Boolean);
  }

  /** A text for those who cannot see the lines. */
  describe() {
    const last = this.entries.map((entry) => {
      const value = entry.raw.findLast((one) => one != null);
      return `${entry.label} ${this.kind.format(value)}`;
    });
    this.element.setAttribute(
      "aria-label",
      `${this.name}. Last values: ${last.join(", ")}. Arrow keys move along it.`,
    );
  }

  say(text) {
    this.plot?.destroy();
    this.plot = null;
    this.shape = "";
    this.foot.remove();
    const note = document.createElement("p");
    note.className = "chart-empty small";
    note.textContent = text;
    this.element.querySelector(".chart-empty")?.remove();
    this.element.append(note);
    this.element.setAttribute("aria-label", `${this.name}. ${text}`);
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
    this.told = "";
    this.draw();
  }

  drop() {
    this.resizes.disconnect();
    for (const { feed } of this.runs) feed.listeners.delete(this.listener);
    this.plot?.destroy();
  }
}
