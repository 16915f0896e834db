// The conversation on the server, once somebody chose to keep it.

import { call } from "./api.js";

const PATH = "/api/playground/conversations";
const title = document.querySelector("#title");
const said = document.querySelector("#kept");

export class Kept {
  /** `left()` is called when what is open was deleted. */
  constructor({ id, revision }, left) {
    Object.assign(this, { id, revision });
    this.saving = Promise.resolve();
    this.number = 0; // of conversations that were left
    document.addEventListener("htmx:afterSwap", () => this.look());
    document.addEventListener("htmx:afterRequest", (event) => {
      const path = event.detail.requestConfig?.path;
      if (!event.detail.successful || path !== `/playground/conversations/${this.id}/delete/`)
        return;
      this.leave("Deleted.");
      left();
    });
  }

  /** Keep `content`, or what it became. One after the other: each needs the revision before it. */
  save(content) {
    const { number } = this;
    this.saving = this.saving.then(() => this.send(content, number));
    return this.saving;
  }

  async send(content, number) {
    if (number !== this.number) return;
    try {
      const kept = this.id
        ? await call("PUT", `${PATH}/${this.id}`, { ...content, revision: this.revision })
        : await call("POST", PATH, content);
      if (number !== this.number) return; // another one began meanwhile
      Object.assign(this, { id: kept.id, revision: kept.revision });
      history.replaceState(null, "", `?conversation=${kept.id}`);
      title.textContent = kept.title;
      this.say("Saved. New messages are saved too.");
    } catch (error) {
      this.say(`Not saved: ${error.message}`, true);
    }
  }

  /** What comes now is another conversation. */
  leave(text = "") {
    Object.assign(this, { id: null, revision: null, number: this.number + 1 });
    history.replaceState(null, "", location.pathname);
    title.textContent = "Playground";
    this.say(text);
  }

  /** It may have got another title in the list. */
  look() {
    const row = this.id && document.querySelector(`[data-conversation="${this.id}"]`);
    if (row) title.textContent = row.dataset.title;
  }

  say(text, wrong = false) {
    said.textContent = text;
    said.classList.toggle("error-text", wrong);
    said.classList.toggle("muted", !wrong);
  }
}
