// A notification on the desktop when a training job ends whose page is open, asked for once by a button
// and kept in this browser.

const KEPT = "notify";
const isOffered = "Notification" in window && isSecureContext;

const isOn = () =>
  isOffered && Notification.permission === "granted" && localStorage.getItem(KEPT) === "on";

function show() {
  for (const button of document.querySelectorAll("[data-notify]")) {
    // A browser that blocks them offers no way back from here.
    button.hidden = !isOffered || Notification.permission === "denied";
    button.setAttribute("aria-pressed", String(isOn()));
    button.textContent = isOn() ? "Notifications on" : button.dataset.notify;
  }
}

document.addEventListener("click", async ({ target }) => {
  if (!target.closest?.("[data-notify]")) return;
  if (isOn()) localStorage.removeItem(KEPT);
  else if ((await Notification.requestPermission()) === "granted") localStorage.setItem(KEPT, "on");
  show();
});
document.addEventListener("htmx:afterSwap", show);
show();

/** Say it on the desktop, if the person asked for that; a click leads to this page. */
export function notify(title, body) {
  if (!isOn()) return;
  const shown = new Notification(title, { body, tag: location.pathname });
  shown.addEventListener("click", () => {
    window.focus();
    shown.close();
  });
}

/* ------------------------------------------------------- the job of this page */
// A hidden tab gives its stream of events back (feed.js), so it asks now and then how the job stands.
const EVERY_MS = 5000;
const job = document.querySelector("[data-job]")?.dataset;
let isOver = !job || "over" in job;

function ended(status) {
  if (isOver) return;
  isOver = true;
  const words = { completed: "is completed", failed: "has failed", cancelled: "was cancelled" };
  if (document.hidden || !document.hasFocus())
    notify(`Job ${job.job} ${words[status] ?? "has ended"}`, job.about);
}

async function look() {
  if (isOver) return;
  if (document.hidden && isOn()) {
    try {
      const answer = await fetch(job.api, { headers: { Accept: "application/json" } });
      const { status } = answer.ok ? await answer.json() : {};
      if (status && !["queued", "running"].includes(status)) ended(status);
    } catch {
      // The hub is away; connection.js says so when the tab is shown again.
    }
  }
  setTimeout(look, EVERY_MS);
}
document.addEventListener("job:end", ({ detail }) => ended(detail.status));
setTimeout(look, EVERY_MS);
