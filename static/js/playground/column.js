// One model's side of the conversation.

import { copy } from "../copying.js";
import { Exchange, showsTokens } from "./exchange.js";
import { Picker } from "./picker.js";
import * as socket from "./socket.js";
import { whatHolds } from "./waiting.js";

const part = document.querySelector("#column-part");
const RIVALS = 5; // alternatives shown for each token
const PATIENCE_MS = 700; // before a wait is explained

export class Column {
  /** `hooks`: changed() after anything, over(exchange) after an answer, and what the buttons do: edit(column)… */
  constructor({ model, exchanges = [] }, hooks) {
    this.element = part.content.cloneNode(true).querySelector(".column");
    this.scroller = this.element.querySelector(".scroll");
    this.log = this.element.querySelector(".chat");
    this.hooks = hooks;
    this.exchanges = [];
    this.generation = null;
    this.picker = new Picker(this.element.querySelector(".picker"), model, () => hooks.changed());
    this.element.addEventListener("click", (event) =>
      this.click(event.target.closest("[data-do]")?.dataset.do),
    );
    for (const kept of exchanges) this.append(new Exchange(kept.user, { kept }));
  }

  get model() {
    return this.picker.name;
  }

  get busy() {
    return this.generation !== null;
  }

  get last() {
    return this.exchanges.at(-1);
  }

  click(what) {
    if (what === "stop") this.stop();
    else if (what === "copy")
      copy(this.element.querySelector("[data-do=copy]"), this.last.body, this.last.answer);
    else if (what) this.hooks[what](this);
  }

  append(exchange) {
    exchange.drawn = () => this.follow();
    this.exchanges.push(exchange);
    this.log.append(exchange.element);
    this.follow(true);
  }

  dropLast() {
    const dropped = this.exchanges.pop();
    dropped?.element.remove();
    return dropped;
  }

  clear() {
    this.stop();
    while (this.exchanges.length) this.dropLast();
  }

  /** Keep the end in sight, unless one has scrolled up to read. */
  follow(always = false) {
    const { scroller } = this;
    const near = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 80;
    if (near || always) scroller.scrollTop = scroller.scrollHeight;
  }

  /* ------------------------------------------------------------------ asking */
  /** What is sent so that `text` is answered after `exchanges`. */
  request(text, exchanges, { system, sampling, tools }, seed) {
    const messages = system ? [{ role: "system", content: system }] : [];
    for (const { user, answer, thoughts } of exchanges.filter((one) => one.answer !== "")) {
      const said = { role: "assistant", content: answer };
      if (thoughts) said.reasoning_content = thoughts; // its template decides whether it reads them
      messages.push({ role: "user", content: user }, said);
    }
    messages.push({ role: "user", content: text });
    const fields = { model: this.model, messages, ...sampling };
    if (tools.length) fields.tools = tools;
    if (seed !== null) fields.seed = seed;
    if (showsTokens()) Object.assign(fields, { logprobs: true, top_logprobs: RIVALS });
    return fields;
  }

  /** `edited` is the exchange that this one takes the place of, if it is answered. */
  ask(text, settings, seed, edited) {
    this.append(new Exchange(text, { before: edited?.data() }));
    this.answer(settings, seed);
  }

  /** Answer the last question, for the first time or again. */
  answer(settings, seed) {
    const exchange = this.last;
    const fields = this.request(exchange.user, this.exchanges.slice(0, -1), settings, seed);
    exchange.begin(this.model, seed);
    this.generation = socket.generate(fields, (event) => this.take(exchange, event));
    this.follow(true);
    this.explain(this.generation);
    this.hooks.changed();
  }

  /** The question could not even be sent. */
  refuse(text, message, edited) {
    this.append(new Exchange(text, { before: edited?.data() }));
    this.fail(message);
  }

  fail(message) {
    this.last?.end({ event: "error", error: { message } });
    this.hooks.changed();
  }

  take(exchange, event) {
    if (event.event === "started") this.say("Writing…");
    if (!exchange.take(event)) return;
    this.generation = null;
    this.say("");
    this.follow();
    this.hooks.over(exchange, event.event);
  }

  stop() {
    if (this.busy) socket.stop(this.generation);
  }

  say(text) {
    this.element.querySelector(".state").textContent = text;
  }

  /** While it waits for its first token, say what it waits for. */
  async explain(generation) {
    const waits = () => this.generation === generation && this.last?.state === "asked";
    for (let wait = PATIENCE_MS; ; wait = 1000) {
      await new Promise((over) => setTimeout(over, wait));
      if (!waits()) return;
      const why = await whatHolds();
      if (waits()) this.say(why);
    }
  }

  /* -------------------------------------------------------------------- state */
  data() {
    const exchanges = this.exchanges.map((exchange) => exchange.data()).filter(Boolean);
    return { model: this.model, exchanges };
  }

  refresh(alone, idle) {
    const button = (what) => this.element.querySelector(`[data-do=${what}]`);
    const show = (what, on) => (button(what).hidden = !on);
    show("remove", !alone);
    show("stop", this.busy);
    show("regenerate", !this.busy && this.exchanges.length > 0);
    show("copy", !this.busy && Boolean(this.last?.answer));
    // The keyboard's place is kept when one of the two takes the other's.
    if (document.activeElement === button("regenerate") && this.busy) button("stop").focus();
    if (document.activeElement === button("stop") && !this.busy) button("regenerate").focus();
    button("regenerate").textContent = this.last?.state === "failed" ? "Try again" : "Regenerate";
    for (const exchange of this.exchanges) {
      exchange.element.querySelector("[data-do=edit]").hidden = !(idle && exchange === this.last);
    }
    this.element.setAttribute("aria-label", `Column of ${this.model}`);
  }
}
