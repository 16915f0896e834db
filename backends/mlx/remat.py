"""Gradient checkpointing: a block's activations are computed again when the backward pass needs
them, so that only the blocks' inputs stay in memory.

mlx-lm patches the layer's class, and with it every model of the process; here each block of one
model gets a class of its own.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx


def recompute(model: Any) -> None:
    """Let the blocks of `model` forget their activations."""
    classes: dict[type, type] = {}
    for layer in model.layers:
        kind = type(layer)
        if kind not in classes:
            classes[kind] = type(kind.__name__, (kind,), {"__call__": _recomputed(kind)})
        layer.__class__ = classes[kind]


def _recomputed(kind: Any) -> Any:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        def inner(parameters: Any, key: mx.array, *args: Any, **kwargs: Any) -> Any:
            # Dropout has to drop the same the second time.
            state[0] = key
            self.update(parameters)
            return kind.__call__(self, *args, **kwargs)

        state: Any = mx.random.state
        parameters = self.trainable_parameters()
        out = mx.checkpoint(inner)(parameters, state[0], *args, **kwargs)
        self.update(parameters)
        return out

    return call
