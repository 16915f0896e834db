// Numbers for a person, as hub/templatetags/display.py writes them: tests/pages/in_browser/test_figures.py runs
// the same values through both.

export function bytes(value) {
  if (value == null) return "–";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let step = 0;
  while (value >= 999.5 && step < 4) {
    value /= 1000;
    step += 1;
  }
  return `${Number(value.toPrecision(3))} ${units[step]}`;
}

/** Four significant digits: `0.3043`, `10,360`; very small numbers as `1e-05`. */
export function figure(value) {
  if (value == null) return "–";
  const [digits, power] = value.toExponential(3).split("e");
  if (power < -4) return `${Number(digits)}e-${power.slice(1).padStart(2, "0")}`;
  return grouped(Number(value.toPrecision(4)));
}

/** A whole number: `10,360`. */
export const whole = (value) => grouped(Math.round(value));

/** Commas between thousands from 10,000 on. */
function grouped(value) {
  return Math.abs(value) < 10_000
    ? String(value)
    : value.toLocaleString("en", { maximumFractionDigits: 0 });
}

export const loss = (value) => (value == null ? "–" : value.toPrecision(4));
export const percent = (value) => (value == null ? "–" : `${value.toFixed(0)} %`);

export function rate(value) {
  if (value == null) return "–";
  return value >= 100 ? Math.round(value).toLocaleString("en") : value.toFixed(1);
}

export function duration(seconds) {
  if (seconds == null) return "–";
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

/** How long ago something was: `3 min ago`. */
export function ago(seconds) {
  if (seconds < 5) return "just now";
  if (seconds < 60) return `${Math.floor(seconds)} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
  const days = Math.floor(seconds / 86400);
  return `${days} day${days > 1 ? "s" : ""} ago`;
}

export function clock(seconds, fine = false) {
  const moment = new Date(seconds * 1000);
  const parts = [moment.getHours(), moment.getMinutes(), ...(fine ? [moment.getSeconds()] : [])];
  return parts.map((part) => String(part).padStart(2, "0")).join(":");
}
