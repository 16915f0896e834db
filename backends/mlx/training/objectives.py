"""The loss that a run minimizes: of answers (sft), or of preferences (dpo, orpo).

An objective lays its examples out in batches, and turns a model and a batch into sums
over the batch, of which the first two are the loss and its divisor (tokens, or pairs).
Sums add up over lanes, batches and whole splits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import mlx.core as mx

from backends.base import TrainingConfig
from backends.mlx.data import batching
from backends.mlx.data.batching import Batch
from backends.mlx.data.examples import Example
from backends.mlx.data.preferences import Pair
from backends.mlx.training.loss import Arrays, Lanes, log_probabilities, to_arrays


class Objective(Protocol):
    """`names` are those of the sums."""

    names: tuple[str, ...]

    def batches(self, items: Sequence[Any], *, packed: bool = False) -> list[Batch]:
        """`items` divided over the lanes."""
        ...

    def counted(self, batches: Sequence[Batch]) -> int:
        """The divisor of the summed losses: tokens, or pairs."""
        ...

    def begin(self, model: Any) -> None:
        """Called before the first step, and before a checkpoint is restored."""
        ...

    def arrays(self, model: Any, batches: Sequence[Batch]) -> list[Arrays]:
        """What `sums` needs, by lane."""
        ...

    def sums(self, model: Any, arrays: Arrays, batch: Batch | None = None) -> mx.array:
        """`[len(names)]`. `batch` gives shapes that the CPU's packed attention uses."""
        ...


class Answers:
    """Cross-entropy of the judged tokens."""

    names: tuple[str, ...] = ("loss", "count")

    def __init__(self, config: TrainingConfig, lanes: Lanes) -> None:
        self._config, self._lanes = config, lanes

    def batches(self, items: Sequence[Example], *, packed: bool = False) -> list[Batch]:
        return self._lanes.batches(items, self._config.max_seq_length if packed else None)

    def counted(self, batches: Sequence[Batch]) -> int:
        return sum(batch.judged for batch in batches)

    def begin(self, model: Any) -> None:
        """Nothing to keep."""

    def arrays(self, model: Any, batches: Sequence[Batch]) -> list[Arrays]:
        return [to_arrays(batch) for batch in batches]

    def sums(self, model: Any, arrays: Arrays, batch: Batch | None = None) -> mx.array:
        spans = batch.spans if batch is not None else ()
        said = log_probabilities(model, arrays, spans)
        return mx.stack([-said.sum(), arrays["weights"].sum()])


class Preferences:
    """DPO (https://arxiv.org/abs/2305.18290) or ORPO (https://arxiv.org/abs/2403.07691).

    A batch holds the chosen answers' rows and, in the same order, the rejected ones'. The margin
    is how much more the model (for dpo: than its base) prefers the chosen answer, times beta.
    """

    names: tuple[str, ...] = ("loss", "count", "chosen_loss", "chosen_tokens", "margin", "accuracy")

    def __init__(self, config: TrainingConfig, lanes: Lanes) -> None:
        self._config, self._lanes = config, lanes
        self._base: Any = None

    def batches(self, items: Sequence[Pair], *, packed: bool = False) -> list[Batch]:
        return [
            batching.make_batch(
                [pair.chosen for pair in group] + [pair.rejected for pair in group],
                self._lanes.pad_to,
            )
            for group in batching.divide(items, len(self._lanes.streams))
        ]

    def counted(self, batches: Sequence[Batch]) -> int:
        return sum(len(batch.inputs) // 2 for batch in batches)

    def begin(self, model: Any) -> None:
        """Keep the untrained weights (an adapter that adds nothing): they are the reference."""
        if self._config.objective == "dpo":
            self._base = model.trainable_parameters()

    def arrays(self, model: Any, batches: Sequence[Batch]) -> list[Arrays]:
        """With the reference's log-probabilities for dpo.

        They are computed again in each step, not kept: the rest of the batch changes their last
        bits, and a resumed run has to find the same.
        """
        found = [to_arrays(batch) for batch in batches]
        if self._base is None:
            return found
        tuned, training = model.trainable_parameters(), model.training
        model.update(self._base)
        model.eval()
        for stream, arrays in zip(self._lanes.streams, found, strict=False):
            with mx.stream(stream):
                arrays["reference"] = by_answer(model, arrays)[0]
        mx.eval([arrays["reference"] for arrays in found])
        model.update(tuned)
        model.train(training)
        return found

    def sums(self, model: Any, arrays: Arrays, batch: Batch | None = None) -> mx.array:
        said, tokens = by_answer(model, arrays)
        pairs = said.shape[0] // 2
        if "reference" in arrays:
            losses, margins = dpo(said, arrays["reference"], self._config.beta)
        else:
            losses, margins = orpo(said / mx.maximum(tokens, 1), self._config.beta)
        return mx.stack(
            [
                losses.sum(),
                mx.array(float(pairs)),
                -said[:pairs].sum(),
                tokens[:pairs].sum(),
                margins.sum(),
                (margins > 0).sum().astype(mx.float32),
            ]
        )


def by_answer(model: Any, arrays: Arrays) -> tuple[mx.array, mx.array]:
    """Summed log p and number of tokens of each row's answer, both `[rows]`."""
    # A product with zeros and ones, because a scattered sum has no fixed order on a GPU.
    rows = mx.arange(arrays["inputs"].shape[0])
    member = (rows[:, None] == arrays["owners"][None]).astype(mx.float32) * arrays["weights"]
    return member @ log_probabilities(model, arrays), member.sum(axis=1)


def dpo(said: mx.array, reference: mx.array, beta: float) -> tuple[mx.array, mx.array]:
    """(losses, margins) by pair, from the summed log p `[2 * pairs]`: chosen, then rejected."""
    chosen, rejected = mx.split(said - reference, 2)
    margins = beta * (chosen - rejected)
    return _minus_log_sigmoid(margins), margins


def orpo(mean: mx.array, beta: float) -> tuple[mx.array, mx.array]:
    """(losses, margins) by pair, from the mean log p per token `[2 * pairs]`."""
    chosen, rejected = mx.split(mx.minimum(mean, -1e-6), 2)  # the odds of certainty are infinite
    log_odds = (chosen - rejected) - (_log_1m_exp(chosen) - _log_1m_exp(rejected))
    return beta * _minus_log_sigmoid(log_odds) - chosen, beta * (chosen - rejected)


def _minus_log_sigmoid(x: mx.array) -> mx.array:
    return mx.logaddexp(mx.array(0.0), -x)


def _log_1m_exp(x: mx.array) -> mx.array:
    """log(1 − e^x) for x < 0."""
    return mx.log(-mx.expm1(x))


def objective_of(config: TrainingConfig, lanes: Lanes) -> Objective:
    if config.objective == "sft":
        return Answers(config, lanes)
    return Preferences(config, lanes)
