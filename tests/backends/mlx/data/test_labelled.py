"""KTO: the data it reads, and its loss and gradient against numpy's.

The reference is written from TRL's KTOTrainer: answers shifted by one within the batch, the mean of
their log-ratios clamped at zero, and 1 − σ of what remains on an answer's side.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten
from numpy.typing import NDArray

from backends.base import BadExample, Evaluated, LoraConfig, Stepped, TrainingConfig
from backends.examples import BAD as BAD_ANSWER
from backends.fake import examples as fake
from backends.mlx.data import cache
from backends.mlx.data.examples import Example
from backends.mlx.data.preferences import Labelled, with_others
from backends.mlx.files.loading import open_model
from backends.mlx.training import lora, objectives
from backends.mlx.training.loss import Lanes
from tests.backends.mlx.data.reading import read_labelled
from tests.backends.training_runs import events, make_run, of, write_labelled, write_split

pytestmark = pytest.mark.any_database

BETA, GOOD, BAD = 0.3, 1.5, 0.5


@pytest.fixture(scope="session")
def tokenizer(tiny_base: Path) -> Any:
    from mlx_lm.utils import load_tokenizer

    return load_tokenizer(tiny_base)


def read(folder: Path, tokenizer: Any, *values: Any, limit: int = 2048) -> list[Labelled]:
    write_split(folder, "train", list(values))
    return list(read_labelled(folder / "train.jsonl", tokenizer, limit).examples)


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


# ---------------------------------------------------------------- data


def test_texts_messages_and_pairs_are_the_same_answers(tmp_path: Path, tokenizer: Any) -> None:
    asked = [{"role": "user", "content": "Is it?"}]
    yes, no = ([{"role": "assistant", "content": text}] for text in ("Yes.", "No."))
    found = read(
        tmp_path / "data",
        tokenizer,
        {"prompt": "Is it?", "completion": "Yes.", "label": True},
        {"prompt": asked, "completion": no, "label": False},
        {"prompt": "Is it?", "chosen": "Yes.", "rejected": "No."},
        {"prompt": asked, "completion": [*asked, *yes], "label": True},
    )
    assert [(item.line, item.good) for item in found] == [
        (1, True),
        (2, False),
        (3, True),
        (3, False),
        (4, True),
    ]
    one, two, three, four, five = (item.example for item in found)
    assert one == three == five
    assert two == four
    assert tokenizer.decode(two.tokens[two.start : -1]) == "No."


def test_an_answer_beyond_the_limit_is_dropped_with_the_other_of_its_pair(
    tmp_path: Path, tokenizer: Any
) -> None:
    found = read(
        tmp_path / "data",
        tokenizer,
        {"prompt": "x", "completion": "y", "label": True},
        {"prompt": "x " * 200, "completion": "y", "label": False},
        {"prompt": "x", "chosen": "a " * 200 + "y", "rejected": "a " * 200 + "z"},
        limit=100,
    )
    assert [item.line for item in found] == [1]
    with pytest.raises(BadExample, match=r"line 1: .*are the same"):
        read(tmp_path / "data", tokenizer, {"prompt": "x", "chosen": "y", "rejected": "y"})


def test_each_request_gets_the_answer_before_it() -> None:
    """Learned parts move with it, and what is beyond the limit is cut."""
    one = Example([1, 2, 3, 10, 11], 3)
    two = Example([4, 5, 20, 21, 22, 23], 4, earlier=((2, 3),))
    items = [Labelled(one, True, 1), Labelled(two, False, 2)]
    first, second = with_others(items, 99)
    assert first.other == Example([1, 2, 3, 20, 21, 22, 23], 5, earlier=((3, 4),))
    assert second.other == Example([4, 5, 10, 11], 2)
    cut, _ = with_others(items, 5)
    assert cut.other == Example([1, 2, 3, 20, 21], 5, earlier=((3, 4),))
    assert with_others(items[:1], 99) == items[:1]
    assert with_others(items, 3)[0].other is None


# ---------------------------------------------------------------- loss


def log_p(model: Any, example: Example) -> float:
    """Summed log p of the learned tokens, in float64."""
    logits = np.array(model(mx.array([example.tokens[:-1]]))[0]).astype(np.float64)
    said = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    rows = np.arange(example.start - 1, example.length - 1)
    found: float = said[rows, example.tokens[example.start :]].sum()
    return found


def by_hand(
    model: Any, bare: Any, items: list[Labelled]
) -> tuple[float, NDArray[np.float64], float]:
    """The summed loss, its slope by the log p of each answer, and the baseline."""
    ratio = np.array([log_p(model, i.example) - log_p(bare, i.example) for i in items])
    mixed = []
    for n, item in enumerate(items):
        before = items[n - 1].example
        tokens = item.example.tokens[: item.example.start] + before.tokens[before.start :]
        mixed.append(Example(tokens, item.example.start))
    baseline = max(0.0, np.mean([log_p(model, one) - log_p(bare, one) for one in mixed]))
    side = np.array([1.0 if item.good else -1.0 for item in items])
    weights = np.array([GOOD if item.good else BAD for item in items])
    value = sigmoid(BETA * side * (ratio - baseline))
    slopes = -weights * BETA * side * value * (1 - value)
    return float((weights * (1 - value)).sum()), slopes, float(baseline)


@pytest.mark.usefixtures("lanes")
@pytest.mark.parametrize("change", [0.02, -0.02])
def test_loss_and_gradient_are_numpys(
    tiny_base: Path, tmp_path: Path, tokenizer: Any, change: float
) -> None:
    """Over the lanes, with padding, for a model that finds other answers likelier than its base
    does, and for one that does not: the baseline is 0 then."""
    config = TrainingConfig(
        objective="kto",
        beta=BETA,
        desirable_weight=GOOD,
        undesirable_weight=BAD,
        lora=LoraConfig(rank=2, dropout=0.5, scale=1.0),
    )
    items = read_labelled(write_labelled(tmp_path) / "valid.jsonl", tokenizer, 2048).examples
    bare, *_ = open_model(tiny_base)
    model, *_ = open_model(tiny_base)
    lora.adapt(model, config)
    with Lanes.open() as lanes:
        objective = objectives.LabelledAnswers(config, lanes)
        objective.begin(model)
        mx.random.seed(5)
        for layer in model.layers:
            shape = layer.mlp.down_proj.lora_b.shape
            layer.mlp.down_proj.lora_b = change * mx.abs(mx.random.normal(shape))
        batches = objective.batches(items)
        kept = objective.arrays(model, batches)
        model.train()
        fresh = objective.fresh(model, kept)
        assert model.training
        model.eval()  # without dropout, as by hand
        weights = model.trainable_parameters()

        def loss(parameters: Any) -> mx.array:
            model.update(parameters)
            return sum((objective.sums(model, lane)[0] for lane in fresh), mx.array(0.0))

        def said(parameters: Any) -> mx.array:
            """Each answer by itself, times the slope that was computed by hand."""
            model.update(parameters)
            total = mx.array(0.0)
            for item, slope in zip(items, slopes, strict=True):
                logits = model(mx.array([item.example.tokens[:-1]]))[0, item.example.start - 1 :]
                targets = mx.array(item.example.tokens[item.example.start :])
                picked = mx.take_along_axis(logits, targets[:, None], axis=-1)[:, 0]
                total = total + float(slope) * (picked - mx.logsumexp(logits, axis=-1)).sum()
            return total

        found, gradient = mx.value_and_grad(loss)(weights)
        model.update(weights)
        expected, slopes, baseline = by_hand(model, bare, items)
        _, by_slopes = mx.value_and_grad(said)(weights)
        assert (baseline > 0) == (change < 0)
        assert found.item() == pytest.approx(expected, rel=1e-4)
        assert float(fresh[0]["baseline"].item()) == pytest.approx(baseline, rel=1e-3, abs=1e-5)
        for (name, one), (_, other) in zip(
            tree_flatten(gradient), tree_flatten(by_slopes), strict=True
        ):
            assert np.allclose(np.array(one), np.array(other), rtol=2e-2, atol=1e-5), name
    assert not any(name.startswith("other_") for lane in fresh for name in lane)


def test_the_baseline_is_clamped_and_has_no_gradient() -> None:
    ratio, good = mx.array([1.0, -2.0]), mx.array([1.0, 0.0])
    slope = mx.grad(lambda z: objectives.kto(ratio, good, z, BETA)[0].sum())(mx.array(0.5))
    assert slope.item() == 0.0
    losses, margins = objectives.kto(ratio, good, mx.array(0.5), BETA)
    expected = BETA * np.array([0.5, 2.5])
    assert np.allclose(np.array(margins), expected)
    assert np.allclose(np.array(losses), 1 - sigmoid(expected))


def test_simpo_is_the_papers_formula() -> None:
    """Equation 6 of https://arxiv.org/abs/2405.14734, in float64."""
    mean = -np.random.default_rng(5).uniform(0.05, 4, 8)
    expected = -np.log(sigmoid(2.0 * (mean[:4] - mean[4:]) - 0.7))
    losses, _ = objectives.simpo(mx.array(mean.astype(np.float32)), 2.0, 0.7)
    assert np.allclose(np.array(losses), expected, rtol=1e-4)


# ---------------------------------------------------------------- good ones alone


ASKED = [
    {"role": "user", "content": "q"},
    {"role": "assistant", "content": "before"},
    {"role": "user", "content": "r"},
]
GOOD_AND_BAD = [
    {"prompt": ASKED, "completion": [{"role": "assistant", "content": "right"}], "label": True},
    {"prompt": ASKED, "completion": "wrong", "label": False},
]


def test_sft_learns_good_answers_and_counts_the_bad_ones(
    tiny_base: Path, tmp_path: Path, tokenizer: Any
) -> None:
    write_split(tmp_path, "train", GOOD_AND_BAD)
    path = tmp_path / "train.jsonl"
    split = cache.read_here(path, tiny_base, tokenizer, TrainingConfig())
    [example] = split.examples
    assert (split.dropped, split.notes) == (1, {BAD_ANSWER: 1})
    learned = [tokenizer.decode(example.tokens[a:b]) for a, b in example.learned]
    assert [text.removesuffix(tokenizer.eos_token).strip() for text in learned] == ["right"]
    [whole] = cache.read_here(
        path, tiny_base, tokenizer, TrainingConfig(learn="everything")
    ).examples
    assert (whole.tokens, whole.start) == (example.tokens, 1)


def test_the_fake_learns_good_answers_and_counts_the_bad_ones(tmp_path: Path) -> None:
    write_split(tmp_path, "train", GOOD_AND_BAD)
    path = tmp_path / "train.jsonl"
    split = fake.read_split(path, TrainingConfig())
    [line] = split.examples
    assert (line.expected, split.dropped, split.notes) == ("right", 1, {BAD_ANSWER: 1})


# ---------------------------------------------------------------- runs


def test_kto_starts_at_the_base(tiny_base: Path, tmp_path: Path) -> None:
    """Model and reference are the same then: 1 − σ(0), times the weights."""
    data = write_labelled(tmp_path / "data")
    run = make_run(tiny_base, data, tmp_path, objective="kto", iters=1, warmup=0)
    happened = events(run)
    assert of(Evaluated, happened)[0].loss == pytest.approx(0.5, rel=1e-6)
    assert of(Stepped, happened)[0].grad_norm > 0


@pytest.mark.usefixtures("lanes")
def test_a_validation_measures_the_baseline_again(tiny_base: Path, tmp_path: Path) -> None:
    """It belongs to the present weights, unlike the reference."""
    from backends.mlx.training.evaluation import Evaluation

    config = TrainingConfig(objective="kto", lora=LoraConfig(rank=2))
    model, tokenizer, _ = open_model(tiny_base)
    lora.adapt(model, config)
    items = cache.read_here(
        write_labelled(tmp_path) / "valid.jsonl", tiny_base, tokenizer, config
    ).examples
    with Lanes.open() as lanes:
        objective = objectives.LabelledAnswers(config, lanes)
        objective.begin(model)
        kept = Evaluation(objective, lanes, items)
        assert kept.measure(model)["loss"] == pytest.approx(0.5)
        for layer in model.layers:
            layer.mlp.down_proj.lora_b = layer.mlp.down_proj.lora_b + 0.05
        assert kept.measure(model) == Evaluation(objective, lanes, items).measure(model)
