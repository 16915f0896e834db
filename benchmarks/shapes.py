"""How many graphs a GPU compiles for the steps of a run, and what their padding costs.

    uv run python -m benchmarks.shapes

Counts over three epochs of 2,000 chats with log-normal lengths, of which 20 to 80 % are answers. Work
is counted in tokens: the head, a quarter of a small model's work, computes the answers' tokens only.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from backends.base import TrainingConfig
from backends.mlx.data.batching import Order, Padding, ladder, multiples

CHATS, EPOCHS, HEAD = 2000, 3, 0.25
DATA = ((150, 0.7, 2048), (400, 0.9, 2048), (1500, 0.8, 8192))  # median, spread, longest
WAYS: dict[str, Padding] = {"multiples of 32": multiples(32), "ladder": ladder}


def main() -> None:
    print("| median tokens | batch | padding | shapes | extra tokens | extra work |")
    print("|---|---|---|---|---|---|")
    for median, spread, longest in DATA:
        draw = np.random.default_rng(0)
        lengths = draw.lognormal(math.log(median), spread, CHATS).astype(int) + 8
        lengths = np.minimum(lengths, longest)
        answers = (lengths * draw.uniform(0.2, 0.8, CHATS)).astype(int)
        for size in (4, 8):
            config = TrainingConfig(batch_size=size, max_seq_length=longest)
            for name, padding in WAYS.items():
                found = _count(lengths, answers, config, padding)
                print(
                    f"| {median} | {size} | {name} | {found[0]} | {found[1]:.1%} | {found[2]:.1%} |"
                )


def _count(
    lengths: NDArray[np.int64],
    answers: NDArray[np.int64],
    config: TrainingConfig,
    padding: Padding,
) -> tuple[int, float, float]:
    """Shapes; tokens and work beyond those of batches padded to their longest row."""
    order, shapes = Order(lengths, config), set()
    tokens, work = np.zeros(2), np.zeros(2)
    for iteration in range(1, EPOCHS * CHATS // config.batch_size + 1):
        chosen = order.step(iteration)
        needed = (len(chosen), int(lengths[chosen].max()) - 1, int(answers[chosen].sum()))
        given = padding(needed, False)
        shapes.add(given)
        for place, (rows, length, targets) in enumerate((needed, given)):
            tokens[place] += rows * length
            work[place] += rows * length * (1 - HEAD) + targets * HEAD
    return len(shapes), tokens[1] / tokens[0] - 1, work[1] / work[0] - 1


if __name__ == "__main__":
    main()
