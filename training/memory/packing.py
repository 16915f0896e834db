"""Whether steps are faster with packed rows or with padded ones, counted from the lengths alone.

Both learn the same tokens, so what differs is what they compute besides: padding, the attention of longer
rows, and on the CPU the many small products of examples that attend separately.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from backends.base import TrainingConfig
from backends.schedule import WINDOW, balance, compiled_length, cut, cut_packed, divide, pack, rung
from registry.late import Late
from training.memory.estimate import AT_ONCE, STEP_TOKENS, Base

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = Late("numpy")

_WINDOWS = 4  # that are counted
_ALIKE = 0.05  # a smaller difference is within what steps differ
_PAIR_ON_CPU = 2.5
"""A token that looks at another takes so many times as long as its products alone would (2 cores,
2026-11: 0.23 µs for 576 values, forward and backward, beside 80 GFLOP/s in a layer's products)."""
_EXAMPLE_ON_CPU = 8e6
"""Operations of a forward pass that take as long as the small arrays of one packed example's attention in
a layer (0.3 ms, forward and backward)."""

_PIECE_ON_CPU = 3e8
"""And as long as it takes to make the graph of a layer for a piece of a batch (8 ms), beside which nothing
else computes."""


class _Example(NamedTuple):
    length: int


def gain(base: Base, config: TrainingConfig, lengths: NDArray[np.integer[Any]]) -> float:
    """How many times as fast steps are packed as padded, for examples of these `lengths`."""
    work = _Work(base, config)
    drawn = np.minimum(np.random.default_rng(0).permutation(lengths), config.max_seq_length)
    padded = sum(work.padded(batch) for batch in _batches(drawn, config, by_length=True))
    packed = sum(work.packed(batch) for batch in _batches(drawn, config, by_length=False))
    return padded / packed


def sentence(found: float, config: TrainingConfig) -> str:
    """What `gain` found, for a person who has chosen `config`."""
    if abs(found - 1) < _ALIKE:
        return "Packed or padded, steps take about as long with these lengths."
    less = f"{abs(1 - 1 / found):.0%}".replace("%", " %")
    if found > 1:
        advice = "" if config.packing else " Switch packing on."
        return f"With these lengths steps take about {less} less time packed than padded.{advice}"
    advice = " Switch packing off." if config.packing else ""
    return f"With these lengths steps take about {less} more time packed than padded.{advice}"


def _batches(
    drawn: NDArray[np.integer[Any]], config: TrainingConfig, *, by_length: bool
) -> Iterator[list[_Example]]:
    """Of some windows, in which padded batches get examples of like length (`backends.mlx.data.batching`)."""
    width = WINDOW * config.batch_size * config.grad_accumulation_steps
    for start in range(0, min(len(drawn), _WINDOWS * width), width):
        window = drawn[start : start + width]
        window = np.sort(window) if by_length else window
        for at in range(0, len(window), config.batch_size):
            yield [_Example(int(length)) for length in window[at : at + config.batch_size]]


class _Work:
    """Operations of the blocks of one layer; the head computes the same either way."""

    def __init__(self, base: Base, config: TrainingConfig) -> None:
        self._base, self._config = base, config
        size = base.size
        self._token = 2 * sum(inputs * outputs for inputs, outputs in size.projections.values())
        self._pair = 4 * size.hidden * (_PAIR_ON_CPU if base.on_cpu else 1)

    def padded(self, batch: Sequence[_Example]) -> float:
        if not self._base.on_cpu:
            longest = max(example.length for example in batch)
            return self._rows(len(batch), compiled_length(longest - 1))
        lanes = self._base.lanes
        return sum(
            _PIECE_ON_CPU
            + max(self._rows(len(lane), lane[-1].length) for lane in divide(piece, lanes))
            for piece in cut(batch, lanes, STEP_TOKENS // lanes)
        )

    def packed(self, batch: Sequence[_Example]) -> float:
        if not self._base.on_cpu:
            rows = pack(batch, self._config.max_seq_length)
            longest = max(sum(example.length - 1 for example in row) for row in rows)
            return self._rows(rung(len(rows)), compiled_length(longest))
        lanes = self._base.lanes
        return sum(
            _PIECE_ON_CPU + max(map(self._apart, balance(piece, lanes)))
            for piece in cut_packed(batch, lanes, STEP_TOKENS // lanes)
        )

    def _rows(self, count: int, length: int) -> float:
        return count * (length * self._token + self._pairs(length) * self._pair)

    def _apart(self, lane: Sequence[_Example]) -> float:
        """Of examples that share rows and attend each by itself."""
        rows = pack(lane, self._config.max_seq_length)
        longest = max(sum(example.length - 1 for example in row) for row in rows)
        pairs = sum(self._pairs(example.length) for example in lane)
        return len(rows) * longest * self._token + pairs * self._pair + len(lane) * _EXAMPLE_ON_CPU

    def _pairs(self, length: int) -> float:
        blocks = self._base.sparing and length > AT_ONCE
        return length * (length + 64) / 2 if blocks else length * length
