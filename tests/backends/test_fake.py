"""The fake backend: its files, its training and its knobs."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from backends import get_backend
from backends.base import (
    Backend,
    Evaluated,
    LoadedModel,
    Message,
    Sampled,
    Sampling,
    TrainingConfig,
    TrainingDiverged,
    TrainingEvent,
    TrainingRun,
    UnsupportedModel,
)
from backends.fake import FakeBackend

HELLO = Message(role="user", content="Hello?")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "source.gguf").write_bytes(b"GGUF and more")
    return FakeBackend().import_gguf(tmp_path / "source.gguf", tmp_path / "base").path


def make_data(folder: Path, **splits: int) -> Path:
    """A data folder with so many examples in each split."""
    folder.mkdir()
    for split, count in splits.items():
        lines = (json.dumps({"prompt": f"question {n}", "completion": "yes"}) for n in range(count))
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def make_run(base: Path, name: str = "run", **overrides: Any) -> TrainingRun:
    """A run in folders called `name` beside the base; overrides go to the configuration."""
    parent = base.parent
    data = parent / "data"
    if not data.exists():
        make_data(data, train=20, valid=4, test=4)
    config = TrainingConfig(**{"iters": 20, "save_every": 5, "steps_per_eval": 10} | overrides)
    return TrainingRun(base, data, parent / name, parent / f"{name}-checkpoints", config)


def train(run: TrainingRun) -> list[TrainingEvent]:
    return list(FakeBackend().train(run))


def adapter_bytes(run: TrainingRun) -> bytes:
    return (run.output / "adapters.safetensors").read_bytes()


def reply(base: Path, adapter: Path | None = None, **knobs: Any) -> str:
    return answer(FakeBackend(**knobs).load(base), [HELLO], adapter)


def answer(model: LoadedModel, chat: list[Message], adapter: Path | None = None) -> str:
    model.insert("row", model.encode(chat), adapter, Sampling())
    text = ""
    while True:
        for delta in model.step():
            text += delta.text
            if delta.finish_reason:
                return text


def test_it_is_a_backend() -> None:
    assert isinstance(get_backend("fake"), Backend)


def test_inspect_describes_what_import_wrote(base: Path) -> None:
    described = FakeBackend().inspect(base)
    assert (described.path, described.parameters) == (base, 256)
    assert described.context_length == 2048


def test_another_file_makes_another_model(base: Path, tmp_path: Path) -> None:
    (tmp_path / "other.gguf").write_bytes(b"GGUF but other")
    other = FakeBackend().import_gguf(tmp_path / "other.gguf", tmp_path / "other").path
    name = "model.safetensors"
    assert (other / name).read_bytes() != (base / name).read_bytes()


def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.gguf").write_text("hello")
    with pytest.raises(UnsupportedModel, match=r"notes\.gguf"):
        FakeBackend().import_gguf(tmp_path / "notes.gguf", tmp_path / "base")


def test_a_folder_without_a_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match=r"config\.json"):
        FakeBackend().inspect(tmp_path)


def test_a_folder_with_code_is_refused(base: Path) -> None:
    (base / "modeling.py").write_text("")
    with pytest.raises(UnsupportedModel, match="code"):
        FakeBackend().load(base)


def test_its_adapter_is_a_real_safetensors_file(base: Path) -> None:
    from safetensors.numpy import load_file

    run = make_run(base, lora={"rank": 4})
    train(run)
    tensors = load_file(run.output / "adapters.safetensors")
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    assert shapes["model.layers.1.self_attn.q_proj.lora_a"] == (16, 4)
    assert shapes["model.layers.1.self_attn.q_proj.lora_b"] == (4, 16)
    config = json.loads((run.output / "adapter_config.json").read_text())
    assert config["fine_tune_type"] == "lora"
    assert config["lora_parameters"]["rank"] == 4


def test_the_loss_falls(base: Path) -> None:
    losses = [e.loss for e in train(make_run(base)) if isinstance(e, Evaluated) and e.adapter]
    valid, test = losses[:-1], losses[-1]
    assert all(later < earlier for earlier, later in pairwise(valid))
    assert test < valid[0]


def test_samples_say_more_as_the_loss_falls(base: Path) -> None:
    run = make_run(base, samples=2)
    answer = "one two three four five six seven eight nine ten"
    said = {"role": "assistant", "content": answer}
    line = json.dumps({"messages": [{"role": "user", "content": "Count"}, said]})
    (run.data / "valid.jsonl").write_text(f"{line}\n\n{line}\n{line}\n")
    samples = [event for event in train(run) if isinstance(event, Sampled)]
    assert [(s.iteration, s.line) for s in samples] == [(n, k) for n in (0, 10, 20) for k in (1, 3)]
    assert (samples[0].prompt, samples[0].expected) == ("Count", answer)
    assert len(samples[-1].answer) > len(samples[0].answer)


@pytest.mark.parametrize("kind", ["lora", "dora", "full"])
def test_the_adapter_says_what_it_is(base: Path, kind: str) -> None:
    run = make_run(base, fine_tune_type=kind, lora={"keys": ["self_attn.q_proj"]})
    train(run)
    config = json.loads((run.output / "adapter_config.json").read_text())
    assert config["fine_tune_type"] == kind
    assert config["lora_parameters"]["keys"] == ["self_attn.q_proj"]


def test_a_wild_learning_rate_diverges(base: Path) -> None:
    with pytest.raises(TrainingDiverged, match=r"iteration 4, on train\.jsonl, lines \d+"):
        train(make_run(base, learning_rate=0.25))


def test_an_adapter_changes_the_reply(base: Path) -> None:
    runs = [make_run(base, "one"), make_run(base, "two", seed=1)]
    for run in runs:
        train(run)
    assert len({reply(base), *(reply(base, run.output) for run in runs)}) == 3


def test_the_length_of_replies_can_be_fixed(base: Path) -> None:
    assert len(reply(base, reply_words=100).split()) == 100


def test_a_reply_can_be_fixed(base: Path) -> None:
    text = "# Bold\n\n- <b>one</b>"
    assert reply(base, reply=text) == text


def test_the_environment_sets_what_arguments_leave_open(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUB_FAKE_REPLY_WORDS", "3")
    assert len(reply(base).split()) == 3
    assert len(reply(base, reply_words=5).split()) == 5


def test_a_reply_may_have_one_part_for_each_turn(base: Path) -> None:
    said = FakeBackend(reply="one\ftwo\fthree").load(base)
    turns = [HELLO, Message(role="assistant", content="Yes?")]
    told = [answer(said, [*(before * turns), HELLO]) for before in range(4)]
    assert told == ["one", "two", "three", "three"]


def test_the_environment_sets_the_context(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_FAKE_CONTEXT", "100000")
    assert FakeBackend().load(base).context_length == 100_000


def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_FAKE_STEP_SECONDS", "soon")
    with pytest.raises(ValueError, match="HUB_FAKE_STEP_SECONDS"):
        FakeBackend()


def test_pace_slows_tokens(base: Path) -> None:
    import time

    began = time.monotonic()
    reply(base, tokens_per_second=100, reply_words=20)
    assert time.monotonic() - began >= 0.2
