"""Cross-entropy that holds what a GPU's fused kernel holds."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn

from backends.mlx.kernels.custom import custom

nn: Any = mlx.nn  # MLX types its core only


def fused_cross_entropy(logits: mx.array, targets: mx.array) -> mx.array:
    """Loss per row in float32: logits `[n, vocabulary]` in float32, targets `[n]` → `[n]`.

    On a GPU MLX has kernels for it, beside which only the logits and their gradient exist. Without them
    it holds the shifted logits, probabilities, and zeros with the targets as well: five arrays of the
    vocabulary's size. Where a GPU is assumed but is not there, this holds the same two.
    """
    found: Any
    if mx.default_device() == mx.gpu:
        found = nn.losses.cross_entropy(logits, targets)
    else:
        found = _cross_entropy(logits, targets)[0]
    losses: mx.array = found
    return losses


def _losses(logits: mx.array, targets: mx.array) -> tuple[mx.array, mx.array]:
    total = mx.logsumexp(logits, axis=-1)
    chosen = mx.take_along_axis(logits, targets[:, None], axis=-1)[:, 0]
    return total - chosen, total


def _gradient(
    primals: tuple[mx.array, mx.array],
    cotangents: tuple[mx.array, mx.array],
    outputs: tuple[mx.array, mx.array],
) -> tuple[mx.array, mx.array]:
    """Elementwise, so that a compiled step computes it in one pass."""
    logits, targets = primals
    chosen = mx.arange(logits.shape[-1])[None] == targets[:, None]
    slopes = mx.exp(logits - outputs[1][:, None]) - chosen.astype(logits.dtype)
    return cotangents[0][:, None] * slopes, mx.zeros_like(targets)


_cross_entropy = custom(_losses, _gradient)
