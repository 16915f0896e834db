"""What a training step holds in memory: when a block's activations are freed, and whether they are
kept for the backward pass at all.

MLX orders a step's graph by its depth below the results. The gradients of all blocks' weights are
results, so MLX would compute them last and until then hold their inputs: every block's activations
and their gradients. Here a block passes on the gradient of its input only after it has those of its
own weights.

With gradient checkpointing only the blocks' inputs are kept, and a block is computed again when the
backward pass reaches it. mlx-lm patches the layer's class for that, and with it every model of the
process; here each block of one model gets a class of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten, tree_unflatten

from backends.mlx.kernels.custom import custom
from backends.mlx.training.dropout import Keys


def keep_little(model: Any, keys: Keys, *, recompute: bool) -> None:
    """Make the blocks of `model` free their activations early, or with `recompute` not keep them.
    Its dropout draws from `keys`."""
    classes: dict[type, type] = {}
    for layer in model.layers:
        kind = type(layer)
        if kind not in classes:
            call = _called(kind, keys, _recomputed if recompute else _in_order)
            classes[kind] = type(kind.__name__, (kind,), {"__call__": call})
        layer.__class__ = classes[kind]


type Block = Callable[..., Any]


def _called(
    kind: Any, keys: Keys, run: Callable[[Block, list[mx.array], list[mx.array]], Any]
) -> Any:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not self.training:
            return kind.__call__(self, *args, **kwargs)
        place = keys.place
        parameters = self.trainable_parameters()
        trained: list[Any] = list(tree_flatten(parameters))
        names = [name for name, _ in trained]
        at = [n for n, value in enumerate(args) if _has_gradient(value)]
        named = [name for name, value in kwargs.items() if _has_gradient(value)]

        def block(*arrays: mx.array) -> Any:
            keys.place = place  # dropout has to drop the same the second time
            rest = iter(arrays)
            self.update(tree_unflatten([(name, next(rest)) for name in names]))
            given = [next(rest) if n in at else value for n, value in enumerate(args)]
            return kind.__call__(self, *given, **{**kwargs, **{n: next(rest) for n in named}})

        inputs = [args[n] for n in at] + [kwargs[name] for name in named]
        out = run(block, [array for _, array in trained], inputs)
        self.update(parameters)
        return out

    return call


def _in_order(block: Block, weights: list[mx.array], inputs: list[mx.array]) -> Any:
    count = len(weights)
    if not count:
        return block(*inputs)

    def gradient(_primals: Any, cotangents: Any, _outputs: Any) -> Any:
        return _after_weights(cotangents, count)

    passed = custom(lambda *arrays: arrays, gradient)(*weights, *inputs)
    return block(*passed)


def _recomputed(block: Block, weights: list[mx.array], inputs: list[mx.array]) -> Any:
    count = len(weights)

    def gradient(primals: Any, cotangents: Any, _outputs: Any) -> Any:
        # Not before the gradient of the result is there, which may be long after the result.
        later = mx.depends(_many(primals), _many(cotangents))
        _, found = mx.vjp(lambda *arrays: _many(block(*arrays)), later, _many(cotangents))
        return _after_weights(found, count)

    return custom(block, gradient)(*weights, *inputs)


def _after_weights(gradients: Sequence[mx.array], count: int) -> tuple[mx.array, ...]:
    """`gradients`, of which those behind the first `count` wait for these."""
    own, passed_on = list(gradients[:count]), list(gradients[count:])
    if own and passed_on:
        passed_on = mx.depends(passed_on, own)
    return (*own, *passed_on)


def _has_gradient(value: Any) -> bool:
    """Not a boolean mask, a cache or a string."""
    return isinstance(value, mx.array) and mx.issubdtype(value.dtype, mx.inexact)


def _many(arrays: Any) -> list[mx.array]:
    return [arrays] if isinstance(arrays, mx.array) else list(arrays)
