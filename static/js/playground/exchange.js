// One question and its answer in one column: how it comes in, how it is shown, what is kept of it.

import { isJson, looksLikeJson, showCalls, showJson } from "./json.js";
import * as markdown from "./markdown.js";
import * as tokens from "./tokens.js";

const part = document.querySelector("#exchange-part");
const FINISHED = {
  stop: "finished",
  length: "stopped at maximum length",
  tool_calls: "calls tools",
};
const LABELS = 3; // of a classification, whose probabilities are shown
let byToken = false; // whether answers are shown token by token

export const showsTokens = () => byToken;
export function setTokenView(on) {
  byToken = on;
}

export class Exchange {
  /** `kept` is what `data` gave once. */
  constructor(user, kept = null) {
    this.element = part.content.cloneNode(true).querySelector(".exchange");
    [this.question, this.answerElement] = this.element.querySelectorAll(".msg");
    this.label = this.answerElement.querySelector(".role");
    this.body = this.answerElement.querySelector(".text");
    this.thoughtsElement = this.answerElement.querySelector(".thoughts");
    this.callsElement = this.answerElement.querySelector(".calls");
    this.branches = null; // of the conversation that begin here, once there are several
    this.ask(user);
    this.clear();
    if (kept) this.restore(kept);
  }

  ask(user) {
    this.user = user;
    this.question.querySelector(".text").textContent = user;
  }

  clear() {
    clearTimeout(this.drawing);
    this.drawing = 0;
    this.took = 0;
    Object.assign(this, {
      answer: "",
      thoughts: "",
      tool_calls: [],
      request_id: "",
      sent: null, // the messages it was asked with
      tokens: [],
      labels: [],
      context: 0,
      figures: {},
      finish_reason: "",
      seed: null,
      answered_by: "",
      state: "",
    });
    this.tell("");
    this.draw();
    this.showFigures();
  }

  restore({ user, at: _at, others: _others, ...kept }) {
    this.ask(user);
    Object.assign(this, kept, { state: "done" });
    this.label.textContent = this.answered_by;
    this.draw();
    this.showFigures();
  }

  get wasAnswered() {
    return (
      this.answer !== "" ||
      this.thoughts !== "" ||
      this.tool_calls.length > 0 ||
      this.state === "done"
    );
  }

  /** What is kept of it, or null when nothing came. */
  data() {
    if (!this.wasAnswered) return null;
    const { user, answer, thoughts, tool_calls, request_id } = this;
    const { answered_by, finish_reason, seed, figures } = this;
    return {
      ...{ user, answer, thoughts, tool_calls, request_id },
      ...{ answered_by, finish_reason, seed, figures },
    };
  }

  /** It was asked just now, of `model`. */
  begin(model, seed, sent) {
    this.clear();
    Object.assign(this, { seed, state: "asked", sent, asked: performance.now() });
    this.label.textContent = model;
    this.answerElement.classList.add("streaming");
  }

  /** An event of its generation; whether it was the last one. */
  take(event) {
    if (event.event === "started") {
      this.state = "started";
      this.answered_by = event.answered_by;
      this.request_id = event.request_id;
      this.label.textContent = event.answered_by;
      this.figures.prompt_tokens = event.prompt_tokens;
      this.context = event.context_length;
    } else if (event.event === "delta") {
      this.figures.first_token_ms ??= Math.round(performance.now() - this.asked);
      this.answer += event.text;
      this.thoughts += event.thoughts ?? "";
      for (const { number, name, arguments: more } of event.calls ?? []) {
        this.tool_calls[number] ??= { name: "", arguments: "" };
        this.tool_calls[number].name += name;
        this.tool_calls[number].arguments += more;
      }
      if (event.logprobs) this.tokens.push(...event.logprobs);
      this.drawSoon();
    } else return this.end(event);
    return false;
  }

  end(event) {
    if (event.event === "done") {
      const { prompt_tokens, cached_tokens, completion_tokens, timings } = event;
      Object.assign(this.figures, {
        prompt_tokens,
        cached_tokens,
        completion_tokens,
        tokens_per_second: timings.tokens_per_second,
      });
      this.figures.first_token_ms ??= Math.round(timings.first_token_ms);
      this.finish_reason = event.finish_reason;
      this.tool_calls = event.tool_calls;
      this.labels = event.labels;
      this.state = "done";
    } else {
      this.state = event.event === "stopped" ? "stopped" : "failed";
      if (this.state === "stopped") this.finish_reason = "stopped";
      this.tool_calls = []; // half of a call is none
      if (event.error) this.tell(event.error.message);
    }
    this.answerElement.classList.remove("streaming");
    this.draw();
    this.showFigures();
    return true;
  }

  tell(problem) {
    const place = this.answerElement.querySelector(".error");
    place.textContent = problem;
    place.hidden = !problem;
    this.answerElement.classList.toggle("failed", problem !== "");
  }

  /* ----------------------------------------------------------------- drawing */
  /** At most some times a second, and the less often the longer it takes. */
  drawSoon() {
    this.drawing ||= setTimeout(() => this.draw(), Math.max(40, 8 * this.took));
  }

  draw() {
    clearTimeout(this.drawing);
    this.drawing = 0;
    const began = performance.now();
    this.drawThoughts();
    if (byToken && this.tokens.length) {
      tokens.show(this.body, this.tokens);
    } else {
      tokens.leave(this.body);
      const writing = this.state === "asked" || this.state === "started";
      if (writing ? looksLikeJson(this.answer) : isJson(this.answer))
        showJson(this.body, this.answer);
      else markdown.show(this.body, this.answer);
    }
    showCalls(this.callsElement, this.tool_calls);
    this.took = performance.now() - began;
    this.drawn?.();
  }

  /** Open while the model thinks, folded from its first word on. */
  drawThoughts() {
    const { thoughtsElement: place, answer, thoughts } = this;
    const thinking = this.state === "started" && answer === "";
    if (thoughts && place.hidden) place.open = thinking;
    if (place.open && place.dataset.thinking && !thinking) place.open = false;
    place.dataset.thinking = thinking ? "yes" : "";
    place.hidden = !thoughts;
    place.querySelector("summary").textContent = thinking ? "Thinking…" : "Thoughts";
    place.querySelector(".inner").textContent = thoughts;
  }

  showFigures() {
    const place = this.answerElement.querySelector(".timings");
    place.textContent = summary(this, byToken && !this.tokens.length && this.state === "done");
    place.hidden = !place.textContent;
    place.title =
      "First token as measured by this browser; tokens/s is the engine's decoding speed";
    const over = this.state === "done" || this.state === "stopped";
    const link = this.answerElement.querySelector(".request");
    link.hidden = !(over && this.request_id);
    if (!link.hidden) link.href = `/requests/${this.request_id}/`;
    this.showFeedback?.();
  }

  /** After the token view was switched. */
  redraw() {
    this.draw();
    if (this.state !== "asked" && this.state !== "started") this.showFigures();
  }
}

function summary({ figures, finish_reason, labels, seed, state, context }, lacksTokens) {
  const {
    first_token_ms: first,
    tokens_per_second: rate,
    prompt_tokens: read,
    cached_tokens: cached,
    completion_tokens: written,
  } = figures;
  const parts = [];
  if (!["done", "stopped"].includes(state)) return "";
  for (const [label, share] of labels.slice(0, LABELS))
    parts.push(`${label} ${tokens.percent(Math.log(share))}`);
  if (finish_reason === "stopped") parts.push("stopped");
  if (first != null)
    parts.push(
      `first token ${first < 10_000 ? `${Math.round(first)} ms` : `${(first / 1000).toFixed(1)} s`}`,
    );
  if (rate != null) parts.push(`${rate < 100 ? rate.toFixed(1) : Math.round(rate)} tokens/s`);
  if (written != null) parts.push(`${written} token${written === 1 ? "" : "s"}`);
  if (context && read != null)
    parts.push(`${read + (written ?? 0)} of ${context.toLocaleString("en")} in context`);
  if (cached) parts.push(`${cached} of ${read} prompt tokens from cache`);
  if (seed != null) parts.push(`seed ${seed}`);
  if (FINISHED[finish_reason]) parts.push(FINISHED[finish_reason]);
  if (lacksTokens) parts.push("regenerate to see its tokens");
  return parts.join(" · ");
}
