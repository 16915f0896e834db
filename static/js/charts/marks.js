// The best validation as a ring, and the steps at which a checkpoint was saved as triangles on the axis.

const APART = 9; // pixels; closer triangles would be a bar

/** The steps of saved checkpoints between `low` and `high`, if they can be told apart in `width`. */
export function checkpoints({ every, last }, low, high, width) {
  if (!last) return [];
  const steps = [];
  if (every && ((high - low) / every) * APART <= width)
    for (let step = Math.ceil(low / every) * every; step <= Math.min(high, last); step += every)
      if (step > 0) steps.push(step);
  if (last >= low && last <= high && steps.at(-1) !== last) steps.push(last);
  return steps;
}

export function marks(chart) {
  function draw(plot) {
    const { ctx, bbox } = plot;
    const dot = devicePixelRatio;
    const { min, max } = plot.scales.x;
    ctx.save();
    ctx.setLineDash([]);
    for (const { best, stroke, show } of chart.bests(plot)) {
      if (!show || best.iteration < min || best.iteration > max) continue;
      const x = plot.valToPos(best.iteration, "x", true);
      const y = plot.valToPos(best.val_loss, "y", true);
      if (y < bbox.top - 1 || y > bbox.top + bbox.height + 1) continue;
      ctx.strokeStyle = stroke;
      ctx.fillStyle = chart.ground;
      ctx.lineWidth = 2 * dot;
      ctx.beginPath();
      ctx.arc(x, y, 5 * dot, 0, 2 * Math.PI);
      ctx.fill();
      ctx.stroke();
    }
    const saved = chart.runs[0]?.feed.marks?.checkpoints;
    ctx.fillStyle = chart.muted;
    for (const step of saved ? checkpoints(saved, min, max, bbox.width / dot) : []) {
      const x = plot.valToPos(step, "x", true);
      const y = bbox.top + bbox.height;
      ctx.beginPath();
      ctx.moveTo(x, y - 7 * dot);
      ctx.lineTo(x + 4 * dot, y);
      ctx.lineTo(x - 4 * dot, y);
      ctx.fill();
    }
    ctx.restore();
  }
  return { hooks: { draw } };
}
