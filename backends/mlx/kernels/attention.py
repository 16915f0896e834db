"""Causal attention that holds the scores of a few queries at a time, forward and backward.

All scores of a row are as many as its length squared for each head: at 2,048 tokens they were four
fifths of a training step's memory. Here a block of queries meets the keys up to its own end, so that
half of the products are left out, and the backward pass computes the scores again
(https://arxiv.org/abs/2205.14135).
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx

from backends.mlx.kernels.custom import custom
from backends.mlx.kernels.exponential import exp

_QUERIES = 64  # of a block, for each head


def attend(q: mx.array, k: mx.array, v: mx.array) -> mx.array:
    """Scaled q `[batch, groups, repeats, length, dim]`, k and v `[batch, groups, length, dim]` → like
    q. Each group of `repeats` query heads shares its keys."""
    found: Any = _attend(q, k, v)
    out: mx.array = found[0]
    return out


def _forward(q: mx.array, k: mx.array, v: mx.array) -> tuple[mx.array, mx.array]:
    """With the logarithm of each query's summed exponentials `[batch, groups, repeats, length, 1]`."""
    outs: list[mx.array] = []
    sums: list[mx.array] = []
    for start, end in _blocks(q):
        few = q[..., start:end, :]
        if outs:
            # One after the other, or all scores would be in memory at once.
            few = mx.depends([few], [outs[-1]])[0]
        scores = _scores(few, k[:, :, :end], start)
        top = scores.max(axis=-1, keepdims=True)
        e = exp(scores - top)
        total = e.sum(axis=-1, keepdims=True)
        outs.append(_by_group(e, v[:, :, :end]) / total)  # fewer numbers than the scores
        sums.append(top + mx.log(total))
    return mx.concatenate(outs, axis=-2), mx.concatenate(sums, axis=-2)


def _gradient(
    primals: tuple[mx.array, ...], cotangents: tuple[mx.array, ...], outputs: tuple[mx.array, ...]
) -> tuple[mx.array, ...]:
    (q, k, v), d = primals, cotangents[0]
    out, sums = outputs
    weighted = (d * out).sum(axis=-1, keepdims=True)
    dq: list[mx.array] = []
    dk = dv = mx.zeros_like(k[:, :, :0])
    for start, end in _blocks(q):
        few, slope = q[..., start:end, :], d[..., start:end, :]
        if dq:
            few = mx.depends([few], [dq[-1], dk, dv])[0]
        p = exp(_scores(few, k[:, :, :end], start) - sums[..., start:end, :])
        dv = _extended(dv, _summed(p, slope))
        missed = _by_group(slope, v[:, :, :end].swapaxes(-1, -2)) - weighted[..., start:end, :]
        ds = p * missed
        dq.append(_by_group(ds, k[:, :, :end]))
        dk = _extended(dk, _summed(ds, few))
    return mx.concatenate(dq, axis=-2), dk, dv


_attend = custom(_forward, _gradient)


def _blocks(q: mx.array) -> list[tuple[int, int]]:
    """(start, end) of each block of queries."""
    length = q.shape[-2]
    return [(at, min(at + _QUERIES, length)) for at in range(0, length, _QUERIES)]


def _scores(q: mx.array, k: mx.array, start: int) -> mx.array:
    """`[batch, groups, repeats, n, keys]` of the n queries from `start`, −1e9 on later keys."""
    at = mx.arange(k.shape[-2])
    after = at[start:, None] < at[None]
    return _by_group(q, k.swapaxes(-1, -2)) + mx.where(after, -1e9, 0.0)


def _by_group(x: mx.array, y: mx.array) -> mx.array:
    """x `[batch, groups, repeats, n, a]` @ y `[batch, groups, a, b]`, in one product for each group."""
    batch, groups, repeats, n, _ = x.shape
    found = x.reshape(batch, groups, repeats * n, -1) @ y
    return found.reshape(batch, groups, repeats, n, -1)


def _summed(x: mx.array, y: mx.array) -> mx.array:
    """xᵀ @ y over all queries of a group: `[…, repeats, n, a]`, `[…, repeats, n, b]` → `[…, a, b]`."""
    batch, groups, repeats, n, _ = x.shape
    flat = [part.reshape(batch, groups, repeats * n, -1) for part in (x, y)]
    return flat[0].swapaxes(-1, -2) @ flat[1]


def _extended(total: mx.array, part: mx.array) -> mx.array:
    """`total` of the first keys plus `part`, which has more of them."""
    known = total.shape[-2]
    if not known:
        return part
    return mx.concatenate([total + part[:, :, :known], part[:, :, known:]], axis=-2)
