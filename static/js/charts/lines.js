// From the columns of one or several runs to what uPlot draws. In its data `undefined` is what was not
// measured at a step, across which the line goes, and `null` a gap, which stays one.

/** An exponential moving average with its start corrected, as TensorBoard and Weights & Biases have it:
 * `weight` of what came before, 0 to below 1. */
export function smoothed(values, weight) {
  let mean = 0;
  let known = 0;
  return values.map((value) => {
    if (value == null) return value;
    mean = mean * weight + value * (1 - weight);
    known = known * weight + (1 - weight);
    return mean / known;
  });
}

/** Values of a line by the row, without those that an axis cannot show. */
function values(column, line, columns, log) {
  const validated = columns.val_loss;
  return column.map((value, row) => {
    if (value == null) return line.sparse || validated?.[row] != null ? undefined : null;
    return log && value <= 0 ? undefined : value;
  });
}

/** What is drawn of `runs`, each { label, columns }: `x`, and entries with a raw line and, where the
 * reader wants it, a smoothed one and the least and most of each bucket. */
export function entriesOf(runs, kind, { smoothing, log }) {
  const many = runs.length > 1;
  const x = many
    ? [...new Set(runs.flatMap(({ columns }) => columns[kind.x]))].sort((a, b) => a - b)
    : [...runs[0].columns[kind.x]];
  const place = new Map(many ? x.map((value, index) => [value, index]) : []);
  const spread = (own, at) => {
    if (!many) return own;
    const wide = new Array(x.length).fill(undefined);
    at.forEach((value, row) => {
      wide[place.get(value)] = own[row];
    });
    return wide;
  };
  const entries = runs.flatMap(({ label, columns, number }) =>
    kind.lines.flatMap((line) => {
      const column = columns[line.key];
      if (!column || column.every((value) => value == null)) return [];
      const raw = values(column, line, columns, log && kind.log);
      const at = columns[kind.x];
      const bounds = ["low", "high"].map((side) => columns[side]?.[line.key]);
      const entry = {
        ...line,
        raw: spread(raw, at),
        smooth:
          line.noisy && smoothing > 0 && raw.length > 2
            ? spread(smoothed(raw, smoothing), at)
            : null,
        bounds: bounds.every(Boolean)
          ? bounds.map((bound) => spread(values(bound, line, columns, log && kind.log), at))
          : null,
      };
      if (!many) return [entry];
      const what = kind.lines.length > 1 ? ` ${line.label.toLowerCase()}` : "";
      const look = {
        colour: `--series-${number + 1}`,
        dash: line.points ? [5, 4] : undefined,
        bounds: null,
      };
      return [{ ...entry, ...look, label: `${label}${what}` }];
    }),
  );
  return { x, entries };
}
