// Numbers for a person. Keep in step with hub/templatetags/display.py.

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

export const figure = (value) => (value == null ? "–" : String(Number(value.toPrecision(4))));
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

export function clock(seconds, fine = false) {
  const moment = new Date(seconds * 1000);
  const parts = [moment.getHours(), moment.getMinutes(), ...(fine ? [moment.getSeconds()] : [])];
  return parts.map((part) => String(part).padStart(2, "0")).join(":");
}
