"""Dropout whose masks follow from a key of the trainer, not from MLX's global state.

The global state cannot be reset, but an activation that is computed twice (see `remat`) needs the
same mask both times.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn

nn: Any = mlx.nn  # MLX types its core only


class Keys:
    """A forward pass's keys, one for each mask; one object for all layers of a model.

    `place` counts the masks taken. Resetting it draws the same ones again.
    """

    def __init__(self) -> None:
        self.masks = 0  # in one forward pass
        self.place = 0
        self._keys = mx.zeros((1, 2), mx.uint32)

    def begin(self, key: mx.array, passes: int) -> None:
        """Start over from `key`, for this number of forward passes."""
        self.place = 0
        self._keys = mx.random.split(key, max(1, self.masks * passes))

    def take(self) -> mx.array:
        taken = self._keys[self.place]
        self.place += 1
        return taken


class KeyedDropout(nn.Module):  # type: ignore[misc]
    def __init__(self, p: float, keys: Keys) -> None:
        super().__init__()
        self._kept, self._keys = 1 - p, keys

    def __call__(self, x: mx.array) -> mx.array:
        if not self.training:
            return x
        mask = mx.random.bernoulli(self._kept, x.shape, key=self._keys.take())
        return (mask * x).astype(x.dtype) * (1 / self._kept)


def key_dropout(model: Any, p: float, keys: Keys) -> None:
    """Make the adapted layers of `model` draw from `keys`."""
    for _, module in model.named_modules():
        if p > 0 and isinstance(getattr(module, "dropout", None), nn.Dropout):
            module.dropout = KeyedDropout(p, keys)
            keys.masks += 1
