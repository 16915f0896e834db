// The values of all lines at the cursor: beside the pointer, and read out when it is moved by keys.

/** Each line's measured value nearest to the cursor, as [entry, text, more]. */
function valuesAt(plot, chart) {
  return chart.entries.flatMap((entry) => {
    const at = plot.cursor.idxs[entry.at];
    if (at == null || !plot.series[entry.at].show) return [];
    const value = entry.raw[at];
    if (value == null) return [];
    const { format } = chart.kind;
    const notes = [];
    if (at !== plot.cursor.idx) notes.push(chart.place(plot.data[0][at]));
    if (entry.smooth?.[at] != null) notes.push(`smoothed ${format(entry.smooth[at])}`);
    const [low, high] = entry.bounds?.map((bound) => bound[at]) ?? [];
    if (low != null && low !== high) notes.push(`${format(low)} to ${format(high)}`);
    return [[entry, format(value), notes.join(", ")]];
  });
}

export function spoken(plot, chart) {
  const { idx } = plot.cursor;
  if (idx == null) return "";
  const values = valuesAt(plot, chart).map(([entry, text]) => `${entry.label} ${text}`);
  return `${chart.place(plot.data[0][idx])}: ${values.join(", ") || "nothing measured"}.`;
}

export function tooltip(chart) {
  const tip = document.createElement("div");
  tip.className = "chart-tip";
  tip.hidden = true;
  const part = (name, text, className = "") => {
    const made = document.createElement(name);
    made.textContent = text;
    made.className = className;
    return made;
  };
  function row([entry, text, notes]) {
    const made = part("p", "");
    const swatch = part("i", "");
    swatch.style.background = entry.stroke;
    made.append(swatch, part("span", entry.label, "muted"), part("b", text));
    if (notes) made.append(part("small", notes, "muted"));
    return made;
  }
  function move(plot) {
    const { left, top, idx } = plot.cursor;
    const values = idx == null || left < 0 ? [] : valuesAt(plot, chart);
    const [[, first] = []] = values;
    chart.read.textContent = first && chart.runs.length === 1 ? first : "";
    tip.hidden = !values.length || !chart.isPointed;
    if (tip.hidden) return;
    tip.replaceChildren(part("p", chart.place(plot.data[0][idx]), "strong"), ...values.map(row));
    const { clientWidth: width, clientHeight: height } = plot.over;
    const beside = left + 14 + tip.offsetWidth > width ? left - tip.offsetWidth - 14 : left + 14;
    const below = Math.min(Math.max(0, top - tip.offsetHeight / 2), height - tip.offsetHeight);
    tip.style.transform = `translate(${Math.max(-40, beside)}px, ${Math.max(-20, below)}px)`;
  }
  return { hooks: { init: (plot) => plot.over.append(tip), setCursor: move } };
}
