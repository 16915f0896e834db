"""Which examples a step sees, and their layout in arrays.

The order is a pure function of (seed, iteration), so a resumed run needs no stored position. A
step takes `batch_size * grad_accumulation_steps` examples of like length and works through them
batch by batch: the same examples, whatever the number of batches they are divided into.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends.base import TrainingConfig
from backends.mlx.data.examples import Example
from backends.schedule import (
    WINDOW,
    compiled_length,
    compiled_targets,
    examples_per_step,
    pack,
    rung,
)

_EVAL_ROWS, EVAL_TOKENS = 16, 8192  # most of an evaluation batch; affects speed and memory alone

type Span = tuple[int, int]
type Shape = tuple[int, int, int]  # rows, their length, targets
type Padding = Callable[[Shape, bool], Shape]
"""The shape that a batch gets, from the one it needs and whether its rows are packed."""


def multiples(unit: int) -> Padding:
    """Lengths and targets become multiples of `unit`."""

    def padded(shape: Shape, packed: bool) -> Shape:
        rows, length, targets = shape
        return rows, -(-length // unit) * unit, -(-targets // unit) * unit

    return padded


def ladder(shape: Shape, packed: bool) -> Shape:
    """One of few shapes, because a GPU compiles a graph for each and keeps it for good: lengths (and
    the rows of packed batches) are rungs, targets an eighth, a quarter, a half, three quarters or all
    of the tokens.

    Counted on 2,000 log-normal lengths (median 400, up to 2,048; batches of 4): 47 shapes instead of
    621 with multiples of 32, for 8 % more work (benchmarks/shapes.py).
    """
    rows, length, targets = shape
    rows = rung(rows) if packed else rows
    length = compiled_length(length)
    return rows, length, compiled_targets(rows * length, targets)


@dataclass(frozen=True)
class Batch:
    """Padded rows. `positions` index the flattened `[rows * length]` outputs that are judged.

    `inputs` is `[rows, length]`; `positions`, `targets`, `weights` and `owners` are
    `[n]`: a weight is 0 on padding,
    an owner is the example (from 0) that the target belongs to. In packed rows `segments`
    `[rows, length]` numbers the example of each token, −1 on padding, and `spans` has the same as
    (start, end) of each run, by row.
    """

    inputs: NDArray[np.int32]
    positions: NDArray[np.int32]
    targets: NDArray[np.int32]
    weights: NDArray[np.float32]
    owners: NDArray[np.int32]
    tokens: int  # unpadded inputs
    judged: int  # targets that count
    segments: NDArray[np.int32] | None = None
    spans: tuple[tuple[Span, ...], ...] = ()


# ---------------------------------------------------------------- order


class Order:
    """Which examples, of the given `lengths`, each optimizer step learns from. The epoch at hand is
    kept: to shuffle a million examples takes as long as a step."""

    def __init__(
        self, lengths: Sequence[int] | NDArray[np.integer[Any]], config: TrainingConfig
    ) -> None:
        self._lengths = np.asarray(lengths)
        self._batch, self._size = config.batch_size, examples_per_step(config)
        self._seed, self._by_length = config.seed, not config.packing
        self._epoch = -1
        self._starts = array("I")  # of each step, in the epoch's order
        self._order = np.empty(0, np.uint32)

    def batches(self, iteration: int) -> list[list[int]]:
        """The examples of the optimizer step `iteration` (from 1), by batch."""
        indices = self.step(iteration)
        return [indices[at : at + self._batch] for at in range(0, len(indices), self._batch)]

    def step(self, iteration: int) -> list[int]:
        """The examples of the step: `batch_size * grad_accumulation_steps`, fewer at an epoch's end."""
        epoch, index = divmod(iteration - 1, -(-len(self._lengths) // self._size))
        if epoch != self._epoch:
            self._shuffle(epoch)
        start = self._starts[index]
        found: list[int] = self._order[start : start + self._size].tolist()
        return found

    def _shuffle(self, epoch: int) -> None:
        """Every example once: shuffled, then sorted by length within windows to save padding."""
        draw = random.Random(f"{self._seed}/{epoch}")  # noqa: S311 (an order, not a secret)
        shuffled = array("I", range(len(self._lengths)))
        draw.shuffle(shuffled)
        self._order, self._epoch = np.frombuffer(shuffled, np.uint32), epoch
        self._starts = array("I")
        width = self._size * WINDOW
        for at in range(0, len(shuffled), width):
            window = self._order[at : at + width]
            if self._by_length:
                window[:] = window[np.argsort(self._lengths[window], kind="stable")]
            starts = list(range(at, at + len(window), self._size))
            draw.shuffle(starts)
            self._starts.extend(starts)


def sequential(
    lengths: Sequence[int] | NDArray[np.integer[Any]], most_tokens: int = EVAL_TOKENS
) -> Iterator[list[int]]:
    """All examples of the given lengths once, shortest first, in batches for evaluation."""
    batch: list[int] = []
    most = min(EVAL_TOKENS, most_tokens)
    for index in np.argsort(lengths, kind="stable").tolist():
        if len(batch) == _EVAL_ROWS or (len(batch) + 1) * lengths[index] > most:
            if batch:
                yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


# ---------------------------------------------------------------- arrays


def make_batch(examples: Sequence[Example], padding: Padding) -> Batch:
    """Pad `examples` on the right, one a row."""
    rows = [[example] for example in examples]
    return _filled(rows, padding(_shape(rows), False))


def make_packed(examples: Sequence[Example], padding: Padding, capacity: int) -> Batch:
    """`examples` in as few rows of at most `capacity` tokens as first-fit finds."""
    rows = pack(examples, capacity)
    return _filled(rows, padding(_shape(rows), True))


def _shape(rows: Sequence[Sequence[Example]]) -> Shape:
    """Without padding."""
    length = max(sum(example.length - 1 for example in row) for row in rows)
    return len(rows), length, sum(example.judged for row in rows for example in row)


def _filled(rows: Sequence[Sequence[Example]], shape: Shape) -> Batch:
    """`rows` in arrays of `shape`, whose last rows may stay empty."""
    count, length, targeted = shape
    packed = any(len(row) > 1 for row in rows)
    rows = [*rows, *[()] * (count - len(rows))]
    inputs = np.zeros((count, length), np.int32)
    segments = np.full((count, length), -1, np.int32)
    positions: list[int] = []
    targets: list[int] = []
    owners: list[int] = []
    spans: list[tuple[Span, ...]] = []
    number = 0
    for row, examples in enumerate(rows):
        end, spanned = 0, []
        for example in examples:
            start, end = end, end + example.length - 1
            inputs[row, start:end] = example.tokens[:-1]
            segments[row, start:end] = number
            spanned.append((start, end))
            at = row * length + start
            for first, last in example.learned:
                positions.extend(range(at + first - 1, at + last - 1))
                targets.extend(example.tokens[first:last])
            owners.extend([number] * example.judged)
            number += 1
        if end < length:
            spanned.append((end, length))
        spans.append(tuple(spanned))
    padding = [0] * (targeted - len(positions))
    return Batch(
        inputs=inputs,
        positions=np.array(positions + padding, np.int32),
        targets=np.array(targets + padding, np.int32),
        weights=np.array([1.0] * len(positions) + [0.0] * len(padding), np.float32),
        owners=np.array(owners + padding, np.int32),
        tokens=sum(example.length - 1 for row in rows for example in row),
        judged=len(positions),
        segments=segments if packed else None,
        spans=tuple(spans) if packed else (),
    )
