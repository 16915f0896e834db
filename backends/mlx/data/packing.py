"""Several examples in one row that do not attend to each other.

mlx-lm's models ask the prompt cache for the attention mask, so a row's examples are kept apart
by a cache without content. Rotary positions continue over a row's examples: attention depends on
their differences alone, so each example computes what it would at position 0. Whether that holds
for a model (its mask, its positions, its layers between tokens) is tested before training.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np

from backends.base import UnsupportedModel
from backends.mlx.data.batching import Span


class Segments:
    """Takes the place of each layer's cache for one forward pass.

    `numbers` `[rows, length]` is the example of each token; `spans`, where given, are the same as
    (start, end) by row, for an attention that computes each example by itself.
    """

    offset = 0

    def __init__(self, numbers: mx.array, spans: tuple[tuple[Span, ...], ...] = ()) -> None:
        self.numbers = numbers
        self.spans = spans

    def make_mask(
        self, length: int, return_array: bool = False, window_size: int | None = None
    ) -> mx.array:
        """True where attention may look, `[rows, 1, length, length]`."""
        at = mx.arange(length)
        allowed = at[:, None] >= at[None]
        if window_size is not None:
            allowed = allowed & (at[:, None] < at[None] + window_size)
        same = self.numbers[:, :, None] == self.numbers[:, None, :]
        return (same & allowed)[:, None]

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        return keys, values


def check_keeps_apart(model: Any) -> None:
    """Raises UnsupportedModel unless `model` computes packed examples as it does single ones."""
    draw = np.random.default_rng(0)
    one, two = (mx.array(draw.integers(10, 200, (1, length))) for length in (9, 7))
    numbers = mx.array([[0] * 9 + [1] * 7])
    try:
        cache = [Segments(numbers, (((0, 9), (9, 16)),)) for _ in model.layers]
        packed = model(mx.concatenate([one, two], axis=1), cache=cache)
        alone = mx.concatenate([model(one), model(two)], axis=1)
        difference = mx.linalg.norm((packed - alone).astype(mx.float32))
        error = (difference / mx.linalg.norm(alone.astype(mx.float32))).item()
        exact = alone.dtype == mx.float32 and error < 1e-3  # type: ignore[operator]
        apart = exact or (alone.dtype != mx.float32 and error < 0.03)  # type: ignore[operator]
    except (TypeError, ValueError, AttributeError, IndexError, KeyError, RuntimeError):
        apart = False
    if not apart:
        raise UnsupportedModel(
            f"Models of the architecture {model.model_type} cannot keep packed examples apart; "
            "switch packing off."
        )
