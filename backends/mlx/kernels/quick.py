"""Faster CPU versions of four parts of a transformer, numerically the same to about 1e-6.

On Linux MLX computes `exp` and `sigmoid` one element at a time in 25–35 ns, so that SwiGLU and
softmax cost as much as all matrix products of a layer. Here they are written with the plain
arithmetic that MLX's fused kernels vectorize: 3–5 ns an element. Metal and CUDA do not use
this module.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
from mlx.nn.layers.base import Module
from mlx_lm.models import llama, qwen2

from backends.mlx.data.packing import Segments
from backends.mlx.kernels import attention as blocks
from backends.mlx.kernels.custom import custom
from backends.mlx.kernels.exponential import exp


def quicken(model: Any) -> None:
    """Replace the attention and MLP of a float32 llama or qwen2 model in place, no others.

    Parameter names do not change, so weights and adapters load before or after.
    """
    if model.model_type not in ("llama", "mistral", "qwen2"):
        return
    if model.model.norm.weight.dtype != mx.float32:
        return
    for layer in model.layers:
        if type(layer.mlp) in (llama.MLP, qwen2.MLP):
            layer.mlp = QuickMLP(layer.mlp)
        sliding = getattr(layer, "use_sliding", False)  # its mask has a window
        if type(layer.self_attn) in (llama.Attention, qwen2.Attention) and not sliding:
            layer.self_attn = QuickAttention(layer.self_attn)


_AT_ONCE = 256
"""Up to so many tokens all scores of a row are computed at once, and kept for the backward pass."""


class QuickMLP(Module):
    """SwiGLU MLP that takes over the projections of `mlp`."""

    def __init__(self, mlp: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.gate_proj = mlp.gate_proj
        self.up_proj = mlp.up_proj
        self.down_proj = mlp.down_proj

    def __call__(self, x: mx.array) -> mx.array:
        out: mx.array = self.down_proj(swiglu(*self.opened(x)))
        return out

    def opened(self, x: mx.array) -> tuple[mx.array, mx.array]:
        """What the first two products give: gate and up."""
        return self.gate_proj(x), self.up_proj(x)


class QuickAttention(Module):
    """Causal self-attention that takes over `attention`'s parts: without a cache for training,
    with one for serving.

    The examples of a packed row attend to themselves alone, at the price of each by itself. With
    a cache or a mask of another kind it does what the original does.
    """

    def __init__(self, attention: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.q_proj = attention.q_proj
        self.k_proj = attention.k_proj
        self.v_proj = attention.v_proj
        self.o_proj = attention.o_proj
        self.rope = attention.rope
        self.n_heads = attention.n_heads
        self.n_kv_heads = attention.n_kv_heads
        self.scale = attention.scale
        self._original = type(attention).__call__

    def __call__(self, x: mx.array, mask: Any = None, cache: Any = None) -> mx.array:
        if _serves(cache):
            return self._serve(x, mask, cache)
        if not self.is_causal(x, mask, cache):
            original: mx.array = self._original(self, x, mask, cache)
            return original
        result: mx.array = self.o_proj(self.attended(*self.projected(x), cache))
        return result

    def is_causal(self, x: mx.array, mask: Any, cache: Any) -> bool:
        """Whether the tokens of a row, or of each example packed into it, attend to those before them
        and to nothing else, so that `attended` computes it."""
        if cache is not None:
            return isinstance(cache, Segments) and bool(cache.spans)
        return x.shape[1] == 1 or isinstance(mask, str)

    def projected(self, x: mx.array) -> tuple[mx.array, mx.array, mx.array]:
        """Scaled and rotated q `[batch, heads, length, dim]`; rotated k and v `[batch, groups, length,
        dim]`."""
        batch, length, _ = x.shape
        q = self._heads(self.q_proj(x), self.n_heads) * self.scale
        k = self._heads(self.k_proj(x), self.n_kv_heads)
        v = self.v_proj(x).reshape(batch, length, self.n_kv_heads, -1).transpose(0, 2, 1, 3)
        return q, k, v

    def attended(self, q: mx.array, k: mx.array, v: mx.array, cache: Any = None) -> mx.array:
        """Of what `projected` gives, with `cache` where the rows are packed → `[batch, length,
        heads * dim]`."""
        if cache is None:
            return self._attend(q, k, v)
        rows = [
            mx.concatenate(
                [
                    self._attend(*(part[row : row + 1, :, a:b] for part in (q, k, v)))
                    for a, b in spans
                ],
                axis=1,
            )
            for row, spans in enumerate(cache.spans)
        ]
        return mx.concatenate(rows, axis=0)

    def _attend(self, q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        """Scaled q, k and v `[batch, heads, length, dim]` → `[batch, length, heads * dim]`."""
        batch, groups, length, _ = k.shape
        repeats = self.n_heads // groups
        if length > _AT_ONCE:
            out = blocks.attend(q.reshape(batch, groups, repeats, length, -1), k, v)
        else:
            # All query heads of a group share keys, so one product serves them.
            q = q.reshape(batch, groups, repeats * length, -1)
            scores = (q @ k.swapaxes(-1, -2)).reshape(batch, groups, repeats, length, length)
            attended: Any = softmax(scores + causal_mask(length))
            out = attended.reshape(batch, groups, repeats * length, length) @ v
        out = out.reshape(batch, self.n_heads, length, -1).transpose(0, 2, 1, 3)
        joined: mx.array = out.reshape(batch, length, -1)
        return joined

    def _serve(self, x: mx.array, mask: Any, cache: Any) -> mx.array:
        batch, length, _ = x.shape
        q = self._heads(self.q_proj(x), self.n_heads, cache.offset)
        k = self._heads(self.k_proj(x), self.n_kv_heads, cache.offset)
        v = self.v_proj(x).reshape(batch, length, self.n_kv_heads, -1).transpose(0, 2, 1, 3)
        k, v = cache.update_and_fetch(k, v)
        out = attend(q * self.scale, k, v, mask)
        result: mx.array = self.o_proj(out.transpose(0, 2, 1, 3).reshape(batch, length, -1))
        return result

    def _heads(self, x: mx.array, heads: int, offset: Any = 0) -> mx.array:
        """`[batch, length, heads * dim]` → rotated `[batch, heads, length, dim]`."""
        batch, length, _ = x.shape
        x = x.reshape(batch, length, heads, -1).transpose(0, 2, 1, 3)
        rotated: mx.array = self.rope(x, offset=offset)
        return rotated


def _serves(cache: Any) -> bool:
    """Whether it is one of mlx-lm's caches that return plain keys and values."""
    return not (cache is None or isinstance(cache, Segments) or hasattr(cache, "bits"))


def attend(q: mx.array, k: mx.array, v: mx.array, mask: Any) -> mx.array:
    """Scaled q `[batch, heads, length, dim]`, k and v `[batch, groups, tokens, dim]`, the last
    `length` of which are q's own → `[batch, heads, length, dim]`.

    `mask` is what mlx-lm gives attention: None, "causal", or an array `[(batch, 1,) length,
    tokens]`, True where it may look or a number to add.
    """
    batch, heads, length, dim = q.shape
    groups, tokens = k.shape[1:3]
    repeats = heads // groups
    # All query heads of a group share keys, so one product serves them.
    scores = q.reshape(batch, groups, repeats * length, dim) @ k.swapaxes(-1, -2)
    if mask is not None:
        added = _added(mask, length, tokens)
        scores = scores.reshape(batch, groups, repeats, length, tokens) + added
        scores = scores.reshape(batch, groups, repeats * length, tokens)
    e = exp(scores - scores.max(axis=-1, keepdims=True))
    # Dividing after the product divides fewer numbers.
    out = (e @ v) / e.sum(axis=-1, keepdims=True)
    return out.reshape(batch, heads, length, dim)


def _added(mask: Any, length: int, tokens: int) -> mx.array:
    """What to add to scores `[batch, groups, repeats, length, tokens]`."""
    if isinstance(mask, str):
        at = mx.arange(tokens)
        mask = at[None] <= at[tokens - length :, None]
    if mask.dtype == mx.bool_:
        mask = mx.where(mask, 0.0, -1e9)
    added: mx.array = mask if mask.ndim == 2 else mask[:, :, None]
    return added


def causal_mask(length: int) -> mx.array:
    """Zero on and below the diagonal, −1e9 above it (finite, so no NaN can arise)."""
    at = mx.arange(length)
    return mx.where(at[:, None] < at[None], -1e9, 0.0)


# ------------------------------------------------------------------ what needs exp


def _sigmoid(x: mx.array) -> mx.array:
    """Logistic function by the rational tanh of Eigen; absolute error below 3e-7."""
    # Clipping to ±15.8 by absolute values, because min and max look for NaN and do not vectorize.
    half = 0.25 * (mx.abs(x + 15.8) - mx.abs(x - 15.8))
    s = half * half
    p = s * -2.76076847742355e-16 + 2.00018790482477e-13
    p = p * s + -8.60467152213735e-11
    p = p * s + 5.12229709037114e-08
    p = p * s + 1.48572235717979e-05
    p = p * s + 6.37261928875436e-04
    p = (p * s + 4.89352455891786e-03) * half
    q = s * 1.19825839466702e-06 + 1.18534705686654e-04
    q = q * s + 2.26843463243900e-03
    q = q * s + 4.89352518554385e-03
    return p / q * 0.5 + 0.5


@mx.compile
def _swiglu(gate: mx.array, up: mx.array) -> mx.array:
    return gate * _sigmoid(gate) * up


@mx.compile
def _swiglu_gradient(gate: mx.array, up: mx.array, d: mx.array) -> tuple[mx.array, mx.array]:
    s = _sigmoid(gate)
    silu = gate * s
    return d * up * (s + silu * (1.0 - s)), d * silu


def _swiglu_vjp(
    primals: tuple[mx.array, mx.array], cotangent: mx.array, _output: mx.array
) -> tuple[mx.array, mx.array]:
    return _swiglu_gradient(*primals, cotangent)


swiglu = custom(_swiglu, _swiglu_vjp)
"""silu(gate) · up, elementwise."""


def _softmax(x: mx.array) -> mx.array:
    e = exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def _softmax_vjp(_primals: mx.array, cotangent: mx.array, output: mx.array) -> mx.array:
    weighted = cotangent * output
    return weighted - output * weighted.sum(axis=-1, keepdims=True)


softmax = custom(_softmax, _softmax_vjp)
"""Softmax over the last axis."""


def _probabilities(logits: mx.array, targets: mx.array) -> tuple[mx.array, mx.array]:
    top = logits.max(axis=-1, keepdims=True)
    e = exp(logits - top)
    total = e.sum(axis=-1, keepdims=True)
    chosen = mx.take_along_axis(logits, targets[:, None], axis=-1)
    return (mx.log(total) + top - chosen)[:, 0], e / total


def _cross_entropy_vjp(
    primals: tuple[mx.array, mx.array],
    cotangents: tuple[mx.array, mx.array],
    outputs: tuple[mx.array, mx.array],
) -> tuple[mx.array, mx.array]:
    d = cotangents[0][:, None]
    targets = primals[1][:, None]
    gradient = outputs[1] * d
    at_target = mx.take_along_axis(gradient, targets, axis=-1) - d
    return mx.put_along_axis(gradient, targets, at_target, axis=-1), mx.zeros_like(primals[1])


_cross_entropy = custom(_probabilities, _cross_entropy_vjp)


def cross_entropy(logits: mx.array, targets: mx.array) -> mx.array:
    """Loss per row: logits `[n, vocabulary]`, targets `[n]` → `[n]`."""
    both: Any = _cross_entropy(logits, targets)
    loss: mx.array = both[0]
    return loss
