"""Gradient checkpointing: a block's activations are computed again when the backward pass needs
them, so that only the blocks' inputs stay in memory.

mlx-lm patches the layer's class, and with it every model of the process; here each block of one
model gets a class of its own.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx

from backends.mlx.dropout import Keys


def recompute(model: Any, keys: Keys) -> None:
    """Let the blocks of `model` forget their activations. Its dropout draws from `keys`."""
    classes: dict[type, type] = {}
    for layer in model.layers:
        kind = type(layer)
        if kind not in classes:
            classes[kind] = type(kind.__name__, (kind,), {"__call__": _recomputed(kind, keys)})
        layer.__class__ = classes[kind]


def _recomputed(kind: Any, keys: Keys) -> Any:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        place = keys.place

        def inner(parameters: Any, *args: Any, **kwargs: Any) -> Any:
            keys.place = place  # dropout has to drop the same the second time
            self.update(parameters)
            return kind.__call__(self, *args, **kwargs)

        parameters = self.trainable_parameters()
        out = mx.checkpoint(inner)(parameters, *args, **kwargs)
        self.update(parameters)
        return out

    return call
