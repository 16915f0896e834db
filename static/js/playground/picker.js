// A field that finds what to talk to among any number of models and versions (an ARIA combobox).

const WAIT_MS = 150; // after the last key
let made = 0;

export class Picker {
  /** `chosen(name)` is called when another name was chosen. */
  constructor(element, name, chosen) {
    this.input = element.querySelector("input");
    this.list = element.querySelector("[role=listbox]");
    this.list.id = `offered-${++made}`;
    this.input.setAttribute("aria-controls", this.list.id);
    this.address = document.querySelector("#playground").dataset.models;
    this.chosen = chosen;
    this.name = name;
    this.asked = 0;
    this.choosing = false;
    this.settled = Promise.resolve(); // once the last name given by Enter is taken
    this.sought = true; // whether the list is that of what is typed
    this.input.value = name;
    this.input.addEventListener("focus", () => this.input.select());
    this.input.addEventListener("click", () => this.open(""));
    this.input.addEventListener("input", () => this.search());
    this.input.addEventListener("keydown", (event) => this.key(event));
    this.input.addEventListener("blur", () => this.leave());
    // The field keeps the focus while one clicks in the list.
    this.list.addEventListener("mousedown", (event) => event.preventDefault());
    this.list.addEventListener("click", (event) =>
      this.take(event.target.closest("[role=option]")?.dataset.name),
    );
  }

  get options() {
    return [...this.list.querySelectorAll("[role=option]")];
  }

  get active() {
    return this.list.querySelector("[aria-selected=true]");
  }

  get isOpen() {
    return !this.list.hidden;
  }

  search() {
    clearTimeout(this.timer);
    this.sought = false;
    this.timer = setTimeout(() => this.open(this.input.value.trim()), WAIT_MS);
  }

  async open(q) {
    const number = ++this.asked;
    let html = "";
    try {
      const answer = await fetch(`${this.address}?q=${encodeURIComponent(q)}`);
      html = answer.ok ? await answer.text() : "";
    } catch {
      // The list stays empty; the name can still be typed.
    }
    if (number !== this.asked || (document.activeElement !== this.input && !this.choosing)) return;
    this.sought = true;
    this.list.innerHTML = html; // the hub's own template, which escapes the names
    for (const [index, option] of this.options.entries()) option.id = `${this.list.id}-${index}`;
    this.show(html !== "");
    const exact = this.options.find((option) => option.dataset.name === (q || this.name));
    this.point(exact ?? (q ? this.options[0] : undefined));
  }

  show(open) {
    this.list.hidden = !open;
    this.input.setAttribute("aria-expanded", String(open));
    if (!open) this.input.removeAttribute("aria-activedescendant");
  }

  point(option) {
    this.active?.setAttribute("aria-selected", "false");
    if (!option) return;
    option.setAttribute("aria-selected", "true");
    option.scrollIntoView({ block: "nearest" });
    this.input.setAttribute("aria-activedescendant", option.id);
  }

  key(event) {
    const { key } = event;
    if (key === "ArrowDown" || key === "ArrowUp") {
      event.preventDefault();
      if (!this.isOpen) return void this.open("");
      const { options } = this;
      const step = key === "ArrowDown" ? 1 : -1;
      const index = options.indexOf(this.active);
      this.point(
        options[
          index < 0
            ? step > 0
              ? 0
              : options.length - 1
            : (index + step + options.length) % options.length
        ],
      );
    } else if (key === "Enter") {
      event.preventDefault();
      this.settled = this.choose();
    } else if (key === "Escape" && this.isOpen) {
      event.preventDefault();
      this.close();
    }
    return undefined;
  }

  /** What is pointed at, or exactly what is typed: aliases and old versions answer unlisted, too. */
  async choose() {
    clearTimeout(this.timer);
    const typed = this.input.value.trim();
    this.choosing = true; // also if the focus moves on meanwhile
    if (!this.sought) await this.open(typed);
    this.choosing = false;
    this.take(this.isOpen ? (this.active?.dataset.name ?? typed) : typed);
  }

  take(name) {
    if (!name) return;
    const other = name !== this.name;
    this.name = name;
    this.close();
    if (other) this.chosen(name);
  }

  close() {
    this.asked++;
    clearTimeout(this.timer);
    this.input.value = this.name;
    this.show(false);
  }

  leave() {
    if (this.choosing) return;
    const typed = this.input.value.trim();
    if (this.options.some((option) => option.dataset.name === typed)) this.take(typed);
    this.close();
  }
}
