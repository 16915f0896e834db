"""Packed examples compute what they compute alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from backends.base import Finished, LoraConfig, Stepped, TrainingConfig, UnsupportedModel
from backends.mlx.data import batching, packing
from backends.mlx.data.examples import Example
from backends.mlx.files.loading import open_model
from backends.mlx.training.loss import Lanes, log_probabilities, to_arrays
from backends.schedule import pack
from tests.backends.mlx.data.reading import read_split
from tests.backends.training_runs import events, make_run, of

pytestmark = pytest.mark.any_database


def tiny(architecture: str, **config: Any) -> Any:
    """A random model of an architecture, two layers deep."""
    import importlib

    module: Any = importlib.import_module(f"mlx_lm.models.{architecture}")
    base = {
        "model_type": architecture,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "intermediate_size": 64,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-5,
        "vocab_size": 300,
        "head_dim": 8,
        "max_position_embeddings": 512,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
    }
    mx.random.seed(1)
    model = module.Model(module.ModelArgs.from_dict(base | config))
    mx.eval(model.parameters())
    return model


def test_first_fit_loses_nothing_and_fills_rows() -> None:
    examples = [Example([1] * (n + 1), 1) for n in (30, 60, 20, 70, 10, 40)]
    rows = pack(examples, 100)
    assert sorted(e.length - 1 for row in rows for e in row) == [10, 20, 30, 40, 60, 70]
    assert all(sum(e.length - 1 for e in row) <= 100 for row in rows)
    assert len(rows) == 3


def test_an_example_keeps_its_tokens_targets_and_number() -> None:
    one, two, three = Example([1, 2, 3, 4], 2), Example([5, 6, 7], 1), Example([8, 9, 10], 2)
    batch = batching.make_packed([two, one, three], batching.multiples(4), capacity=5)
    assert batch.inputs.tolist() == [[1, 2, 3, 5, 6, 0, 0, 0], [8, 9, 0, 0, 0, 0, 0, 0]]
    assert batch.segments is not None
    assert batch.segments.tolist() == [[0, 0, 0, 1, 1, -1, -1, -1], [2, 2] + [-1] * 6]
    assert batch.spans == (((0, 3), (3, 5), (5, 8)), ((0, 2), (2, 8)))
    assert batch.targets[: batch.judged].tolist() == [3, 4, 6, 7, 10]
    assert batch.owners[: batch.judged].tolist() == [0, 0, 1, 1, 2]
    assert batch.inputs.reshape(-1)[batch.positions[: batch.judged]].tolist() == [2, 3, 5, 6, 9]


def test_a_mask_lets_a_token_see_its_own_example_and_the_past() -> None:
    mask = packing.Segments(mx.array([[0, 0, 1, 1, -1]])).make_mask(5)
    assert mask.shape == (1, 1, 5, 5)
    assert np.array(mask[0, 0]).astype(int).tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [0, 0, 1, 0, 0],
        [0, 0, 1, 1, 0],
        [0, 0, 0, 0, 1],
    ]


def test_a_mask_keeps_a_sliding_window() -> None:
    mask = packing.Segments(mx.array([[0] * 4])).make_mask(4, window_size=2)
    assert np.array(mask[0, 0]).astype(int).tolist()[3] == [0, 0, 1, 1]


@pytest.mark.usefixtures("lanes")
@pytest.mark.parametrize("quick", [True, False])
def test_the_packed_loss_and_gradient_are_the_unpacked_ones(
    tiny_base: Path, chats: Path, quick: bool
) -> None:
    """With the CPU's attention by example and with mlx-lm's own and a mask."""
    model, tokenizer, _ = open_model(tiny_base)
    examples = read_split(chats / "train.jsonl", tokenizer, 2048, learn="last_answer").examples
    with Lanes.open() as lanes:
        if quick:
            lanes.prepare(model)
        plain = batching.make_batch(examples, batching.multiples(8))
        packed = batching.make_packed(examples, batching.multiples(8), capacity=200)
        assert 1 < len(packed.inputs) < len(examples)
        assert (packed.tokens, packed.judged) == (plain.tokens, plain.judged)

        def loss(weight: mx.array, batch: batching.Batch) -> mx.array:
            model.model.layers[0].self_attn.k_proj.weight = weight
            return -log_probabilities(model, to_arrays(batch), batch.spans).sum()

        weight = model.model.layers[0].self_attn.k_proj.weight
        (one, slope), (other, slope_packed) = (
            mx.value_and_grad(loss)(weight, batch) for batch in (plain, packed)
        )
        mx.eval(slope, slope_packed)
    assert other.item() == pytest.approx(one.item(), rel=1e-5)
    assert np.allclose(np.array(slope_packed), np.array(slope), rtol=1e-3, atol=1e-4)


@pytest.mark.usefixtures("lanes")
def test_a_packed_run_learns_what_an_unpacked_one_does(
    tiny_base: Path, chats: Path, tmp_path: Path
) -> None:
    """All examples in every step, so that the order makes no difference."""
    settings = {"iters": 4, "batch_size": 13, "lora": LoraConfig(rank=4), "learning_rate": 1e-2}
    plain, packed = (
        events(make_run(tiny_base, chats, tmp_path / str(on), packing=on, **settings))
        for on in (False, True)
    )
    for a, b in zip(of(Stepped, plain), of(Stepped, packed), strict=True):
        assert b.train_loss == pytest.approx(a.train_loss, rel=1e-4)
        assert b.tokens == a.tokens
    val = [of(Finished, happened)[0].metrics["val_loss"] for happened in (plain, packed)]
    assert val[1] == pytest.approx(val[0], rel=1e-3)


def test_packing_and_recomputing_go_together(tiny_base: Path, chats: Path, tmp_path: Path) -> None:
    settings = {"iters": 2, "warmup": 0, "packing": True}
    plain, recomputed = (
        of(Stepped, events(make_run(tiny_base, chats, tmp_path / str(on), **settings, **more)))
        for on, more in ((False, {}), (True, {"grad_checkpoint": True}))
    )
    for a, b in zip(plain, recomputed, strict=True):
        assert b.train_loss == pytest.approx(a.train_loss, rel=1e-5)
        assert b.grad_norm == pytest.approx(a.grad_norm, rel=1e-4)


def test_batches_to_be_packed_are_drawn_without_regard_to_length() -> None:
    config = TrainingConfig(packing=True, batch_size=8)
    lengths = list(range(10, 138))
    order = batching.Order(lengths, config)
    spread = [
        max(lengths[i] for i in batch) - min(lengths[i] for i in batch)
        for step in range(1, 17)
        for batch in order.batches(step)
    ]
    assert min(spread) > 40


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3", "gemma", "phi3"])
def test_these_architectures_keep_examples_apart(architecture: str) -> None:
    packing.check_keeps_apart(tiny(architecture))


def test_one_that_reads_across_examples_refuses_packing() -> None:
    model = tiny(
        "mamba",
        conv_kernel=4,
        state_size=8,
        use_bias=False,
        use_conv_bias=True,
        time_step_rank=4,
    )
    with pytest.raises(UnsupportedModel, match="mamba cannot keep packed examples apart"):
        packing.check_keeps_apart(model)


def test_one_that_ignores_the_mask_refuses_packing(monkeypatch: pytest.MonkeyPatch) -> None:
    def causal(self: Any, length: int, **_: Any) -> mx.array:
        at = mx.arange(length)
        return (at[:, None] >= at[None])[None, None]

    monkeypatch.setattr(packing.Segments, "make_mask", causal)
    with pytest.raises(UnsupportedModel, match="switch packing off"):
        packing.check_keeps_apart(tiny("llama"))
