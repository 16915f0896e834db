// A form with a plan beside it: what the plan finds wrong with a field is shown and marked at the field,
// too, and a button that is not available leads there.

const form = document.querySelector("#plan")?.closest("form");

/** The line below a field that says what is wrong with it: the one there is, or a new one. */
function line(input) {
  const id = `${input.id}_error`;
  const found = document.getElementById(id);
  if (found) return found;
  const made = document.createElement("p");
  Object.assign(made, { id, className: "error" });
  const field = input.closest(".field");
  field.insertBefore(made, field.querySelector(".help"));
  return made;
}

function describe(input, has) {
  const ids = new Set((input.getAttribute("aria-describedby") ?? "").split(" ").filter(Boolean));
  if (has) ids.add(`${input.id}_error`);
  else ids.delete(`${input.id}_error`);
  input.setAttribute("aria-describedby", [...ids].join(" "));
}

function unmark(input) {
  document.getElementById(`${input.id}_error`)?.remove();
  input.removeAttribute("aria-invalid");
  input.closest(".field")?.removeAttribute("data-invalid");
  describe(input, false);
}

function mark() {
  const problems = new Map();
  for (const problem of form.querySelectorAll("#plan [data-field]:not([data-field=''])"))
    problems.set(problem.dataset.field, problem.querySelector("[data-message]").textContent);
  for (const input of form.querySelectorAll("[aria-invalid]"))
    if (!problems.has(input.id)) unmark(input);
  for (const [id, message] of problems) {
    const input = document.getElementById(id);
    if (!input) continue;
    line(input).textContent = message;
    input.setAttribute("aria-invalid", "true");
    input.closest(".field").dataset.invalid = "";
    describe(input, true);
  }
}

function lead(event) {
  if (!event.submitter?.matches("[aria-disabled='true']")) return;
  event.preventDefault();
  const first = form.querySelector("[aria-invalid]");
  first?.closest("details")?.setAttribute("open", "");
  first?.focus();
}

document.addEventListener("htmx:afterSettle", ({ detail }) => {
  if (form && detail.target.id === "plan") mark();
});
form?.addEventListener("submit", lead);
form?.addEventListener("keydown", (event) => {
  // Enter searches among the rows; it does not send the form.
  if (event.key === "Enter" && event.target.matches("[data-find]")) event.preventDefault();
});
