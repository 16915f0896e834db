// What a list (templates/_list.html) has beyond links and forms: the keyboard, kept views, the
// dialog that asks before rows are changed, and short addresses.

const list = document.querySelector("[data-list]");
const $ = (selector, root = list) => root?.querySelector(selector);
const rows = () => [...(list?.querySelectorAll("#rows tbody > tr") ?? [])];
const rowOf = (element) => element?.closest?.("#rows tbody > tr");

/* ---------------------------------------------------------------- keyboard */
// The focus is on a row's title: Enter follows it, as the browser does by itself.
function go(step) {
  const all = rows();
  const at = all.indexOf(rowOf(document.activeElement));
  const next = all[at < 0 ? 0 : Math.min(all.length - 1, Math.max(0, at + step))];
  ($("th a", next) ?? $("a, input", next))?.focus();
}

const STEPS = { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1 };

document.addEventListener("keydown", (event) => {
  if (!list || event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
  if (document.querySelector("dialog[open]")) return;
  const { target, key } = event;
  const ticks = target.matches("#rows input[type=checkbox]");
  if (!ticks && target.matches("input, select, textarea, [contenteditable]")) return;
  const row = rowOf(target);
  if (key in STEPS && (row || key.length === 1)) {
    event.preventDefault();
    go(STEPS[key]);
  } else if (key === "x" && row) $("[name=pick]", row)?.click();
  else if (key === "o" && row) $("[data-summary]", row)?.click();
  else if (key === "Escape" && $("#drawer *")) closeSummary();
});

/* ----------------------------------------------------------------- summary */
const asked = new URLSearchParams(location.search).get("open");
let opened = asked && `row-${asked}`; // its row's id

function showOpened() {
  for (const row of rows()) row.classList.toggle("opened", row.id === opened);
}

function closeSummary() {
  const row = opened && document.getElementById(opened);
  opened = null;
  $("#drawer").replaceChildren();
  const address = new URL(location);
  address.searchParams.delete("open");
  history.replaceState(history.state, "", address);
  showOpened();
  $("th a", row)?.focus();
}

list?.addEventListener("click", (event) => {
  const link = event.target.closest("[data-summary]");
  const row = rowOf(event.target);
  if (link) {
    opened = row?.id ?? null;
    const menu = link.closest("details.menu");
    if (menu) menu.open = false;
  } else if (event.target.closest("[data-close-summary]")) {
    event.preventDefault();
    closeSummary();
  } else if (row && !event.target.closest("a, button, input, label, summary, details")) {
    if (getSelection().isCollapsed) $("[data-summary]", row)?.click();
  }
});

/* --------------------------------------------------------------- selection */
function count() {
  const picked = document.querySelectorAll("[name=pick]:checked").length;
  const said = $("[data-picked]");
  if (said) said.textContent = `${picked} selected`;
}
document.addEventListener("change", count);
list?.addEventListener("reset", () => setTimeout(count));
count();
showOpened();

document.addEventListener("click", (event) => {
  const dialog = event.target.closest("[data-close-dialog]")?.closest("dialog");
  if (!dialog) return;
  event.preventDefault();
  dialog.close();
});

/* ------------------------------------------------------------ kept views */
const KEPT = `views ${list?.dataset.list}`;
const views = $("[data-views]");
const kept = () => JSON.parse(localStorage.getItem(KEPT) ?? "{}");

function keep(all) {
  localStorage.setItem(KEPT, JSON.stringify(all));
  showViews();
}

function showViews() {
  if (!views) return;
  views.hidden = false;
  const lines = Object.entries(kept()).map(([name, query]) => {
    const line = document.createElement("li");
    const link = document.createElement("a");
    link.href = list.dataset.list + query;
    link.textContent = name;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "btn icon-only small ghost";
    button.textContent = "×";
    button.setAttribute("aria-label", `Delete the view ${name}`);
    button.dataset.dropView = name;
    line.append(link, button);
    return line;
  });
  $("ul", views).replaceChildren(...lines);
}

views?.addEventListener("click", (event) => {
  const { dropView } = event.target.dataset;
  if (dropView !== undefined) {
    const { [dropView]: _, ...others } = kept();
    keep(others);
  } else if ("keepView" in event.target.dataset) {
    const box = $("#view-name");
    const name = box.value.trim();
    if (!name) return box.focus();
    const query = new URLSearchParams(location.search);
    for (const place of ["before", "after", "page", "open"]) query.delete(place);
    keep({ ...kept(), [name]: query.size ? `?${query}` : "" });
    box.value = "";
  }
});
views?.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.target.id !== "view-name") return;
  event.preventDefault();
  $("[data-keep-view]").click();
});
// The field for a name is none of the filters.
views?.addEventListener("input", (event) => event.stopPropagation());
showViews();

/* -------------------------------------------------------------------- htmx */
// The address says what differs from the list as it is by itself, and nothing else.
list?.addEventListener("htmx:configRequest", (event) => {
  const form = event.target;
  if (form.id !== "filters") return;
  const given = event.detail.parameters;
  for (const name of new Set([...given.keys()])) {
    const none = form.elements[name]?.dataset?.none ?? "";
    if (["", none].includes(given.get(name))) given.delete(name);
  }
  if ((given.get("span") ?? "any") !== "custom") {
    given.delete("since");
    given.delete("until");
  }
  const boxes = [...form.querySelectorAll("[name=columns]")];
  if (boxes.every((box) => box.checked === (box.dataset.own === "yes"))) given.delete("columns");
});

document.addEventListener("htmx:afterSwap", ({ target }) => {
  if (!list) return;
  if (target.id === "ask") target.showModal();
  else if (target.id === "drawer") $("h2", target)?.focus({ preventScroll: true });
  showOpened();
  count();
});
