// A file that is dropped anywhere on the page, or chosen in its form, is sent at once.

const form = document.querySelector("[data-drop]");
const here = document.querySelector("[data-drop-here]");
const input = form.elements.files;
const words = here.firstElementChild;
const invitation = words.textContent;

/** The page says what happens to a large file until the next one comes. */
function send() {
  words.textContent = `Sending ${[...input.files].map((file) => file.name).join(", ")}…`;
  here.hidden = false;
  form.requestSubmit();
}

function rest() {
  form.reset();
  words.textContent = invitation;
  here.hidden = true;
}

/** A field for files takes what is dropped on it itself. */
const carriesFiles = (event) =>
  event.dataTransfer?.types.includes("Files") && !event.target.closest?.("input[type=file]");

input.addEventListener("change", () => input.files.length && send());
document.addEventListener("dragover", (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  here.hidden = false;
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) here.hidden = true; // it left the window
});
document.addEventListener("drop", (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  if (!event.dataTransfer.files.length) return rest();
  input.files = event.dataTransfer.files;
  send();
});
// Back from the next page.
addEventListener("pageshow", (event) => event.persisted && rest());
