// Ctrl-K: one field for everything that has a page. The hub finds, the arrows choose, Enter opens; what
// was opened last in this browser comes first.

const KEPT = 6;
const DELAY_MS = 120;
const dialog = document.querySelector("#palette");
const input = dialog.querySelector("input");
const list = dialog.querySelector("#palette-found");
const said = dialog.querySelector("[role=status]");
let asked = 0;
let waiting = 0;
let isStale = false; // what is shown was not found for what is typed
let active = null;

/* ------------------------------------------------------------------- recent */
function recent() {
  try {
    return JSON.parse(localStorage.getItem("recent") ?? "[]");
  } catch {
    return [];
  }
}

// A page about one thing is remembered: its path has a number, or a request's id.
if (/\/(\d+|[0-9a-f]{32})\//.test(location.pathname)) {
  const here = { href: location.pathname, label: document.title.split(" · MLX")[0] };
  const others = recent().filter(({ href }) => href !== here.href);
  localStorage.setItem("recent", JSON.stringify([here, ...others].slice(0, KEPT)));
}

function showRecent() {
  const others = recent().filter(({ href }) => href !== location.pathname);
  if (!others.length) return;
  const group = document.createElement("div");
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", "Opened recently");
  const title = document.createElement("p");
  Object.assign(title, { className: "found-title", textContent: "Opened recently" });
  title.setAttribute("role", "presentation");
  group.append(title);
  for (const { href, label } of others) {
    const link = document.createElement("a");
    Object.assign(link, { className: "hit", href });
    const text = document.createElement("span");
    Object.assign(text, { className: "label", textContent: label });
    link.append(text);
    group.append(link);
  }
  list.prepend(group);
}

/* -------------------------------------------------------------------- found */
const hits = () => [...list.querySelectorAll(".hit")];

function choose(hit) {
  active?.setAttribute("aria-selected", "false");
  active = hit ?? null;
  input.setAttribute("aria-activedescendant", active?.id ?? "");
  active?.setAttribute("aria-selected", "true");
  active?.scrollIntoView({ block: "nearest" });
}

async function find() {
  const mine = ++asked;
  const url = new URL(dialog.dataset.url, location.href);
  url.searchParams.set("q", input.value.trim());
  let html = "";
  try {
    const answer = await fetch(url, { headers: { "HX-Request": "true" } });
    if (answer.ok) html = await answer.text();
  } catch {
    // The banner says that the hub is not there.
  }
  if (mine !== asked) return; // something else was typed meanwhile
  isStale = false;
  list.innerHTML = html;
  if (!input.value.trim()) showRecent();
  for (const [number, hit] of hits().entries()) {
    hit.id = `hit-${number}`;
    hit.setAttribute("role", "option");
    hit.tabIndex = -1;
  }
  const count = hits().length;
  said.textContent = count === 1 ? "1 result" : `${count} results`;
  choose(hits()[0]);
}

export function open() {
  if (dialog.open) return;
  for (const other of document.querySelectorAll("dialog[open]")) other.close();
  input.value = "";
  list.replaceChildren();
  dialog.showModal();
  find();
}

/* ----------------------------------------------------------------- keyboard */
async function move(event) {
  if (event.key === "Enter" && isStale) {
    event.preventDefault();
    clearTimeout(waiting);
    await find();
  }
  const all = hits();
  if (!all.length) return;
  const at = all.indexOf(active);
  const to = {
    ArrowDown: (at + 1) % all.length,
    ArrowUp: (at - 1 + all.length) % all.length,
  }[event.key];
  if (to !== undefined) {
    event.preventDefault();
    choose(all[to]);
  } else if (event.key === "Enter" && active) {
    event.preventDefault();
    if (event.ctrlKey || event.metaKey) window.open(active.href, "_blank", "noopener");
    else {
      dialog.close();
      location.assign(active.href);
    }
  }
}

document.addEventListener("keydown", (event) => {
  if (event.key.toLowerCase() !== "k" || !(event.ctrlKey || event.metaKey) || event.altKey) return;
  event.preventDefault();
  if (dialog.open) dialog.close();
  else open();
});
input.addEventListener("keydown", move);
input.addEventListener("input", () => {
  isStale = true;
  clearTimeout(waiting);
  waiting = setTimeout(find, DELAY_MS);
});
dialog.addEventListener("click", (event) => {
  if (event.target === dialog || event.target.closest(".hit")) dialog.close(); // beside it, or chosen
});
