// The playground: up to four columns that are asked the same at once. Each part is a module of its own.

import { isLost, point } from "./connection.js";
import { showCode } from "./playground/code.js";
import { Column } from "./playground/column.js";
import { setTokenView, showsTokens } from "./playground/exchange.js";
import { setFeedback } from "./playground/feedback.js";
import { Kept } from "./playground/kept.js";
import * as settings from "./playground/settings.js";
import * as socket from "./playground/socket.js";
import { refreshStrip } from "./playground/strip.js";

const MAX_COLUMNS = 4;
const CROWDED = "(max-width: 1600px)"; // three columns and the settings do not fit beside each other
const OUTCOMES = { done: "has answered", stopped: "was stopped", error: "failed" };
const $ = (selector) => document.querySelector(selector);
const composer = $("#composer");
const prompt = composer.elements.prompt;
const track = $("#columns");
const columns = [];
let kept = null;
let editing = null; // {index, user} of the question being edited
let connecting = false;

const isBusy = () => connecting || columns.some((column) => column.busy);

/** Keep the conversation, or what it became. */
function save() {
  const asked = settings.read();
  if (asked) kept.save({ ...asked, columns: columns.map((column) => column.data()) }).then(refresh);
}

/* ----------------------------------------------------------------- columns */
const hooks = {
  changed: refresh,
  over: ({ answered_by: who }, outcome) => {
    $("#said").textContent = `${who || "A model"} ${OUTCOMES[outcome]}.`;
    refresh();
    if (!isBusy() && kept.id) save();
  },
  turned: () => {
    refresh();
    if (kept.id) save();
  },
  settings: () => settings.read() ?? { system: "", sampling: {}, tools: [] },
  edit: beginEditing,
  code: (column) => showCode(presentRequest(column)),
  regenerate: (column) => regenerate([column]),
  remove: (column) => {
    column.stop();
    columns.splice(columns.indexOf(column), 1);
    column.element.remove();
    refresh();
    columns.at(-1).picker.input.focus();
  },
};

function addColumn(state) {
  const column = new Column(state, hooks);
  columns.push(column);
  track.append(column.element);
  column.follow(true);
  return column;
}

/** Another column begins with what the first one heard and said, so that they can be compared. */
function addAnother() {
  const { model, exchanges } = columns[0].data();
  const column = addColumn({ model, exchanges });
  if (columns.length > 2 && matchMedia(CROWDED).matches) settings.toggle(false);
  refresh();
  column.element.scrollIntoView({ inline: "end", block: "nearest" });
  column.picker.input.focus();
  column.picker.open("");
}

function refresh() {
  const busy = isBusy();
  const asked = columns.some((column) => column.exchanges.length);
  const answered = columns.some((column) => column.data().exchanges.length);
  for (const column of columns) column.refresh(columns.length === 1, !busy);
  settings.setModel(columns[0].model);
  track.dataset.columns = columns.length;
  $("#send").hidden = busy;
  $("#stop").hidden = !busy;
  $("#regenerate").hidden = busy || !asked || columns.length < 2;
  $("#add").disabled = columns.length >= MAX_COLUMNS;
  $("#save").disabled = busy || !answered || Boolean(kept.id);
  $("#save").textContent = kept.id ? "Saved" : "Save";
  if (document.activeElement?.hidden) prompt.focus(); // its button went
  refreshStrip(columns);
}

/* ------------------------------------------------------------------ asking */
async function send() {
  const text = prompt.value.trim();
  if (!text || isBusy()) return;
  if (isLost()) return point(); // what was typed stays
  const asked = settings.read();
  if (!asked) return;
  const old = editing;
  leaveEditing();
  prompt.value = "";
  const seed = settings.drawSeed(asked.sampling);
  const problem = await reach();
  for (const column of columns) {
    const index = isEdited(column, old) ? old.index : column.exchanges.length;
    if (problem) column.refuse(text, problem, index);
    else column.ask(text, asked, seed, index);
  }
  prompt.focus();
}

/** Answer the last question of these columns again: sampled again, unless a seed or greedy sampling rules that out. */
async function regenerate(some) {
  if (isLost()) return point();
  const asked = settings.read();
  if (!asked || connecting || some.some((column) => column.busy)) return;
  const seed = settings.drawSeed(asked.sampling);
  const problem = await reach();
  for (const column of some.filter((one) => one.last)) {
    if (problem) column.fail(problem);
    else column.again(asked, seed);
  }
}

/** Connects, and takes the names just typed; what went wrong, or nothing. Meanwhile nothing else is asked. */
async function reach() {
  connecting = true;
  try {
    await Promise.all([socket.connect(), ...columns.map((column) => column.picker.settled)]);
    return "";
  } catch (error) {
    return error.message;
  } finally {
    connecting = false;
  }
}

function stopAll() {
  for (const column of columns) column.stop();
}

/** What the next click would send to this column: what is being written, else the last question. */
function presentRequest(column) {
  const asked = settings.read();
  const text = prompt.value.trim();
  const { last, exchanges } = column;
  if (!asked || (!text && !last)) return null;
  if (text)
    return column.request(
      text,
      isEdited(column, editing) ? exchanges.slice(0, editing.index) : exchanges,
      asked,
      asked.sampling.seed ?? null,
    );
  return column.request(last.user, exchanges.slice(0, -1), asked, asked.sampling.seed ?? last.seed);
}

/* ----------------------------------------------------------------- editing */
/** Whether this column was asked the question `old`: another one's may have been kept out. */
const isEdited = (column, old) => old !== null && column.exchanges[old.index]?.user === old.user;

function beginEditing(
  column = columns.find((one) => one.last),
  index = column?.exchanges.length - 1,
) {
  if (isBusy() || !column?.last) return;
  const { user } = column.exchanges[index];
  editing = { index, user };
  $("#editing").hidden = false;
  prompt.value = user;
  prompt.focus();
  prompt.setSelectionRange(prompt.value.length, prompt.value.length);
}

function leaveEditing() {
  editing = null;
  $("#editing").hidden = true;
}

function newChat() {
  for (const column of columns) column.clear();
  kept.leave();
  leaveEditing();
  prompt.value = "";
  refresh();
  prompt.focus();
}

/* ------------------------------------------------------------------- wiring */
function key(event) {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    send();
  } else if (event.key === "ArrowUp" && prompt.value === "") {
    event.preventDefault();
    beginEditing();
  }
}

/** An open list of models and a panel of settings that lies over the page take Escape first. */
const closesItself = (target) =>
  target.ariaExpanded === "true" || (target.closest?.("#settings") && settings.liesOver());

function onEscape(event) {
  if (
    event.key !== "Escape" ||
    document.querySelector("dialog[open]") ||
    closesItself(event.target)
  )
    return;
  if (isBusy()) stopAll();
  else if (editing !== null) {
    leaveEditing();
    prompt.value = "";
  } else return;
  event.preventDefault();
}

function switchTokens() {
  setTokenView(!showsTokens());
  $("#tokens").setAttribute("aria-pressed", String(showsTokens()));
  $("#legend").hidden = !showsTokens();
  for (const column of columns) for (const exchange of column.exchanges) exchange.redraw();
}

function openConversations() {
  $("#conversations").showModal();
  const search = $("#find-conversation");
  search.value = "";
  search.dispatchEvent(new CustomEvent("opened"));
}

function showExamples() {
  const examples = $("#examples-part").content.cloneNode(true);
  if (!examples.querySelector("button")) return;
  columns[0].element.querySelector(".hint").append(examples);
  track.addEventListener("click", (event) => {
    const button = event.target.closest(".examples button");
    if (!button) return;
    prompt.value = button.dataset.prompt;
    settings.setSystem(button.dataset.system);
    prompt.focus();
  });
}

function start() {
  const state = JSON.parse($("#playground").dataset.state);
  kept = new Kept(state, refresh);
  settings.write(state);
  settings.setPresets(state.presets);
  setFeedback(state.feedback);
  for (const column of state.columns) addColumn(column);
  showExamples();
  refresh();
  composer.addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  prompt.addEventListener("keydown", key);
  document.addEventListener("keydown", onEscape, true);
  $("#stop").addEventListener("click", stopAll);
  $("#regenerate").addEventListener("click", () => regenerate(columns));
  $("#add").addEventListener("click", addAnother);
  $("#new").addEventListener("click", newChat);
  $("#tokens").addEventListener("click", switchTokens);
  $("#save").addEventListener("click", save);
  $("#open-conversations").addEventListener("click", openConversations);
  $("#leave-editing").addEventListener("click", () => {
    leaveEditing();
    prompt.value = "";
    prompt.focus();
  });
  // The page comes with both closed, so that nothing typed before this line is lost.
  prompt.readOnly = false;
  $("#send").disabled = false;
  settings.toggle(matchMedia("(min-width: 1081px)").matches && columns.length < 3);
  if (state.send) {
    const address = new URL(location.href);
    address.searchParams.delete("try"); // a page that is loaded again asks nothing
    history.replaceState(null, "", address);
    send();
  }
}

start();
