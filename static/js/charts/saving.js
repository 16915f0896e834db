// A chart as a picture and as a table.

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** `loss-training-9.png`: the chart's name and the page's address. */
function nameOf(chart, ending) {
  const words = [chart.element.dataset.chart, ...location.pathname.split("/")];
  return `${words.filter(Boolean).join("-")}.${ending}`;
}

/** What the chart shows now, with the names of its lines below it. */
export function savePicture(chart) {
  const { canvas } = chart.plot.ctx;
  const dot = devicePixelRatio;
  const line = 20 * dot;
  const picture = document.createElement("canvas");
  const pen = picture.getContext("2d");
  const font = `${12 * dot}px ${getComputedStyle(document.body).fontFamily}`;
  pen.font = font;
  const places = [];
  let [left, row] = [10 * dot, 0];
  for (const entry of chart.entries) {
    const wide = pen.measureText(entry.label).width + 32 * dot;
    if (left + wide > canvas.width && left > 10 * dot) [left, row] = [10 * dot, row + 1];
    places.push([entry, left, row]);
    left += wide;
  }
  picture.width = canvas.width;
  picture.height = canvas.height + (row + 1) * line + 8 * dot;
  pen.fillStyle = chart.ground;
  pen.fillRect(0, 0, picture.width, picture.height);
  pen.drawImage(canvas, 0, 0);
  pen.font = font;
  pen.textBaseline = "middle";
  for (const [entry, from, below] of places) {
    const middle = canvas.height + (below + 0.5) * line;
    pen.fillStyle = entry.stroke;
    pen.fillRect(from, middle - 5 * dot, 10 * dot, 10 * dot);
    pen.fillStyle = chart.muted;
    pen.fillText(entry.label, from + 16 * dot, middle);
  }
  picture.toBlob((blob) => save(blob, nameOf(chart, "png")));
}

const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

/** The values that the chart shows now, unsmoothed; a bucket of a long run with its least and most. */
export function tableOf(chart) {
  const { min, max } = chart.plot.scales.x;
  const columns = chart.entries.flatMap((entry) => [
    [entry.label, entry.raw],
    ...(entry.bounds?.map((bound, side) => [`${entry.label} ${side ? "most" : "least"}`, bound]) ??
      []),
  ]);
  const lines = [[chart.kind.x, ...columns.map(([label]) => quoted(label))].join()];
  chart.plot.data[0].forEach((x, row) => {
    if (x < min || x > max) return;
    lines.push([x, ...columns.map(([, values]) => values[row] ?? "")].join());
  });
  return `${lines.join("\n")}\n`;
}

export function saveTable(chart) {
  save(new Blob([tableOf(chart)], { type: "text/csv" }), nameOf(chart, "csv"));
}
