// The kinds of charts by the name in data-chart: their axis, lines and numbers.

import { bytes, figure, loss, percent, rate } from "../figures.js";

/** A small chart of one measurement over the steps. */
function single(key, label, shade, format, more = {}) {
  const lines = [{ key, label, colour: shade, ...more }];
  return { x: "iteration", height: 150, format, lines, empty: "Not measured yet." };
}

const losses = (empty) => ({
  x: "iteration",
  height: 300,
  format: loss,
  log: true,
  legend: true,
  marks: true,
  empty,
  lines: [
    { key: "train_loss", label: "Train", colour: "--series-1", noisy: true },
    { key: "val_loss", label: "Validation", colour: "--series-2", points: true, sparse: true },
  ],
});

const machine = (format, lines, more = {}) => ({
  x: "time",
  height: 150,
  format,
  legend: true,
  empty: "No samples yet. The sampler takes one every few seconds.",
  lines,
  ...more,
});

export const KINDS = {
  curves: losses("These versions have no recorded loss."),
  loss: losses("No loss measured yet."),
  learning_rate: single("learning_rate", "Learning rate", "--series-3", figure),
  grad_norm: {
    ...single("grad_norm", "Gradient norm", "--series-4", figure, { noisy: true }),
    log: true,
  },
  tokens: single("tokens_per_second", "Tokens/s", "--series-7", rate, { noisy: true }),
  peak: single("peak_memory_bytes", "Peak memory", "--series-6", bytes),
  cpu: machine(
    percent,
    [
      { key: "cpu", label: "Processor", colour: "--series-1", fill: true },
      { key: "gpu", label: "GPU", colour: "--series-3" },
    ],
    { range: [0, 100] },
  ),
  memory: machine(bytes, [
    { key: "memory", label: "Used", colour: "--series-1", fill: true },
    { key: "engine", label: "Engine", colour: "--series-3" },
    { key: "training", label: "Training", colour: "--series-2" },
  ]),
};
