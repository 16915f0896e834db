// Moments, which the hub writes in UTC, in the reader's zone: `<time datetime>` with what it shows in
// `data-time`. The title has the whole of it with the zone's name.

import { ago, clock } from "./figures.js";

const whole = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });
const two = (number) => String(number).padStart(2, "0");
const day = (moment) =>
  `${moment.getFullYear()}-${two(moment.getMonth() + 1)}-${two(moment.getDate())}`;

const SHOWN = {
  ago: (moment) => ago((Date.now() - moment) / 1000),
  /** The time of day, with the date where that is another day. */
  clock(moment) {
    const isToday = moment.toDateString() === new Date().toDateString();
    return `${isToday ? "" : `${day(moment)} `}${clock(moment / 1000, true)}`;
  },
  day,
  minute: (moment) => `${day(moment)} ${clock(moment / 1000)}`,
};

function show() {
  for (const time of document.querySelectorAll("time[data-time]")) {
    const moment = new Date(time.dateTime);
    const text = SHOWN[time.dataset.time](moment);
    if (time.textContent !== text) time.textContent = text;
    if (time.dataset.known === time.dateTime) continue;
    time.dataset.known = time.dateTime;
    time.title = whole.format(moment);
  }
  for (const place of document.querySelectorAll("[data-zone]"))
    place.textContent = whole.resolvedOptions().timeZone;
}

show();
document.addEventListener("htmx:afterSwap", show);
setInterval(show, 10_000);
