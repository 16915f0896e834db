"""A run that was closed anywhere ends with the bytes of one that was not, in every mode."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from backends import checkpoints
from backends.base import (
    Finished,
    GPUInterrupted,
    LoraConfig,
    OutOfMemory,
    Started,
    TrainingEvent,
)
from backends.mlx.training import optimizers
from tests.backends.test_failures import INTERRUPTED, OUT_OF_MEMORY
from tests.backends.training_runs import (
    ATTENTION,
    EVERYTHING,
    MLX,
    chat,
    digest,
    events,
    make_run,
    of,
    run_and_close,
    write_labelled,
    write_split,
)
from tests.running import often

pytestmark = [pytest.mark.any_database, pytest.mark.usefixtures("lanes")]

DROPOUT = LoraConfig(rank=2, dropout=0.2, keys=ATTENTION)
MODES: dict[str, dict[str, Any]] = {
    "adam": {"optimizer": "adam"},
    "adamw": {"optimizer": "adamw", "weight_decay": 0.1, "lora": EVERYTHING},
    "sgd": {"optimizer": "sgd", "learning_rate": 1e-2},
    "muon": {"optimizer": "muon", "fine_tune_type": "dora"},
    "adafactor": {"optimizer": "adafactor"},
    "top layer of muon": {"optimizer": "muon", "num_layers": 1},
    "accumulation": {"grad_accumulation_steps": 3, "batch_size": 2},
    "packing": {"packing": True, "grad_accumulation_steps": 2, "lora": EVERYTHING},
    "checkpointing": {"grad_checkpoint": True, "lora": EVERYTHING},
    "full": {"fine_tune_type": "full", "num_layers": 1},
    "patience": {"patience": 1, "steps_per_eval": 1, "learning_rate": 1e-9, "samples": 1},
    "epochs": {"epochs": 1.4, "save_every": 100},
    "dpo": {"objective": "dpo"},
    "orpo": {"objective": "orpo"},
    "simpo": {"objective": "simpo"},
    "kto": {"objective": "kto", "grad_accumulation_steps": 2, "undesirable_weight": 0.5},
    "kto of pairs": {"objective": "kto"},
    "last answer": {"learn": "last_answer"},
    "everything": {"learn": "everything", "packing": True},
}


@pytest.mark.parametrize("mode", MODES)
def test_a_closed_run_continues_exactly(
    tiny_base: Path, chats: Path, preferences: Path, tmp_path: Path, mode: str
) -> None:
    settings = {"iters": often(4, 5), "steps_per_eval": 2, "save_every": 3, "lora": DROPOUT}
    settings |= {"samples": 0} | MODES[mode]
    data = preferences if "objective" in MODES[mode] else chats
    if mode == "kto":
        data = write_labelled(tmp_path / "labelled")
    whole = make_run(tiny_base, data, tmp_path / "whole", **settings)
    cut = make_run(tiny_base, data, tmp_path / "cut", **settings)
    finished = of(Finished, events(whole))[0]
    # Where nothing is due, where a validation is, and soon after a checkpoint.
    cuts = (1, 2, 4)[: often(2, 3)]
    for after in cuts:
        run_and_close(cut, after)
    resumed = events(cut)
    assert of(Started, resumed)[0].iteration == min(cuts[-1], finished.iteration)
    assert of(Finished, resumed)[0] == finished
    assert digest(cut) == digest(whole)


@pytest.mark.parametrize("changes", [{"packing": True}, {"thoughts": "masked"}])
def test_chats_with_thoughts_continue_exactly(
    tiny_base: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    for split in ("train", "valid"):
        messages = [
            [*chat(f"Add {n}")[:-1], {"role": "assistant", "content": "Four", "reasoning": f"{n}."}]
            for n in range(9)
        ]
        write_split(tmp_path / "data", split, [{"messages": one} for one in messages])
    settings = {"iters": 3, "steps_per_eval": 2, "save_every": 3, "lora": DROPOUT, **changes}
    whole = make_run(tiny_base, tmp_path / "data", tmp_path / "whole", **settings)
    cut = make_run(tiny_base, tmp_path / "data", tmp_path / "cut", **settings)
    other = make_run(
        tiny_base, tmp_path / "data", tmp_path / "other", **settings | {"thoughts": "dropped"}
    )
    finished = of(Finished, events(whole))[0]
    run_and_close(cut, 2)
    assert of(Finished, events(cut))[0] == finished
    events(other)
    assert digest(cut) == digest(whole) != digest(other)


@pytest.mark.parametrize("mode", ["adamw", "packing", "checkpointing"])
def test_steps_compiled_as_for_a_gpu_continue_exactly(
    tiny_base: Path,
    chats: Path,
    preferences: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
) -> None:
    """One lane, coarse padding and a compiled graph for each step. `just full` takes all tests of
    training and serving this way."""
    monkeypatch.setenv("HUB_ASSUMED_DEVICE", "metal")
    test_a_closed_run_continues_exactly(tiny_base, chats, preferences, tmp_path, mode)


@pytest.mark.parametrize("device", ["cpu", "metal"])
@pytest.mark.parametrize("mode", ["full", "dpo"])
def test_16_bit_weights_continue_exactly(
    narrow_base: Path,
    chats: Path,
    preferences: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    mode: str,
) -> None:
    """Their float32 masters are what a checkpoint keeps."""
    monkeypatch.setenv("HUB_ASSUMED_DEVICE", device)
    monkeypatch.setitem(
        MODES, mode, MODES[mode] | MODES["full"] | {"grad_clip": 0.1, "batch_size": 2}
    )
    test_a_closed_run_continues_exactly(narrow_base, chats, preferences, tmp_path, mode)


@pytest.mark.parametrize("changes", [{}, {"packing": True}], ids=["rows", "packed"])
def test_chats_of_several_turns_continue_exactly_too(
    tiny_base: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    for split in ("train", "valid"):
        chats = [{"messages": chat(f"{n} one") + chat(f"two {n}")[1:]} for n in range(9)]
        write_split(tmp_path / "data", split, chats)
    settings = {"iters": 5, "steps_per_eval": 2, "save_every": 3, "lora": DROPOUT, **changes}
    whole = make_run(tiny_base, tmp_path / "data", tmp_path / "whole", **settings)
    cut = make_run(tiny_base, tmp_path / "data", tmp_path / "cut", **settings)
    other = make_run(
        tiny_base, tmp_path / "data", tmp_path / "other", **settings, learn="last_answer"
    )
    finished = of(Finished, events(whole))[0]
    for after in (1, 3):
        run_and_close(cut, after)
    assert of(Finished, events(cut))[0] == finished
    events(other)
    assert digest(cut) == digest(whole) != digest(other)


@pytest.mark.parametrize("mode", ["rows", "packing", "dpo"])
def test_kept_tokens_change_nothing(
    tiny_base: Path, chats: Path, preferences: Path, tmp_path: Path, mode: str
) -> None:
    """Neither when they are written, nor when they are found, also in the middle of a run."""
    settings = {"iters": 4, "steps_per_eval": 2, "save_every": 3, "lora": DROPOUT}
    settings |= MODES.get(mode, {})
    data, kept = preferences if mode == "dpo" else chats, tmp_path / "kept"
    plain = replace(make_run(tiny_base, data, tmp_path / "plain", **settings), cache=None)
    first = replace(make_run(tiny_base, data, tmp_path / "first", **settings), cache=kept)
    second = replace(make_run(tiny_base, data, tmp_path / "second", **settings), cache=kept)
    finished = of(Finished, events(plain))[0]
    assert of(Finished, events(first))[0] == finished
    names = {path.name: path.stat().st_ino for path in kept.iterdir()}
    assert len(names) == 3
    run_and_close(second, 1)
    assert of(Finished, events(second))[0] == finished
    assert digest(plain) == digest(first) == digest(second)
    assert {path.name: path.stat().st_ino for path in kept.iterdir()} == names


@pytest.mark.parametrize("iters", [4, 2])
def test_neither_checkpoint_nor_result_is_sealed_when_work_before_it_failed(
    tiny_base: Path, chats: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, iters: int
) -> None:
    """Metal may say so at a later call, when the weights that were not computed are in the file."""
    run = make_run(tiny_base, chats, tmp_path, iters=iters, save_every=2, warmup=0)
    good = checkpoints.path_of(run.checkpoints, 2)
    happened = MLX.train(run)
    while not good.exists():
        next(happened)
    settle = mx.synchronize

    def fail(*streams: Any) -> None:
        monkeypatch.setattr(mx, "synchronize", settle)  # an error is told once
        raise RuntimeError(OUT_OF_MEMORY)

    monkeypatch.setattr(mx, "synchronize", fail)
    seen: list[TrainingEvent] = []
    with pytest.raises(OutOfMemory, match="lower batch_size"):
        seen.extend(happened)
    assert of(Finished, seen) == []
    assert [path.name for path in run.checkpoints.iterdir() if path.name[0] != "."] == [good.name]


def test_the_watchdog_ends_a_run_with_its_own_error(
    tiny_base: Path, chats: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: Any, **options: Any) -> None:
        raise RuntimeError(INTERRUPTED)

    monkeypatch.setattr(optimizers.Update, "step", stop)
    with pytest.raises(GPUInterrupted, match="display sleep"):
        events(make_run(tiny_base, chats, tmp_path, iters=4))
