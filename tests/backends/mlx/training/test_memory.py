"""What a step computes at a time and keeps: less than its whole batch, and the same in the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from backends.base import LoraConfig, Stepped, TrainingConfig
from backends.mlx.device import device_kind
from backends.mlx.files.loading import open_model
from backends.mlx.kernels import attention, quick
from backends.mlx.training import lora, loss, remat
from backends.mlx.training.optimizers import Update
from tests.backends.training_runs import events, make_run, of, write_preferences

pytestmark = pytest.mark.any_database

ONE = {
    "iters": 1,
    "warmup": 0,
    "batch_size": 8,
    "learn": "everything",
    "optimizer": "sgd",
    "lora": LoraConfig(rank=4),
}


@pytest.fixture(autouse=True)
def _cpu() -> None:
    if device_kind() != "cpu":
        pytest.skip("a GPU computes a batch at once")


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of batches that each step computes, as they come."""
    found: list[int] = []
    step = Update.step

    def counted(self: Update, parts: Any, seed: str) -> tuple[float, float]:
        found.append(len(parts))
        return step(self, parts, seed)

    monkeypatch.setattr(Update, "step", counted)
    return found


@pytest.mark.parametrize("mode", ["chats", "packed", "pairs"])
def test_a_large_batch_is_computed_in_pieces_that_make_the_same_step(
    tiny_base: Path,
    chats: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    parts: list[int],
    mode: str,
) -> None:
    settings: dict[str, Any] = ONE | {"packing": mode == "packed", "max_seq_length": 128}
    data = chats
    if mode == "pairs":
        data = write_preferences(tmp_path / "pairs")
        settings |= {"objective": "orpo", "learn": "answers"}
    steps = []
    for number, most in enumerate((loss.STEP_TOKENS, 80)):
        monkeypatch.setattr(loss, "STEP_TOKENS", most)
        run = make_run(tiny_base, data, tmp_path / str(number), **settings)
        steps += of(Stepped, events(run))
    whole, pieces = steps
    assert parts[0] < parts[1]
    assert pieces.train_loss == pytest.approx(whole.train_loss, rel=1e-5)
    assert pieces.grad_norm == pytest.approx(whole.grad_norm, rel=1e-4)
    assert pieces.tokens == whole.tokens


@pytest.mark.parametrize(
    "changes", [{"fine_tune_type": "full"}, {"objective": "kto"}], ids=["full", "kto"]
)
def test_some_batches_stay_whole(
    tiny_base: Path,
    chats: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    parts: list[int],
    changes: dict[str, Any],
) -> None:
    """The gradients of a full fine-tune are large, and kto judges answers beside each other."""
    monkeypatch.setattr(loss, "STEP_TOKENS", 32)
    data = write_preferences(tmp_path / "pairs") if "objective" in changes else chats
    events(make_run(tiny_base, data, tmp_path, **(ONE | {"learn": "answers"} | changes)))
    assert parts == [1]


def test_what_is_cheap_is_computed_again_for_the_same_gradients(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that are packed, short, and long enough for blocks of queries."""
    monkeypatch.setattr(quick, "_AT_ONCE", 16)
    monkeypatch.setattr(attention, "_QUERIES", 8)
    mx.random.seed(1)
    tokens = mx.random.randint(0, 4096, (2, 30))
    found = []
    for sparing in (False, True):
        with monkeypatch.context() as changed:
            if not sparing:
                changed.setattr(remat, "_can_spare", lambda _: False)
            model, *_ = open_model(tiny_base)
            config = TrainingConfig(lora=LoraConfig(rank=4), seed=2)
            keys = lora.adapt(model, config)
            quick.quicken(model)
            remat.keep_little(model, keys, recompute=False)
        for name, array in lora.flat(model.trainable_parameters()).items():
            if name.endswith("lora_b"):  # zero at first, so that nothing reaches the other factor
                model.load_weights([(name, mx.full(array.shape, 0.01))], strict=False)
        model.train()

        def of_weights(weights: Any, model: Any = model) -> mx.array:
            model.update(weights)
            total: mx.array = model(tokens).square().mean() + model(tokens[:, :9]).square().mean()
            return total

        weights = model.trainable_parameters()
        value, slopes = mx.value_and_grad(of_weights)(weights)
        mx.eval(value, slopes)
        model.update(weights)
        found.append((value.item(), lora.flat(slopes)))
    (one, slopes), (other, expected) = found[1], found[0]
    assert one == pytest.approx(other, rel=1e-5)
    assert slopes.keys() == expected.keys()
    for name, slope in slopes.items():
        assert mx.allclose(slope, expected[name], rtol=1e-3, atol=1e-6).item(), name


def test_blocks_that_need_what_they_gave_are_left_as_they_are(tiny_base: Path) -> None:
    """DoRA, and dropout, whose masks would be drawn again."""
    for settings in ({"fine_tune_type": "dora"}, {"lora": LoraConfig(dropout=0.1)}, {}):
        model, *_ = open_model(tiny_base)
        lora.adapt(model, TrainingConfig(**settings))
        quick.quicken(model)
        assert remat._can_spare(model.layers[0]) == (settings == {})
