"""The CPU's faster parts agree with MLX's own, forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx_lm import load
from mlx_lm.models.activations import swiglu as their_swiglu

from backends.mlx.kernels import attention, head, quick
from backends.mlx.kernels.custom import custom
from backends.mlx.kernels.exponential import exp, log_probabilities
from backends.mlx.kernels.head import head_losses
from tests.backends.mlx.counting import kernels


@pytest.fixture(autouse=True)
def _seed() -> None:
    mx.random.seed(0)


def close(ours: mx.array, theirs: mx.array, within: float = 2e-6) -> bool:
    return bool(np.allclose(np.array(ours), np.array(theirs), rtol=1e-5, atol=within))


def test_exp_is_exact_to_float32() -> None:
    x = np.linspace(-60, 88, 100_001, dtype=np.float32)
    exact = np.exp(x.astype(np.float64))
    assert np.max(np.abs(np.array(exp(mx.array(x))) - exact) / exact) < 2e-7


def test_exp_never_gives_denormal_numbers() -> None:
    smallest = exp(mx.array([-61.0, -100.0, -1e9])) / 1000.0
    assert all(value > np.finfo(np.float32).tiny for value in smallest.tolist())


@pytest.mark.parametrize("size", [1.0, 40.0])
def test_log_probabilities_also_of_what_may_not_come(size: float) -> None:
    logits = mx.random.normal((3, 5_000)) * size
    logits[1, 7:] = -np.inf
    logits[2, 1:] = -np.inf
    ours = log_probabilities(logits)
    assert close(ours, logits - mx.logsumexp(logits, axis=-1, keepdims=True), 8e-6)
    assert "LogSumExp" not in kernels(log_probabilities(logits + 1))


@pytest.mark.parametrize("size", [1.0, 8.0, 40.0])
def test_swiglu_and_its_gradient(size: float) -> None:
    gate, up, weight = (mx.random.normal((3, 700)) * s for s in (size, 1.0, 1.0))

    def gradient(f: Callable[[mx.array, mx.array], mx.array]) -> tuple[mx.array, mx.array]:
        found: tuple[mx.array, mx.array]
        found = mx.grad(lambda a, b: (f(a, b) * weight).sum(), argnums=(0, 1))(gate, up)
        return found

    assert close(quick.swiglu(gate, up), their_swiglu(gate, up), 4e-6 * size)
    for ours, theirs in zip(gradient(quick.swiglu), gradient(their_swiglu), strict=True):
        assert close(ours, theirs, 4e-6 * size)


def test_softmax_and_its_gradient() -> None:
    x = mx.random.normal((4, 50)) * 6 + quick.causal_mask(50)[:4]
    weight = mx.random.normal(x.shape)
    ours = mx.value_and_grad(lambda x: (quick.softmax(x) * weight).sum())(x)
    theirs = mx.value_and_grad(lambda x: (mx.softmax(x, axis=-1) * weight).sum())(x)
    assert close(ours[0], theirs[0])
    assert close(ours[1], theirs[1])


def test_cross_entropy_and_its_gradient() -> None:
    logits, targets = mx.random.normal((7, 900)) * 5, mx.random.randint(0, 900, (7,))
    weight = mx.random.uniform(shape=(7,))
    ours = mx.value_and_grad(lambda x: (quick.cross_entropy(x, targets) * weight).sum())(logits)
    theirs = mx.value_and_grad(lambda x: (nn.losses.cross_entropy(x, targets) * weight).sum())(
        logits
    )
    assert close(ours[0], theirs[0], 1e-5)
    assert close(ours[1], theirs[1])


@pytest.mark.parametrize("slopes", [True, False])
@pytest.mark.parametrize("count", [1, 64, 150])
def test_the_loss_of_a_head_and_its_gradient(
    count: int, slopes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one, in a whole and in several chunks of tokens, and pieces of the vocabulary."""
    monkeypatch.setattr(head, "TOKENS", 64)
    monkeypatch.setattr(head, "ENTRIES", 256)
    hidden, weights = mx.random.normal((count, 32)) * 3, mx.random.normal((900, 32))
    targets = mx.random.randint(0, 900, (count,))
    weight = mx.random.uniform(shape=(count,))

    def ours(hidden: mx.array) -> mx.array:
        return (head_losses(hidden, weights, targets, slopes=slopes) * weight).sum()

    def theirs(hidden: mx.array) -> mx.array:
        losses: mx.array = nn.losses.cross_entropy(hidden @ weights.T, targets)
        return (losses * weight).sum()

    (loss, slope), (expected, expected_slope) = (
        mx.value_and_grad(f)(hidden) for f in (ours, theirs)
    )
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert close(slope, expected_slope, 1e-5)


@pytest.mark.parametrize("length", [5, 8, 21])
def test_attention_in_blocks_and_its_gradients(
    length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks of 8 queries: less than one, one, and several with a rest."""
    monkeypatch.setattr(attention, "_QUERIES", 8)
    q = mx.random.normal((2, 3, 2, length, 16)) * 0.5
    k, v = (mx.random.normal((2, 3, length, 16)) for _ in range(2))
    weight = mx.random.normal(q.shape)

    def theirs(q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        flat = q.reshape(2, 6, length, 16)
        out = mx.fast.scaled_dot_product_attention(flat, k, v, scale=1.0, mask="causal")
        return (out.reshape(q.shape) * weight).sum()

    def ours(q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        return (attention.attend(q, k, v) * weight).sum()

    (one, slopes), (other, expected) = (
        mx.value_and_grad(f, argnums=(0, 1, 2))(q, k, v) for f in (ours, theirs)
    )
    assert one.item() == pytest.approx(other.item(), rel=1e-4)
    for slope, right in zip(slopes, expected, strict=True):
        assert close(slope, right, 1e-5)


def test_a_quickened_model_computes_the_same_and_keeps_its_names(tiny_base: Path) -> None:
    from mlx.utils import tree_flatten

    model, _ = load(str(tiny_base))[:2]
    tokens = mx.random.randint(0, 4096, (2, 33))
    logits, names = model(tokens), {name for name, _ in tree_flatten(model.parameters())}
    quick.quicken(model)
    assert isinstance(model.layers[0].mlp, quick.QuickMLP)
    assert close(model(tokens), logits, 1e-5)
    assert {name for name, _ in tree_flatten(model.parameters())} == names


def test_a_quickened_model_still_generates_with_a_cache(tiny_base: Path) -> None:
    from mlx_lm import generate

    model, tokenizer = load(str(tiny_base))[:2]
    before = generate(model, tokenizer, "Hello there", max_tokens=8)
    quick.quicken(model)
    assert generate(model, tokenizer, "Hello there", max_tokens=8) == before


@pytest.mark.parametrize("kind", ["none", "causal", "ragged", "added"])
def test_attention_beside_a_cache_agrees(kind: str) -> None:
    """Three query heads a group; 5 new tokens behind 4 held ones, some of which are padding."""
    q, k, v = (mx.random.normal((2, heads, n, 16)) for heads, n in ((6, 5), (2, 9), (2, 9)))
    at = mx.arange(9)
    allowed = (at[None] <= at[4:, None]) & (at >= mx.array([0, 3])[:, None, None, None])
    masks: dict[str, mx.array | str | None] = {
        "none": None,
        "causal": "causal",
        "ragged": allowed,
        "added": mx.where(allowed, 0.0, -float("inf")),
    }
    theirs = mx.fast.scaled_dot_product_attention(q, k, v, scale=0.25, mask=masks[kind])
    assert close(quick.attend(q * 0.25, k, v, masks[kind]), theirs)


def test_another_type_than_float32_is_left_alone(tiny_base: Path) -> None:
    model, _ = load(str(tiny_base))[:2]
    model.set_dtype(mx.bfloat16)
    quick.quicken(model)
    assert not isinstance(model.layers[0].mlp, quick.QuickMLP)


def test_a_custom_gradient_is_computed_on_the_stream_of_its_function() -> None:
    """Else the lanes of a training step would wait for each other in the backward pass."""
    lanes = [mx.new_stream(mx.cpu) for _ in range(2)]
    seen: list[Any] = []

    def gradient(primals: mx.array, cotangent: mx.array, _output: mx.array) -> mx.array:
        seen.append(mx.default_stream(mx.cpu))
        return 2 * primals * cotangent

    square = custom(lambda x: x * x, gradient)

    def loss(x: mx.array) -> mx.array:
        total = mx.array(0.0)
        for lane in lanes:
            with mx.stream(lane):
                total = total + square(x).sum()
        return total

    assert mx.grad(loss)(mx.array([3.0])).item() == 12.0
    assert sorted(map(str, seen)) == sorted(map(str, lanes))
