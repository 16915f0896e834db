// What a person says of an answer: thumbs, and what it should have been. Kept on the server at once.

import { call } from "./api.js";

const said = new Map(); // request id → {rating, ideal}

/** What the server knows. */
export function setFeedback(all) {
  for (const [id, one] of Object.entries(all)) said.set(id, one);
}

/** The row of buttons below an answer. */
export class Feedback {
  /** `asked()` gives the messages and tools that were sent, as far as they are known. */
  constructor(exchange, asked) {
    this.exchange = exchange;
    this.asked = asked;
    this.row = exchange.element.querySelector(".after");
    this.form = exchange.element.querySelector(".ideal");
    this.better = exchange.element.querySelector(".better");
    this.status = exchange.element.querySelector(".said");
    exchange.showFeedback = () => this.show();
    for (const rating of ["good", "bad"])
      this.button(rating).addEventListener("click", () => this.rate(rating));
    this.button("ideal").addEventListener("click", () => this.open(this.form.hidden));
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.keepIdeal(this.field.value);
    });
    this.form.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      this.open(false);
      this.button("ideal").focus();
    });
    const [, cancel, remove] = this.form.querySelectorAll("button");
    cancel.addEventListener("click", () => {
      this.open(false);
      this.button("ideal").focus();
    });
    remove.addEventListener("click", () => this.keepIdeal(""));
    this.show();
  }

  get field() {
    return this.form.querySelector("textarea");
  }

  get now() {
    return said.get(this.exchange.request_id) ?? { rating: "", ideal: "" };
  }

  button(what) {
    return this.row.querySelector(`[data-say=${what}]`);
  }

  show() {
    const { exchange, now } = this;
    const over = exchange.state === "done" || exchange.state === "stopped";
    this.row.hidden = !over;
    for (const what of ["good", "bad", "ideal"]) this.button(what).hidden = !exchange.request_id;
    for (const rating of ["good", "bad"])
      this.button(rating).setAttribute("aria-pressed", String(now.rating === rating));
    this.better.hidden = !now.ideal || !over;
    this.better.querySelector(".inner").textContent = now.ideal;
    if (!over) this.open(false);
  }

  open(on) {
    this.form.hidden = !on;
    this.button("ideal").setAttribute("aria-expanded", String(on));
    if (!on) return;
    this.field.value = this.now.ideal || this.exchange.answer;
    this.form.querySelectorAll("button")[2].hidden = !this.now.ideal;
    this.field.focus();
    this.form.scrollIntoView({ block: "nearest" }); // with its buttons
  }

  rate(rating) {
    this.send({ ...this.now, rating: this.now.rating === rating ? "" : rating });
  }

  async keepIdeal(text) {
    const ideal = text.trim() === this.exchange.answer.trim() ? "" : text;
    if (!(await this.send({ ...this.now, ideal }))) return;
    this.open(false);
    this.button("ideal").focus();
  }

  async send({ rating, ideal }) {
    const { answer, thoughts, tool_calls, request_id, answered_by } = this.exchange;
    const body = { rating: rating || null, ideal, answer, thoughts, tool_calls, answered_by };
    try {
      await call("PUT", `/api/requests/${request_id}/feedback`, { ...body, ...this.asked() });
    } catch (error) {
      this.say(`Not kept: ${error.message}`, true);
      return false;
    }
    said.set(request_id, { rating, ideal });
    const hint = rating === "bad" && !ideal ? " Edit the answer to say what it should be." : "";
    this.say(rating || ideal ? `Saved.${hint}` : "Taken back.");
    this.show();
    return true;
  }

  say(text, wrong = false) {
    this.status.textContent = text;
    this.status.classList.toggle("error-text", wrong);
  }
}
