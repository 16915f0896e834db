// Answers token by token: the less likely a token was, the stronger its colour. Pointing at one, or
// going there with the arrow keys, shows its probability and what else might have come.

const tip = document.querySelector("#tip");
const LEVELS = [0.9, 0.6, 0.3, 0.1]; // the probabilities between the five colours
const SHOWN = { "\n": "↵\n", "\t": "⇥\t", "": "∎" };

function visible(text) {
  return SHOWN[text] ?? text.replaceAll("\n", "↵\n");
}

export function percent(logprob) {
  const share = 100 * Math.exp(logprob);
  if (share >= 99.95) return "100 %";
  return share < 0.1 ? "under 0.1 %" : `${share.toFixed(1)} %`;
}

/** Make `element` show `tokens`: those that are there already stay. */
export function show(element, tokens) {
  if (!element.classList.contains("tokens")) {
    element.replaceChildren();
    element.shownText = null;
    element.classList.add("tokens");
    element.setAttribute("role", "group");
    element.setAttribute("aria-label", "Tokens; use the arrow keys to move between them");
  }
  for (const token of tokens.slice(element.children.length)) {
    const span = document.createElement("span");
    const probability = Math.exp(token.logprob);
    const level = LEVELS.findIndex((least) => probability >= least);
    span.className = `token level-${level < 0 ? LEVELS.length : level}`;
    span.textContent = visible(token.text);
    span.tabIndex = element.children.length ? -1 : 0;
    span.token = token;
    element.append(span);
  }
}

/** Undo `show`, so that something else can be shown there. */
export function leave(element) {
  if (!element.classList.contains("tokens")) return;
  element.replaceChildren();
  element.classList.remove("tokens");
  element.removeAttribute("role");
  element.removeAttribute("aria-label");
}

function row(text, logprob, chosen) {
  const line = document.createElement("div");
  line.className = chosen ? "alternative chosen" : "alternative";
  const name = document.createElement("code");
  name.textContent = text === "" ? "(end)" : JSON.stringify(text).slice(1, -1).replaceAll(" ", "␣");
  const share = document.createElement("span");
  share.textContent = percent(logprob);
  const bar = document.createElement("i");
  bar.style.width = `${100 * Math.exp(logprob)}%`;
  line.append(name, share, bar);
  return line;
}

function point(span) {
  const { text, logprob, top } = span.token;
  const lines = top.map(([other, value]) => row(other, value, other === text));
  if (!top.some(([other]) => other === text)) lines.unshift(row(text, logprob, true));
  tip.replaceChildren(...lines);
  if (!tip.matches(":popover-open")) tip.showPopover();
  const at = span.getClientRects()[0] ?? span.getBoundingClientRect();
  const below = at.bottom + 6 + tip.offsetHeight < innerHeight;
  tip.style.left = `${Math.max(8, Math.min(at.left, innerWidth - tip.offsetWidth - 8))}px`;
  tip.style.top = `${below ? at.bottom + 6 : at.top - 6 - tip.offsetHeight}px`;
  span.setAttribute("aria-describedby", "tip");
}

function hide() {
  if (tip.matches(":popover-open")) tip.hidePopover();
}

function away(span) {
  span.removeAttribute("aria-describedby");
  hide();
}

const tokenOf = (event) => event.target.closest?.(".tokens > .token");

for (const [enter, exit] of [
  ["mouseover", "mouseout"],
  ["focusin", "focusout"],
]) {
  document.addEventListener(enter, (event) => tokenOf(event) && point(tokenOf(event)));
  document.addEventListener(exit, (event) => tokenOf(event) && away(tokenOf(event)));
}
document.addEventListener("scroll", hide, true);
document.addEventListener("keydown", (event) => {
  const span = tokenOf(event);
  const step = { ArrowRight: "nextElementSibling", ArrowLeft: "previousElementSibling" }[event.key];
  const next = span && step && span[step];
  if (!next) return;
  event.preventDefault();
  span.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
});
