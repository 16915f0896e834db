"""A full fine-tune of a 16-bit base loses no update to rounding."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from backends.base import LoraConfig, TrainingRun
from backends.mlx.files.loading import open_model
from backends.mlx.training import lora
from backends.mlx.training.masters import Trained
from tests.backends.training_runs import events, make_run

pytestmark = pytest.mark.any_database

FULL = {
    "fine_tune_type": "full",
    "num_layers": 1,
    "iters": 3,
    "warmup": 0,
    "schedule": "constant",
    "learning_rate": 1e-5,
    "save_every": 3,
    "steps_per_eval": 3,
    "restore_best": False,
}


def kept(folder: Path) -> dict[str, mx.array]:
    found: Any = mx.load(str(folder / "adapters.safetensors"))
    return dict(found)


def moved(run: TrainingRun, base: Path) -> np.ndarray[Any, Any]:
    """How far the weights of the last checkpoint are from the base's."""
    weights: Any = mx.load(str(base / "model.safetensors"))
    newest = kept(run.checkpoints / "0000003")
    return np.concatenate(
        [
            np.array(value.astype(mx.float32) - weights[name].astype(mx.float32)).ravel()
            for name, value in sorted(newest.items())
        ]
    )


def test_small_updates_of_16_bit_weights_add_up(
    narrow_base: Path, chats: Path, tmp_path: Path
) -> None:
    """As they do for the same weights in float32; without masters most of them are rounded away."""
    wide = tmp_path / "wide"
    shutil.copytree(narrow_base, wide)
    weights: Any = mx.load(str(narrow_base / "model.safetensors"))
    exact = {name: array.astype(mx.float32) for name, array in weights.items()}
    mx.save_safetensors(str(wide / "model.safetensors"), exact, metadata={"format": "mlx"})
    ways: dict[str, tuple[Path, dict[str, Any]]]
    ways = {"wide": (wide, {}), "masters": (narrow_base, {})}
    ways["earlier"] = (narrow_base, {"arithmetic": "earlier"})
    steps = {}
    for name, (base, changes) in ways.items():
        run = make_run(base, chats, tmp_path / name, **FULL, **changes)
        events(run)
        steps[name] = moved(run, base)
    length = {name: float(np.linalg.norm(step)) for name, step in steps.items()}
    alike = {
        name: float(step @ steps["wide"]) / length["wide"] / length[name]
        for name, step in steps.items()
    }
    assert alike["masters"] > 0.9
    assert length["masters"] == pytest.approx(length["wide"], rel=0.1)
    assert (steps["masters"] == 0).mean() < 0.01
    assert (steps["earlier"] == 0).mean() > 0.5


def test_a_version_has_the_bases_type_and_a_checkpoint_the_masters(
    narrow_base: Path, chats: Path, tmp_path: Path
) -> None:
    run = make_run(narrow_base, chats, tmp_path, **FULL | {"learning_rate": 1e-2})
    events(run)
    masters, result = kept(run.checkpoints / "0000003"), kept(run.output)
    assert {array.dtype for array in masters.values()} == {mx.float32}
    assert {array.dtype for array in result.values()} == {mx.bfloat16}
    for name, master in masters.items():
        assert mx.array_equal(master.astype(mx.bfloat16), result[name]).item(), name
    state: Any = mx.load(str(run.checkpoints / "0000003" / "optimizer.safetensors"))
    assert {a.dtype for name, a in state.items() if name.endswith(".v")} == {mx.float32}


@pytest.mark.parametrize(
    "changes", [{"lora": LoraConfig(rank=2)}, {"fine_tune_type": "full", "arithmetic": "earlier"}]
)
def test_an_adapter_has_no_masters_and_an_earlier_run_neither(
    narrow_base: Path, chats: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    config = make_run(narrow_base, chats, tmp_path, **changes).config
    model, *_ = open_model(narrow_base)
    lora.adapt(model, config)
    trained = Trained(model, config.arithmetic)
    assert trained.masters == {}
    assert trained.saved().keys() == lora.adapter_weights(model).keys()


def test_the_best_weights_come_back_with_their_masters(
    narrow_base: Path, chats: Path, tmp_path: Path
) -> None:
    run = make_run(narrow_base, chats, tmp_path, **FULL)
    model, *_ = open_model(narrow_base)
    lora.adapt(model, run.config)
    trained = Trained(model, "masters")
    other = {name: array + 1 for name, array in trained.saved().items()}
    trained.load(other)
    for name, array in lora.adapter_weights(model).items():
        assert array.dtype == mx.bfloat16
        assert mx.array_equal(array, other[name].astype(mx.bfloat16)).item(), name
    with pytest.raises(ValueError, match="there is no"):
        trained.load({})
