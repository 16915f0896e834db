// Measurements as columns, read once by all charts that show them, and kept up to date: by
// server-sent events where there are any, else by asking again. While the hub is gone nothing is asked
// here: connection.js notices when it is back.

import { check, connected, heard, isLost } from "./connection.js";

const RECONNECT_MS = 1000;
const feeds = new Map();

/** The one feed of a URL. `every`: seconds between questions; `events`: address of its stream. */
export function feedOf(url, { every = 0, events = "" } = {}) {
  if (!feeds.has(url)) feeds.set(url, new Feed(url, Number(every) * 1000, events));
  return feeds.get(url);
}

class Feed {
  constructor(url, every, events) {
    this.url = new URL(url, location.href);
    this.every = every;
    this.events = events;
    this.columns = null;
    this.detail = null; // columns of a part of the axis
    this.marks = null;
    this.thinned = false;
    this.failed = false;
    this.cursor = "";
    this.listeners = new Set();
    this.start();
  }

  listen(listener) {
    this.listeners.add(listener);
    if (this.columns || this.failed) listener();
  }

  tell() {
    for (const listener of this.listeners) listener();
  }

  async start() {
    const over = await this.read();
    if (over) return;
    if (this.events) this.stream();
    else this.poll();
  }

  /** Ask for what is new; whether there will be no more. */
  async read() {
    try {
      const url = new URL(this.url);
      const known = this.columns?.iteration?.at(-1);
      if (known !== undefined) url.searchParams.set("after", known);
      const response = await fetch(url, { headers: { Accept: "application/json" } });
      heard();
      if (!response.ok) throw new Error(response.statusText);
      const { over = false, best, checkpoints, thinned, ...columns } = await response.json();
      this.marks = { best, checkpoints };
      this.thinned = known === undefined ? thinned : this.thinned || thinned;
      if (known === undefined) this.columns = columns;
      else this.append(columns);
      this.failed = false;
      this.tell();
      return over;
    } catch (error) {
      if (error instanceof TypeError) await check(); // no answer at all
      this.failed = !isLost();
      this.tell();
      return false;
    }
  }

  /** Ask for the finer part of a thinned range, or go back to the whole. */
  async zoom(range) {
    this.asked?.abort();
    this.asked = null;
    if (!range || !this.thinned) {
      if (this.detail) {
        this.detail = null;
        this.tell();
      }
      return;
    }
    const margin = Math.ceil((range[1] - range[0]) / 50);
    const url = new URL(this.url);
    url.searchParams.set("from", Math.max(0, Math.floor(range[0]) - margin));
    url.searchParams.set("to", Math.ceil(range[1]) + margin);
    this.asked = new AbortController();
    try {
      const { signal } = this.asked;
      const response = await fetch(url, { headers: { Accept: "application/json" }, signal });
      heard();
      if (!response.ok) return; // the coarse part stays
      const { thinned, over, best, checkpoints, ...columns } = await response.json();
      this.detail = columns;
      this.tell();
    } catch (error) {
      if (error instanceof TypeError) await check(); // no answer at all
    }
  }

  /** What a chart shows of `range`; the coarse part until the finer one is there. */
  shown(range) {
    return (range && this.detail) || this.columns;
  }

  poll() {
    if (!this.every) return;
    setTimeout(async () => {
      await connected();
      if (document.hidden || !(await this.read())) this.poll();
    }, this.every);
  }

  /** Add rows; one of an iteration that is there already takes its place. */
  append(news) {
    const { iteration } = this.columns;
    news.iteration.forEach((step, row) => {
      while (iteration.length && iteration.at(-1) > step) this.drop();
      const place = iteration.at(-1) === step ? iteration.length - 1 : iteration.length;
      for (const [name, column] of this.named())
        column[place] = column === this.columns[name] ? (news[name]?.[row] ?? null) : null;
    });
  }

  drop() {
    for (const [, column] of this.named()) column.pop();
  }

  /** Every column with its name, also the least and most of those that were thinned. */
  named() {
    const { low = {}, high = {}, ...columns } = this.columns;
    return [columns, low, high].flatMap(Object.entries);
  }

  async retry() {
    await connected();
    return this.read();
  }

  /** A browser keeps few connections to one host: a hidden tab gives its own back. */
  stream() {
    if (document.hidden || !this.columns) {
      const again = () => this.stream();
      if (document.hidden) document.addEventListener("visibilitychange", again, { once: true });
      else setTimeout(async () => ((await this.retry()) ? undefined : again()), 2000);
      return;
    }
    const url = new URL(this.events, location.href);
    url.searchParams.set("after", this.cursor || String(this.columns.iteration.at(-1) ?? ""));
    const source = new EventSource(url);
    const stop = () => {
      source.close();
      document.removeEventListener("visibilitychange", hide);
      document.removeEventListener("hub:lost", again);
      delete document.body.dataset.streaming;
    };
    const hide = () => {
      stop();
      this.stream();
    };
    document.addEventListener("visibilitychange", hide);
    // Not left to EventSource, which asks again every two seconds for as long as the page is open.
    const again = async () => {
      stop();
      await connected();
      if (!(await this.read())) setTimeout(() => this.stream(), RECONNECT_MS);
    };
    document.addEventListener("hub:lost", again);
    const on = (name, act) =>
      source.addEventListener(name, (event) => {
        heard();
        this.cursor = event.lastEventId || this.cursor;
        const detail = JSON.parse(event.data);
        act?.(detail);
        document.dispatchEvent(new CustomEvent(`job:${name}`, { detail }));
      });
    on("metrics", (rows) => {
      this.append(rows);
      this.tell();
    });
    on("rewind", ({ iteration }) => {
      while (this.columns.iteration.at(-1) > iteration) this.drop();
      this.tell();
    });
    on("status");
    on("progress");
    on("sample");
    on("end", stop);
    source.addEventListener("open", () => {
      document.body.dataset.streaming = "";
    });
    source.addEventListener("error", () => {
      if (source.readyState !== EventSource.CLOSED) {
        stop();
        check().then(again);
        return;
      }
      stop(); // refused: there are too many streams
      this.every ||= 3000;
      this.poll();
    });
  }
}
