// The playground: one WebSocket, one or two panes, each answer a generation of its own on it.

const form = document.querySelector("#composer");
const prompt = form.elements.prompt;
const stopButton = document.querySelector("#stop");
const sendButton = document.querySelector("#send");
const panesElement = document.querySelector("#panes");
const compareBox = document.querySelector("#compare");
const status = document.querySelector("#connection");

/* ------------------------------------------------------------------ socket */
const waiting = new Map(); // generation id → function that takes its events
let socket = null;

function connect() {
  return new Promise((resolve, reject) => {
    if (socket?.readyState === WebSocket.OPEN) return resolve(socket);
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    socket = new WebSocket(`${scheme}//${location.host}/ws/inference`);
    socket.addEventListener("open", () => resolve(socket));
    socket.addEventListener("message", (message) => {
      const event = JSON.parse(message.data);
      waiting.get(event.id)?.(event);
    });
    socket.addEventListener("close", () => {
      const error = { code: "unavailable", message: "The connection to the hub was lost; send it again." };
      for (const take of [...waiting.values()]) take({ event: "error", error });
      reject(new Error(error.message));
    });
    return undefined;
  });
}

/* ------------------------------------------------------------------- panes */
class Pane {
  constructor(element) {
    this.element = element;
    this.select = element.querySelector("select");
    this.log = element.querySelector(".chat");
    this.scroller = element.querySelector(".scroll");
    this.history = [];
    this.id = null;
    this.select.addEventListener("change", () => this.clear());
  }

  get active() {
    return !this.element.hidden;
  }

  clear() {
    this.stop();
    this.history = [];
    this.log.replaceChildren();
  }

  add(role, text) {
    const message = document.createElement("div");
    message.className = `msg ${role}`;
    const label = document.createElement("span");
    label.className = "role";
    label.textContent = role === "user" ? "You" : this.select.value;
    const body = document.createElement("span");
    body.className = "text";
    body.textContent = text;
    message.append(label, body);
    this.log.append(message);
    this.follow(true);
    return { message, label, body };
  }

  follow(always = false) {
    const { scroller } = this;
    const near = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 80;
    if (near || always) scroller.scrollTop = scroller.scrollHeight;
  }

  ask(text, settings) {
    this.add("user", text);
    this.history.push({ role: "user", content: text });
    const answer = this.add("assistant", "");
    answer.message.classList.add("streaming");
    const sent = performance.now();
    this.id = crypto.randomUUID?.() ?? String(Math.random()).slice(2);
    const { system, ...sampling } = settings;
    const messages = system ? [{ role: "system", content: system }, ...this.history] : this.history;
    return new Promise((over) => {
      waiting.set(this.id, (event) => this.take(event, answer, sent, over));
      socket.send(JSON.stringify({ type: "generate", id: this.id, model: this.select.value, messages, ...sampling }));
    });
  }

  take(event, answer, sent, over) {
    if (event.event === "started") {
      answer.label.textContent = event.answered_by;
      answer.prompt_tokens = event.prompt_tokens;
    } else if (event.event === "delta") {
      answer.first ??= performance.now() - sent;
      answer.body.append(event.text);
      this.follow();
    } else this.end(event, answer, over);
  }

  end(event, answer, over) {
    waiting.delete(this.id);
    this.id = null;
    answer.message.classList.remove("streaming");
    const text = answer.body.textContent;
    if (event.event === "error") {
      answer.message.classList.add("failed");
      answer.message.setAttribute("role", "alert");
      answer.body.textContent = `${text}${text ? "\n\n" : ""}${event.error.message}`;
      this.history.pop(); // the question may be asked again
    } else {
      this.history.push({ role: "assistant", content: text });
      const timings = document.createElement("span");
      timings.className = "timings";
      timings.textContent = event.event === "stopped" ? "stopped" : summary(event, answer.first);
      timings.title = "First token as this browser saw it; the rate is the engine's decoding alone";
      answer.message.append(timings);
    }
    this.follow();
    over();
  }

  stop() {
    if (this.id) socket?.send(JSON.stringify({ type: "stop", id: this.id }));
  }
}

function summary(done, first) {
  const rate = done.timings.tokens_per_second;
  const parts = [`first token ${Math.round(first ?? done.timings.first_token_ms)} ms`];
  if (rate != null) parts.push(`${rate < 100 ? rate.toFixed(1) : Math.round(rate)} tokens/s`);
  parts.push(`${done.completion_tokens} token${done.completion_tokens === 1 ? "" : "s"}`);
  if (done.finish_reason === "length") parts.push("cut at the longest answer");
  return parts.join(" · ");
}

const panes = [...panesElement.querySelectorAll(".pane")].map((element) => new Pane(element));

/* ---------------------------------------------------------------- sampling */
function settings() {
  const fields = new FormData(document.querySelector("#sampling"));
  const read = { system: fields.get("system").trim() };
  for (const name of ["max_tokens", "temperature", "top_p", "top_k", "seed"]) {
    if (fields.get(name) !== "") read[name] = Number(fields.get(name));
  }
  return read;
}

/* ----------------------------------------------------------------- actions */
function setBusy(busy) {
  stopButton.hidden = !busy;
  sendButton.hidden = busy;
  panesElement.toggleAttribute("data-busy", busy);
}

async function send() {
  const text = prompt.value.trim();
  if (!text || panes.some((pane) => pane.id)) return;
  if (!document.querySelector("#sampling").reportValidity()) return;
  try {
    await connect();
    status.hidden = true;
  } catch (error) {
    status.textContent = "The hub does not answer. Is `uv run manage.py up` running?";
    status.hidden = false;
    return;
  }
  prompt.value = "";
  setBusy(true);
  const asked = settings();
  await Promise.all(panes.filter((pane) => pane.active).map((pane) => pane.ask(text, asked)));
  setBusy(false);
  prompt.focus();
}

function stop() {
  for (const pane of panes) pane.stop();
}

function setCompare(on) {
  panes[1].element.hidden = !on;
  panesElement.toggleAttribute("data-compare", on);
  if (on) panes[1].clear();
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
prompt.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    send();
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && panes.some((pane) => pane.id)) stop();
});
stopButton.addEventListener("click", stop);
compareBox.addEventListener("change", () => setCompare(compareBox.checked));
document.querySelector("#clear").addEventListener("click", () => {
  for (const pane of panes) pane.clear();
  prompt.focus();
});
for (const slider of document.querySelectorAll("#sampling input[type=range]")) {
  const show = () => (slider.closest(".slider").querySelector("output").value = slider.value);
  slider.addEventListener("input", show);
  show();
}
document.querySelector("#examples")?.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  prompt.value = button.dataset.prompt;
  document.querySelector("#sampling").elements.system.value = button.dataset.system;
  prompt.focus();
});
setCompare(compareBox.checked);
// The page comes with both closed, so that nothing typed before this line is lost.
prompt.readOnly = false;
sendButton.disabled = false;
