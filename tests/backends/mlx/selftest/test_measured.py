"""What the self-test measures of MLX: that it would notice, and that it leaves nothing behind."""

from __future__ import annotations

import os
from pathlib import Path

import mlx.core as mx
import pytest

from backends.base import Sampling
from backends.mlx import MLXBackend
from backends.mlx.device import device_kind
from backends.mlx.selftest import models, numerics
from backends.mlx.selftest.waits import counted

pytestmark = pytest.mark.any_database


def test_a_wrong_result_is_a_large_error() -> None:
    x = mx.ones((2, 3))
    wrong = numerics._compare("sum", "float32", "2x3", lambda x: x + 0.5, x, reference=lambda x: x)
    assert wrong.error == pytest.approx(0.5)
    nothing = numerics._compare("nan", "float32", "2x3", lambda x: x * float("nan"), x)
    assert nothing.error == float("inf")


def test_rounding_is_a_small_one_that_is_not_zero() -> None:
    found = {one.dtype: one.error for one in numerics.matmul([(3, 65, 33)])}
    assert found["float32"] < 1e-6
    assert 1e-4 < found["bfloat16"] < 1e-2
    assert 1e-5 < found["float16"] < 2e-3


def test_a_mask_that_is_ignored_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    right = list(numerics.attention([(5, 9)], [64]))
    assert max(one.error for one in right) < 1e-2
    plain = mx.fast.scaled_dot_product_attention
    monkeypatch.setattr(
        numerics.fast,
        "scaled_dot_product_attention",
        lambda q, k, v, scale, mask: plain(q, k, v, scale=scale),
    )
    assert max(one.error for one in numerics.attention([(5, 9)], [64])) > 0.1


def test_top_p_that_keeps_too_much_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    found = numerics.top_p(2048, 8)
    assert (found.outside, found.alike) == (0, 1.0)
    assert found.distance < 0.05
    plain = numerics.make_sampler
    loose = lambda sampling: plain(Sampling(temperature=1.0, seed=sampling.seed))  # noqa: E731
    monkeypatch.setattr(numerics, "make_sampler", loose)
    wrong = numerics.top_p(2048, 8)
    assert wrong.outside > 2
    assert wrong.distance > 0.05


def test_waits_are_counted_within_the_block_alone() -> None:
    with counted() as counts:
        mx.eval(mx.zeros(3))
        assert mx.array([1, 2]).tolist() == [1, 2]
        assert mx.array(3).item() == 3
    mx.eval(mx.zeros(3))
    assert counts == {"eval": 1, "tolist": 1, "item": 1}


def test_the_device_is_as_before_after_it_was_another() -> None:
    before = device_kind(), mx.default_device(), dict(os.environ)
    with numerics.as_on_a_gpu() as where:
        assert (where, device_kind()) in (("assumed", "metal"), ("metal", "metal"))
        with numerics.as_on_the_cpu():
            assert device_kind() == "cpu"
        assert device_kind() == "metal"
    assert (device_kind(), mx.default_device(), dict(os.environ)) == before


def test_a_random_model_of_packed_weights_answers(starter_gguf: Path, tmp_path: Path) -> None:
    shape = models.Shape(64, 1, 128, 4, 2, 512, tie_word_embeddings=False)
    folder = models.make_random(starter_gguf, tmp_path / "model", shape, bits=4)
    assert MLXBackend().inspect(folder).quantization == "4-bit (group 64)"
    codes = mx.load(str(folder / "model-00001.safetensors"))
    name = "model.layers.0.mlp.up_proj"
    packed = (codes[f"{name}.weight"], codes[f"{name}.scales"], codes[f"{name}.biases"])
    weights = mx.dequantize(*packed, group_size=64, bits=4).astype(mx.float32)
    assert abs(float(weights.mean().item())) < 2e-3
    assert float(weights.std().item()) == pytest.approx(0.02, rel=0.1)
