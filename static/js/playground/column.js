// One model's side of the conversation.

import { copy } from "../copying.js";
import { Branches, tailData } from "./branches.js";
import { Exchange, showsTokens } from "./exchange.js";
import { Feedback } from "./feedback.js";
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
      this.click(event.target.closest("[data-do]")?.dataset.do, event.target),
    );
    for (const exchange of revive(exchanges)) this.append(exchange);
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

  click(what, target) {
    const index = this.exchanges.findIndex((one) => one.element.contains(target));
    if (what === "stop") this.stop();
    else if (what === "earlier") this.turn(index, -1);
    else if (what === "later") this.turn(index, 1);
    else if (what === "edit") this.hooks.edit(this, index);
    else if (what === "copy")
      copy(this.element.querySelector("[data-do=copy]"), this.last.body, this.last.answer);
    else if (what) this.hooks[what](this);
  }

  append(exchange) {
    exchange.drawn = () => this.follow();
    exchange.feedback ??= new Feedback(exchange, () => this.asked(exchange));
    this.exchanges.push(exchange);
    this.log.append(exchange.element);
    this.follow(true);
  }

  /** Take exchange `index` and what follows out of sight; they are returned. */
  cut(index) {
    const cut = this.exchanges.splice(index);
    for (const { element } of cut) element.remove();
    return cut;
  }

  clear() {
    this.stop();
    this.cut(0);
  }

  /* ---------------------------------------------------------------- branches */
  /** `text` in the place of exchange `index`, which stays as another branch if it was answered. */
  branch(index, text) {
    const head = this.exchanges[index];
    const exchange = new Exchange(text);
    const cut = this.cut(index);
    if (head?.wasAnswered) {
      head.branches ??= new Branches(cut);
      head.branches.add(cut, exchange);
    } else if (head) exchange.branches = head.branches;
    this.append(exchange);
  }

  /** Show the branch before or after the one that is shown at `index`. */
  turn(index, step) {
    const { branches } = this.exchanges[index];
    const number = branches.at + step;
    if (this.busy || number < 0 || number >= branches.count) return;
    const shown = this.cut(index);
    for (const exchange of branches.turn(shown, number)) this.append(exchange);
    this.hooks.turned();
    const { element } = this.exchanges[index];
    element.scrollIntoView({ block: "nearest" });
    const wanted = element.querySelector(`[data-do=${step < 0 ? "earlier" : "later"}]`);
    const other = element.querySelector(`[data-do=${step < 0 ? "later" : "earlier"}]`);
    (wanted.disabled ? other : wanted).focus();
  }

  /** What came in the place of another answer is none: show that one again, with what went wrong. */
  giveUp(problem) {
    const exchange = this.last;
    if (exchange.wasAnswered || !exchange.branches) return;
    const { branches } = exchange;
    const index = this.exchanges.length - 1;
    this.cut(index);
    const shown = branches.drop();
    for (const one of shown) this.append(one);
    shown[0].tell(problem);
  }

  /** What was sent for an answer, to keep beside what is said of it. */
  asked(exchange) {
    if (exchange.sent) return exchange.sent;
    const before = this.exchanges.slice(0, this.exchanges.indexOf(exchange));
    const { messages, tools = [] } = this.request(
      exchange.user,
      before,
      this.hooks.settings(),
      null,
    );
    return { prompt: messages, tools };
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
    for (const { user, answer, thoughts, tool_calls: calls } of exchanges) {
      if (answer === "" && !calls.length) continue;
      const said = { role: "assistant", content: answer };
      if (calls.length)
        said.tool_calls = calls.map((call, at) => ({
          id: `call_${at}`,
          type: "function",
          function: call,
        }));
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

  /** Ask `text` in the place of exchange `index`: at the end, or where another branch begins. */
  ask(text, settings, seed, index) {
    this.branch(index, text);
    this.answer(settings, seed);
  }

  /** Answer the last question again: another branch. */
  again(settings, seed) {
    if (this.last.wasAnswered) this.branch(this.exchanges.length - 1, this.last.user);
    this.answer(settings, seed);
  }

  /** Answer the last question. */
  answer(settings, seed) {
    const exchange = this.last;
    const fields = this.request(exchange.user, this.exchanges.slice(0, -1), settings, seed);
    exchange.begin(this.model, seed, { prompt: fields.messages, tools: fields.tools ?? [] });
    this.generation = socket.generate(fields, (event) => this.take(exchange, event));
    this.follow(true);
    this.explain(this.generation);
    this.hooks.changed();
  }

  /** The question could not even be sent. */
  refuse(text, message, index) {
    this.branch(index, text);
    this.fail(message);
  }

  fail(message) {
    this.last?.end({ event: "error", error: { message } });
    this.giveUp(message);
    this.hooks.changed();
  }

  take(exchange, event) {
    if (event.event === "started") this.say("Writing…");
    if (!exchange.take(event)) return;
    this.generation = null;
    this.giveUp(event.error?.message ?? "");
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
    return { model: this.model, exchanges: tailData(this.exchanges) };
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
      exchange.element.querySelector("[data-do=edit]").hidden = !idle;
      showBranches(exchange, idle);
    }
    this.element.setAttribute("aria-label", `Column of ${this.model}`);
  }
}

/** Exchanges of what was kept, with all their branches. */
function revive(exchanges) {
  const revived = exchanges.map((kept) => new Exchange(kept.user, kept));
  for (const [number, { others, at }] of exchanges.entries())
    if (others?.length) Branches.of(others, at, revived.slice(number), revive);
  return revived;
}

function showBranches({ element, branches }, idle) {
  const place = element.querySelector(".branches");
  const [earlier, later] = place.querySelectorAll("button");
  place.hidden = !branches;
  if (!branches) return;
  place.querySelector("span").textContent = `${branches.at + 1} / ${branches.count}`;
  earlier.disabled = !idle || branches.at === 0;
  later.disabled = !idle || branches.at === branches.count - 1;
}
