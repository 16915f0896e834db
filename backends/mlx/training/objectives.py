"""The loss that a run minimizes: of answers (sft), or of preferences (dpo, orpo, simpo, kto).

An objective lays its examples out in batches, and turns a model and a batch into sums
over the batch, of which the first two are the loss and its divisor (tokens, pairs or answers).
Sums add up over lanes, batches and whole splits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import mlx.core as mx

from backends.base import TrainingConfig
from backends.mlx.data import batching, preferences
from backends.mlx.data.batching import Batch
from backends.mlx.data.examples import Example
from backends.mlx.data.preferences import Labelled, LabelledBatch, Pair
from backends.mlx.training.loss import Arrays, Lanes, log_probabilities, to_arrays
from backends.schedule import divide


class Objective(Protocol):
    """`names` are those of the sums."""

    names: tuple[str, ...]

    def pieces(self, batch: Sequence[Any], *, packed: bool = False) -> list[list[Any]]:
        """`batch` in parts that are computed one after the other, whose sums add up to its own."""
        ...

    def batches(self, items: Sequence[Any], *, packed: bool = False) -> list[Batch]:
        """`items` divided over the lanes."""
        ...

    def counted(self, batches: Sequence[Batch]) -> int:
        """The divisor of the summed losses: tokens, pairs or answers."""
        ...

    def begin(self, model: Any) -> None:
        """Called before the first step, and before a checkpoint is restored."""
        ...

    def laid(self, batches: Sequence[Batch]) -> list[Arrays]:
        """What a model has no part in, by lane."""
        ...

    def arrays(self, model: Any, batches: Sequence[Batch]) -> list[Arrays]:
        """What `fresh` needs, by lane: with what the base says under names that end in `REFERENCE`,
        which does not depend on what was learned."""
        ...

    def fresh(self, model: Any, arrays: Sequence[Arrays]) -> list[Arrays]:
        """What `sums` needs, by lane, with the present weights."""
        ...

    def sums(self, model: Any, arrays: Arrays, batch: Batch | None = None) -> mx.array:
        """`[len(names)]`. `batch` gives shapes that the CPU's packed attention uses."""
        ...


class Answers:
    """Cross-entropy of the judged tokens."""

    names: tuple[str, ...] = ("loss", "count")

    def __init__(self, config: TrainingConfig, lanes: Lanes) -> None:
        self._config, self._lanes = config, lanes

    def pieces(self, batch: Sequence[Example], *, packed: bool = False) -> list[list[Example]]:
        if self._config.fine_tune_type == "full":
            return [list(batch)]  # the sum of a piece's gradients would be as large as the model
        return self._lanes.pieces(batch, packed=packed)

    def batches(self, items: Sequence[Example], *, packed: bool = False) -> list[Batch]:
        return self._lanes.batches(items, self._config.max_seq_length if packed else None)

    def counted(self, batches: Sequence[Batch]) -> int:
        return sum(batch.judged for batch in batches)

    def begin(self, model: Any) -> None:
        """Nothing to keep."""

    def laid(self, batches: Sequence[Batch]) -> list[Arrays]:
        return [to_arrays(batch) for batch in batches]

    def arrays(self, model: Any, batches: Sequence[Batch]) -> list[Arrays]:
        return self.laid(batches)

    def fresh(self, model: Any, arrays: Sequence[Arrays]) -> list[Arrays]:
        return list(arrays)

    def sums(self, model: Any, arrays: Arrays, batch: Batch | None = None) -> mx.array:
        spans = batch.spans if batch is not None else ()
        said = log_probabilities(model, arrays, spans)
        return mx.stack([-said.sum(), arrays["weights"].sum()])


class _Judged:
    """What preferences and labelled answers share: whole answers, compared with what the base says."""

    names: tuple[str, ...] = ("loss", "count", "chosen_loss", "chosen_tokens", "margin", "accuracy")

    def __init__(self, config: TrainingConfig, lanes: Lanes) -> None:
        self._config, self._lanes = config, lanes
        self._base: Any = None

    def begin(self, model: Any) -> None:
        """Keep the untrained weights (an adapter that adds nothing): they are the reference."""
        if self._config.objective in ("dpo", "kto"):
            self._base = model.trainable_parameters()

    def laid(self, batches: Sequence[Batch]) -> list[Arrays]:
        return [to_arrays(batch) for batch in batches]

    def arrays(self, model: Any, batches: Sequence[Batch]) -> list[Arrays]:
        """With the reference's log-probabilities for dpo and kto.

        They are computed again in each step, not kept: the rest of the batch changes their last
        bits, and a resumed run has to find the same.
        """
        found = self.laid(batches)
        if self._base is not None:
            for arrays, said in zip(found, self._base_said(model, found), strict=True):
                arrays[REFERENCE] = said
        return found

    def _base_said(self, model: Any, lanes: Sequence[Arrays]) -> list[mx.array]:
        tuned = model.trainable_parameters()
        model.update(self._base)
        found = self._said(model, lanes)
        model.update(tuned)
        return found

    def fresh(self, model: Any, arrays: Sequence[Arrays]) -> list[Arrays]:
        return list(arrays)

    def _said(self, model: Any, lanes: Sequence[Arrays]) -> list[mx.array]:
        """Summed log p of each answer, by lane, without dropout and without a gradient."""
        training = model.training
        model.eval()
        found = []
        for stream, arrays in zip(self._lanes.streams, lanes, strict=False):
            with mx.stream(stream):
                found.append(by_answer(model, arrays)[0])
        mx.eval(found)
        model.train(training)
        return found


class Preferences(_Judged):
    """DPO (https://arxiv.org/abs/2305.18290), ORPO (https://arxiv.org/abs/2403.07691) or SimPO
    (https://arxiv.org/abs/2405.14734).

    A batch holds the chosen answers' rows and, in the same order, the rejected ones'. The margin
    is how much more the model (for dpo: than its base) prefers the chosen answer, times beta.
    """

    def pieces(self, batch: Sequence[Pair], *, packed: bool = False) -> list[list[Pair]]:
        if self._config.fine_tune_type == "full":
            return [list(batch)]
        return self._lanes.pieces(batch, rows=2)

    def batches(self, items: Sequence[Pair], *, packed: bool = False) -> list[Batch]:
        return [
            batching.make_batch(
                [pair.chosen for pair in group] + [pair.rejected for pair in group],
                self._lanes.padding,
            )
            for group in divide(items, len(self._lanes.streams))
        ]

    def counted(self, batches: Sequence[Batch]) -> int:
        return sum(len(batch.inputs) // 2 for batch in batches)

    def sums(self, model: Any, arrays: Arrays, batch: Batch | None = None) -> mx.array:
        said, tokens = by_answer(model, arrays)
        pairs = said.shape[0] // 2
        if REFERENCE in arrays:
            losses, margins = dpo(said, arrays[REFERENCE], self._config.beta)
        elif self._config.objective == "simpo":
            mean = said / mx.maximum(tokens, 1)
            losses, margins = simpo(mean, self._config.beta, self._config.gamma)
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


class LabelledAnswers(_Judged):
    """KTO (https://arxiv.org/abs/2402.01306), as TRL computes it.

    Its baseline is how much likelier the model than its base finds answers to other requests: those of
    a batch, each given to the next request, at least 0 and without a gradient. The margin is how far
    an answer is on its side of the baseline, times beta.
    """

    def pieces(self, batch: Sequence[Labelled], *, packed: bool = False) -> list[list[Labelled]]:
        """The batch as it is: its answers are judged beside each other."""
        return [list(batch)]

    def batches(self, items: Sequence[Labelled], *, packed: bool = False) -> list[Batch]:
        mixed = preferences.with_others(items, self._config.max_seq_length)
        return [
            preferences.labelled_batch(group, self._lanes.padding)
            for group in divide(mixed, len(self._lanes.streams))
        ]

    def counted(self, batches: Sequence[Batch]) -> int:
        return sum(len(batch.inputs) for batch in batches)

    def laid(self, batches: Sequence[Batch]) -> list[Arrays]:
        """With which answers are good and, under names of their own, the answers to other requests."""
        found = super().laid(batches)
        for arrays, batch in zip(found, batches, strict=True):
            assert isinstance(batch, LabelledBatch)
            arrays["good"] = mx.array(batch.good)
            if batch.others:
                arrays |= {f"{_OTHER}{name}": v for name, v in to_arrays(batch.others).items()}
        return found

    def arrays(self, model: Any, batches: Sequence[Batch]) -> list[Arrays]:
        found = super().arrays(model, batches)
        having = [lane for lane in found if f"{_OTHER}inputs" in lane]
        for lane, said in zip(having, self._base_said(model, _others(having)), strict=True):
            lane[f"{_OTHER}{REFERENCE}"] = said
        return found

    def fresh(self, model: Any, arrays: Sequence[Arrays]) -> list[Arrays]:
        """With the baseline in place of the other answers."""
        others = _others(arrays)
        baseline = mx.array(0.0)
        if others:
            said = mx.concatenate(self._said(model, others))
            reference = mx.concatenate([lane[REFERENCE] for lane in others])
            baseline = mx.maximum((said - reference).mean(), 0.0)
        return [
            {name: value for name, value in lane.items() if not name.startswith(_OTHER)}
            | {"baseline": baseline}
            for lane in arrays
        ]

    def sums(self, model: Any, arrays: Arrays, batch: Batch | None = None) -> mx.array:
        said, tokens = by_answer(model, arrays)
        good, config = arrays["good"], self._config
        ratio = said - arrays[REFERENCE]
        weights = good * config.desirable_weight + (1 - good) * config.undesirable_weight
        losses, margins = kto(ratio, good, arrays["baseline"], config.beta)
        return mx.stack(
            [
                (weights * losses).sum(),
                mx.array(float(said.shape[0])),
                -(good * said).sum(),
                (good * tokens).sum(),
                margins.sum(),
                (margins > 0).sum().astype(mx.float32),
            ]
        )


REFERENCE = "reference"
_OTHER = "other_"


def _others(lanes: Sequence[Arrays]) -> list[Arrays]:
    """The answers to other requests, of the lanes that have some."""
    found = [
        {name.removeprefix(_OTHER): lane[name] for name in lane if name.startswith(_OTHER)}
        for lane in lanes
    ]
    return [lane for lane in found if lane]


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


def simpo(mean: mx.array, beta: float, gamma: float) -> tuple[mx.array, mx.array]:
    """(losses, margins) by pair, from the mean log p per token `[2 * pairs]`."""
    chosen, rejected = mx.split(mean, 2)
    margins = beta * (chosen - rejected)
    return _minus_log_sigmoid(margins - gamma), margins


def kto(
    ratio: mx.array, good: mx.array, baseline: mx.array, beta: float
) -> tuple[mx.array, mx.array]:
    """(losses, margins) by answer, all `[answers]`: `ratio` is log p over the reference's, `good` 1 or
    0. The baseline has no gradient."""
    margins = beta * (ratio - mx.stop_gradient(baseline)) * (2 * good - 1)
    return 1 - mx.sigmoid(margins), margins


def _minus_log_sigmoid(x: mx.array) -> mx.array:
    return mx.logaddexp(mx.array(0.0), -x)


def _log_1m_exp(x: mx.array) -> mx.array:
    """log(1 − e^x) for x < 0."""
    return mx.log(-mx.expm1(x))


def objective_of(config: TrainingConfig, lanes: Lanes) -> Objective:
    if config.objective == "sft":
        return Answers(config, lanes)
    if config.objective == "kto":
        return LabelledAnswers(config, lanes)
    return Preferences(config, lanes)
