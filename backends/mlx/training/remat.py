"""What a training step holds in memory: when a block's activations are freed, and whether they are
kept for the backward pass at all.

MLX orders a step's graph by its depth below the results. The gradients of all blocks' weights are
results, so MLX would compute them last and until then hold their inputs: every block's activations
and their gradients. Here a block passes on the gradient of its input only after it has those of its
own weights.

On the CPU a block keeps what its matrix products gave and computes again what is cheap: norms, the
activation of the MLP and the attention's scores. MLX computes only what a result depends on, so where
a piece of a block is computed again for the gradients of its weights and inputs, its own products, on
which no gradient depends, are left out.

With gradient checkpointing only the blocks' inputs are kept, and a block is computed again when the
backward pass reaches it. mlx-lm patches the layer's class for that, and with it every model of the
process; here each block of one model gets a class of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
import mlx.nn
from mlx.utils import tree_flatten, tree_unflatten

from backends.mlx.kernels.custom import custom
from backends.mlx.kernels.quick import QuickAttention, QuickMLP, swiglu
from backends.mlx.training.dropout import Keys
from backends.mlx.training.lora import FusedLoRALinear

nn: Any = mlx.nn  # MLX types its core only


def keep_little(model: Any, keys: Keys, *, recompute: bool) -> None:
    """Make the blocks of `model` free their activations early, or with `recompute` not keep them.
    Its dropout draws from `keys`."""
    classes: dict[tuple[type, bool], type] = {}
    for layer in model.layers:
        kind, sparing = type(layer), not recompute and _can_spare(layer)
        if (kind, sparing) not in classes:
            compute = _sparing(kind) if sparing else kind.__call__
            call = _called(kind, compute, keys, _recomputed if recompute else _in_order)
            classes[kind, sparing] = type(kind.__name__, (kind,), {"__call__": call})
        layer.__class__ = classes[kind, sparing]


type Block = Callable[..., Any]


def _called(
    kind: Any,
    compute: Block,
    keys: Keys,
    run: Callable[[Block, list[mx.array], list[mx.array]], Any],
) -> Any:
    """The `__call__` of a block, which in training is what `run` makes of `compute`."""

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
            return compute(self, *given, **{**kwargs, **{n: next(rest) for n in named}})

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


# ------------------------------------------------------------------ what is cheap, again


def _can_spare(layer: Any) -> bool:
    """Whether `layer` has the CPU's faster parts, and none of its linear layers needs for a gradient
    what it gave (as DoRA's do) or a mask that would have to be drawn again."""
    attention, mlp = getattr(layer, "self_attn", None), getattr(layer, "mlp", None)
    if not (type(attention) is QuickAttention and type(mlp) is QuickMLP):
        return False
    linear = [module for name, module in layer.named_modules() if name.endswith("_proj")]
    return all(
        type(module) in (nn.Linear, nn.QuantizedLinear)
        or (type(module) is FusedLoRALinear and type(module.dropout) is nn.Dropout)
        for module in linear
    )


def _sparing(kind: Any) -> Block:
    """The `__call__` of a block for which `_can_spare` holds."""

    def call(self: Any, x: mx.array, mask: Any = None, cache: Any = None) -> Any:
        attention, mlp = self.self_attn, self.mlp
        if not attention.is_causal(x, mask, cache):
            return kind.__call__(self, x, mask, cache)
        before, after = self.input_layernorm, self.post_attention_layernorm
        q, k, v = _again(
            [before, attention.q_proj, attention.k_proj, attention.v_proj],
            lambda x: attention.projected(before(x)),
            x,
        )
        h = x + attention.o_proj(attention.attended(q, k, v, cache))
        gate, up = _again([after, mlp.gate_proj, mlp.up_proj], lambda h: mlp.opened(after(h)), h)
        return h + _again(
            [mlp.down_proj], lambda gate, up: mlp.down_proj(swiglu(gate, up)), gate, up
        )

    return call


def _again(modules: Sequence[Any], piece: Block, *inputs: mx.array) -> Any:
    """piece(*inputs), which is computed again for the backward pass; `modules` have its weights."""
    own = [module.trainable_parameters() for module in modules]
    trained: list[Any] = [list(tree_flatten(tree)) for tree in own]

    def block(*arrays: mx.array) -> Any:
        rest = iter(arrays)
        for module, named in zip(modules, trained, strict=True):
            module.update(tree_unflatten([(name, next(rest)) for name, _ in named]))
        return piece(*rest)

    weights = [array for named in trained for _, array in named]
    out = _recomputed(block, weights, list(inputs))
    for module, tree in zip(modules, own, strict=True):
        module.update(tree)
    return out


# ------------------------------------------------------------------ gradients and their order


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
