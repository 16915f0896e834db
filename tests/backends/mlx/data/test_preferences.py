"""DPO and ORPO: the data they read, their formulas, and that they prefer what was chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from backends.base import BadExample, Evaluated, Finished, LoraConfig, Stepped, TrainingConfig
from backends.examples import as_chat
from backends.mlx.data.preferences import Pair
from backends.mlx.files.loading import open_model
from backends.mlx.training import lora, objectives
from backends.mlx.training.loss import Lanes
from tests.backends.mlx.data.reading import read_pairs
from tests.backends.training_runs import events, make_run, of, write_split

pytestmark = pytest.mark.any_database


def read(folder: Path, tokenizer: Any, *values: Any, limit: int = 2048) -> list[Pair]:
    write_split(folder, "train", list(values))
    return list(read_pairs(folder / "train.jsonl", tokenizer, limit).examples)


@pytest.fixture(scope="session")
def tokenizer(tiny_base: Path) -> Any:
    from mlx_lm.utils import load_tokenizer

    return load_tokenizer(tiny_base)


def test_every_shape_of_a_preference_is_the_same_pair(preferences: Path, tokenizer: Any) -> None:
    asked = [{"role": "user", "content": "Is it?"}]
    yes, no = ([{"role": "assistant", "content": text}] for text in ("Yes.", "No."))
    pairs = read(
        preferences,
        tokenizer,
        {"prompt": "Is it?", "chosen": "Yes.", "rejected": "No."},
        {"prompt": asked, "chosen": yes, "rejected": no},
        {"messages": asked, "chosen": "Yes.", "rejected": "No."},
        {"prompt": "Is it?", "chosen": [*asked, *yes], "rejected": [*asked, *no]},
    )
    assert [pair.line for pair in pairs] == [1, 2, 3, 4]
    assert len({tuple(pair.chosen.tokens) for pair in pairs}) == 1
    chosen, rejected = pairs[0].chosen, pairs[0].rejected
    assert chosen.tokens[: chosen.start] == rejected.tokens[: rejected.start]
    assert tokenizer.decode(rejected.tokens[rejected.start : -1]) == "No."


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"prompt": "x", "completion": "y"}, 'needs "prompt", "chosen" and "rejected"'),
        ({"prompt": "x", "chosen": "y"}, "needs"),
        ({"prompt": [], "chosen": "y", "rejected": "z"}, "the prompt is empty"),
        ({"prompt": "x", "chosen": "y", "rejected": "y"}, "are the same"),
        ({"prompt": "x", "chosen": "y", "rejected": 3}, "every message"),
        ([], "not a JSON object"),
    ],
)
def test_what_is_no_preference_is_named(
    tmp_path: Path, tokenizer: Any, value: Any, reason: str
) -> None:
    good = {"prompt": "x", "chosen": "y", "rejected": "z"}
    with pytest.raises(BadExample, match=rf"train\.jsonl, line 2: .*{reason}"):
        read(tmp_path / "data", tokenizer, good, value)


def test_preferences_are_not_read_as_answers(
    tiny_base: Path, preferences: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadExample, match="objective dpo, orpo, simpo or kto"):
        events(make_run(tiny_base, preferences, tmp_path))


def test_a_pair_without_both_answers_within_the_limit_is_dropped(
    tmp_path: Path, tokenizer: Any
) -> None:
    near = {"prompt": "x", "chosen": "y", "rejected": "z"}
    far = {"prompt": "x " * 200, "chosen": "y", "rejected": "z"}
    alike = {"prompt": "x", "chosen": "a " * 200 + "y", "rejected": "a " * 200 + "z"}
    assert [p.line for p in read(tmp_path / "data", tokenizer, near, far, alike, limit=100)] == [1]


def test_the_request_is_not_said_twice() -> None:
    asked = {"role": "user", "content": "Hi"}
    answer = {"role": "assistant", "content": "Hello"}
    value = {"prompt": "Hi", "chosen": [asked, answer], "rejected": "Go away"}
    assert as_chat(value) == {"messages": [asked, answer]}


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def test_dpo_is_the_papers_formula() -> None:
    """Equation 7 of https://arxiv.org/abs/2305.18290, in float64."""
    draw = np.random.default_rng(3)
    said, reference = draw.normal(-20, 6, 8), draw.normal(-20, 6, 8)
    ratio = said - reference
    expected = -np.log(sigmoid(0.3 * (ratio[:4] - ratio[4:])))
    losses, margins = objectives.dpo(
        mx.array(said.astype(np.float32)), mx.array(reference.astype(np.float32)), 0.3
    )
    assert np.allclose(np.array(losses), expected, rtol=1e-4)
    assert np.allclose(np.array(margins), 0.3 * (ratio[:4] - ratio[4:]), rtol=1e-4)


def test_orpo_is_the_papers_formula() -> None:
    """Equations 4 to 7 of https://arxiv.org/abs/2403.07691, in float64."""
    mean = -np.random.default_rng(4).uniform(0.05, 4, 8)
    p = np.exp(mean)
    odds = p / (1 - p)
    expected = -mean[:4] + 0.3 * -np.log(sigmoid(np.log(odds[:4] / odds[4:])))
    losses, _ = objectives.orpo(mx.array(mean.astype(np.float32)), 0.3)
    assert np.allclose(np.array(losses), expected, rtol=1e-4)


def test_a_certain_answer_gives_no_infinity() -> None:
    losses, _ = objectives.orpo(mx.array([0.0, -1e-9, -5.0, 0.0]), 0.1)
    assert bool(mx.isfinite(losses).all())


@pytest.mark.usefixtures("lanes")
def test_the_log_probabilities_of_answers_are_numpys(
    tiny_base: Path, preferences: Path, tokenizer: Any
) -> None:
    """Which tokens belong to which answer, over the lanes and with padding."""
    config = TrainingConfig(objective="orpo")
    model, *_ = open_model(tiny_base)
    pairs = read_pairs(preferences / "valid.jsonl", tokenizer, 2048).examples
    with Lanes.open() as lanes:
        objective = objectives.Preferences(config, lanes)
        batches = objective.batches(pairs)
        found = [objectives.by_answer(model, arrays) for arrays in objective.arrays(model, batches)]
        mx.eval(found)
        sums = sorted(float(value) for said, _ in found for value in said.tolist())
    expected = []
    for example in [e for pair in pairs for e in (pair.chosen, pair.rejected)]:
        logits = np.array(model(mx.array([example.tokens[:-1]]))[0]).astype(np.float64)
        said = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        rows = np.arange(example.start - 1, example.length - 1)
        expected.append(said[rows, example.tokens[example.start :]].sum())
    assert np.allclose(sums, sorted(expected), rtol=1e-4)


@pytest.mark.parametrize("objective", ["dpo", "orpo", "simpo", "kto"])
@pytest.mark.parametrize("kind", ["lora", "full"])
def test_the_loss_falls_and_the_chosen_answers_margin_grows(
    tiny_base: Path, preferences: Path, tmp_path: Path, objective: str, kind: str
) -> None:
    settings = {"iters": 6, "learning_rate": 1e-2 if kind == "lora" else 1e-3, "warmup": 0}
    run = make_run(
        tiny_base, preferences, tmp_path, objective=objective, fine_tune_type=kind, **settings
    )
    happened = events(run)
    metrics = of(Finished, happened)[0].metrics
    assert metrics["val_loss"] < metrics["base_val_loss"]
    assert metrics["val_margin"] > metrics["base_val_margin"]
    assert metrics["val_accuracy"] == 1.0
    assert of(Stepped, happened)[-1].train_loss < of(Stepped, happened)[0].train_loss
    assert metrics["perplexity"] > 1


def test_dpo_starts_at_the_base(tiny_base: Path, preferences: Path, tmp_path: Path) -> None:
    """Model and reference are the same then: ln 2, whatever the answers are."""
    run = make_run(tiny_base, preferences, tmp_path, objective="dpo", iters=1, warmup=0)
    happened = events(run)
    assert of(Evaluated, happened)[0].loss == pytest.approx(np.log(2), rel=1e-6)
    assert of(Stepped, happened)[0].grad_norm > 0


@pytest.mark.usefixtures("lanes")
def test_the_reference_is_the_model_without_its_adapter(
    tiny_base: Path, preferences: Path, tokenizer: Any
) -> None:
    config = TrainingConfig(objective="dpo", lora=LoraConfig(rank=2, dropout=0.5))
    pairs = read_pairs(preferences / "valid.jsonl", tokenizer, 2048).examples
    bare, *_ = open_model(tiny_base)
    model, *_ = open_model(tiny_base)
    lora.adapt(model, config)
    with Lanes.open() as lanes:
        objective = objectives.Preferences(config, lanes)
        objective.begin(model)
        for layer in model.layers:
            layer.self_attn.q_proj.lora_b = layer.self_attn.q_proj.lora_b + 1.0
        model.train()
        for arrays in objective.arrays(model, objective.batches(pairs)):
            expected, tuned = (objectives.by_answer(m, arrays)[0] for m in (bare, model))
            assert np.allclose(np.array(arrays["reference"]), np.array(expected), rtol=1e-5)
            assert not np.allclose(np.array(arrays["reference"]), np.array(tuned), rtol=1e-3)
        assert model.training


def test_accumulated_pairs_make_the_step_of_one_large_batch(
    tiny_base: Path, preferences: Path, tmp_path: Path
) -> None:
    one, three = (
        of(
            Stepped,
            events(
                make_run(
                    tiny_base,
                    preferences,
                    tmp_path / str(steps),
                    objective="dpo",
                    iters=2,
                    warmup=0,
                    lora=LoraConfig(rank=4),
                    batch_size=6 // steps,
                    grad_accumulation_steps=steps,
                )
            ),
        )
        for steps in (1, 3)
    )
    for a, b in zip(one, three, strict=True):
        assert a.train_loss == pytest.approx(b.train_loss, rel=1e-4)
        assert a.grad_norm == pytest.approx(b.grad_norm, rel=1e-3)
