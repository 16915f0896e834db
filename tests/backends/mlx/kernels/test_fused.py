"""The cross-entropy of a GPU, where there is none."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn
import numpy as np
import pytest

from backends.mlx.kernels.fused import fused_cross_entropy

pytestmark = pytest.mark.any_database

nn: Any = mlx.nn  # MLX types its core only


def of_hidden(losses: Any, vocabulary: int) -> Any:
    """The mean loss by the hidden values `[n, 16]`, with its gradient."""
    weight = mx.random.normal((vocabulary, 16), key=mx.random.key(1))

    def mean(hidden: mx.array, targets: mx.array) -> mx.array:
        found: mx.array = losses(hidden @ weight.T, targets).mean()
        return found

    return mx.compile(mx.value_and_grad(mean))


def given(rows: int, vocabulary: int) -> tuple[mx.array, mx.array]:
    one, other = mx.random.split(mx.random.key(2))
    return mx.random.normal((rows, 16), key=one), mx.random.randint(
        0, vocabulary, (rows,), key=other
    )


def test_losses_and_slopes_are_mlxs() -> None:
    hidden, targets = given(9, 50)
    mine = of_hidden(fused_cross_entropy, 50)(hidden, targets)
    theirs = of_hidden(nn.losses.cross_entropy, 50)(hidden, targets)
    for found, expected in zip(mine, theirs, strict=True):
        assert np.allclose(np.array(found), np.array(expected), rtol=1e-5, atol=1e-6)


def test_beside_the_logits_only_their_gradient_exists() -> None:
    """As with MLX's kernel on a GPU; its way without one holds about five such arrays."""
    rows, vocabulary = 256, 8192
    hidden, targets = given(rows, vocabulary)
    held = []
    for losses in (fused_cross_entropy, nn.losses.cross_entropy):
        step = of_hidden(losses, vocabulary)
        mx.eval(step(hidden, targets))
        mx.reset_peak_memory()
        before = mx.get_active_memory()
        mx.eval(step(hidden, targets))
        held.append((mx.get_peak_memory() - before) / (4 * rows * vocabulary))
    assert held[0] < 2.2 < 3.8 < held[1]
