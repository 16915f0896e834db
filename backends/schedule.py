"""How many steps a run takes, the learning rate of each, what is due after it, and how its examples are
put together by their lengths: one rule for every backend, and for planning."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from backends.base import TrainingConfig

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WINDOW = 16
"""Steps whose examples are sorted by length together, so that a batch has examples of like length."""


@dataclass
class Best:
    """The best validation so far. It is part of a checkpoint, so that a resumed run stops and ends
    where an uninterrupted one does."""

    loss: float | None = None
    iteration: int = 0  # of that loss
    validated: int = 0  # the last iteration that was validated
    waited: int = 0  # validations since the best

    def record(self, iteration: int, loss: float) -> None:
        """Count the validation after `iteration`."""
        self.validated = iteration
        if self.loss is None or loss < self.loss:
            self.loss, self.iteration, self.waited = loss, iteration, 0
        else:
            self.waited += 1

    def exhausted(self, patience: int) -> bool:
        return 0 < patience <= self.waited

    def metrics(self) -> dict[str, float]:
        if self.loss is None:
            return {}
        return {"best_val_loss": self.loss, "best_iteration": self.iteration}


@dataclass
class Progress:
    """How far a run is. What is due follows from this and the config alone, so a run that was closed
    between two events continues with the second one."""

    iteration: int = 0  # the last step done
    saved: int = 0  # the iteration of the newest checkpoint
    best: Best = field(default_factory=Best)

    @property
    def unsaved(self) -> bool:
        return self.iteration > self.saved

    def is_over(self, config: TrainingConfig) -> bool:
        """All steps are done, or patience is exhausted."""
        return self.iteration >= config.iters or self.best.exhausted(config.patience)

    def validation_due(self, config: TrainingConfig) -> bool:
        """After every `steps_per_eval` steps and after the last."""
        due = self.iteration >= config.iters or self.iteration % config.steps_per_eval == 0
        return due and self.iteration > self.best.validated

    def checkpoint_due(self, config: TrainingConfig) -> bool:
        """After every `save_every` steps, after the last, and for a new best. A validation that is
        due comes before it, because it decides the other two."""
        due = self.iteration % config.save_every == 0 or self.best.iteration == self.iteration
        return self.unsaved and (due or self.is_over(config))


def measured(examples: int, config: TrainingConfig) -> range | list[int]:
    """Which of a split's `examples` its loss is measured on: at most `eval_examples`, at even
    distances."""
    most = config.eval_examples or examples
    if most >= examples:
        return range(examples)
    return [number * examples // most for number in range(most)]


def measured_in_words(split: str, examples: int, config: TrainingConfig) -> list[str]:
    """A sentence when that is not all of them."""
    count = len(measured(examples, config))
    if count == examples:
        return []
    return [f"The loss of {split} is measured on {count:,} of its {examples:,} examples."]


def examples_per_step(config: TrainingConfig) -> int:
    return config.batch_size * config.grad_accumulation_steps


def rung(needed: int, unit: int = 1) -> int:
    """The smallest of 1, 2, … 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, … times `unit` that is at least
    `needed`: four for each doubling, so at most a quarter more."""
    units = max(1, -(-needed // unit))
    step = 1 << max(0, (units - 1).bit_length() - 3)
    return -(-units // step) * step * unit


def compiled_length(tokens: int) -> int:
    """The length to which a GPU pads rows of so many tokens: one of few, since each is compiled."""
    return rung(tokens, 32)


def compiled_targets(tokens: int, needed: int) -> int:
    """How many targets a GPU computes for rows with so many `tokens`, a multiple of 8, of which `needed`
    are learned: an eighth, a quarter, a half, three quarters or all of them."""
    return next(n for n in (tokens * k // 8 for k in (1, 2, 4, 6, 8)) if n >= min(needed, tokens))


def heaviest_places(total: int, config: TrainingConfig) -> list[int]:
    """Where about the examples of the batch with the longest one stand among all in ascending order: they
    are the longest of those drawn for the same WINDOW."""
    window = min(total, WINDOW * examples_per_step(config))
    return [total - 1 - k * total // window for k in range(min(config.batch_size, total))]


def batch_tops(
    lengths: Sequence[int] | NDArray[np.integer[Any]], config: TrainingConfig
) -> list[int]:
    """About the longest length of each batch of a WINDOW; `lengths` come in ascending order."""
    total, size = len(lengths), config.batch_size
    window = min(total, WINDOW * examples_per_step(config))
    places = range(0, window, size)
    return [
        min(int(lengths[total - 1 - k * total // window]), config.max_seq_length) for k in places
    ]


def heaviest_batch(
    lengths: Sequence[int] | NDArray[np.integer[Any]],
    config: TrainingConfig,
    parts: int,
    padded: Callable[[int], int] = int,
) -> int:
    """About how many tokens, with padding, the batch with the longest example has; `lengths` come in
    ascending order.

    A batch of `parts` above 1 is divided in two, each padded to its own longest. `padded` is the
    length of a row whose longest example has so many tokens.
    """
    places = heaviest_places(len(lengths), config)
    rows = [padded(min(int(lengths[place]), config.max_seq_length)) for place in places]
    ways = [(rows[0] * len(rows), 0)]
    if parts > 1:
        ways += [(at * rows[0], (len(rows) - at) * rows[at]) for at in range(1, len(rows))]
    return sum(min(ways, key=max))


def resolved(config: TrainingConfig, examples: int) -> TrainingConfig:
    """`config` with `iters` instead of `epochs`, and a warm-up that ends before the run does.

    An epoch is as many steps as it takes to see each of `examples` once.
    """
    if config.epochs is None:
        return config
    steps = -(-examples // examples_per_step(config))
    iters = max(1, math.ceil(config.epochs * steps - 1e-9))
    warmup = min(config.warmup, iters - 1)
    return config.model_copy(update={"iters": iters, "warmup": warmup, "epochs": None})


def learning_rate(config: TrainingConfig, iteration: int) -> float:
    """The rate of the optimizer step `iteration` (from 1): linear warm-up, then the schedule.

    Cosine and linear fall to zero one step after the last, so no step is wasted on a zero rate.
    """
    if iteration <= config.warmup:
        return config.learning_rate * iteration / (config.warmup + 1)
    done = (iteration - config.warmup - 1) / max(1, config.iters - config.warmup)
    if config.schedule == "cosine":
        return config.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
    if config.schedule == "linear":
        return config.learning_rate * (1 - done)
    return config.learning_rate


# ---------------------------------------------------------------- from lengths to batches


class Measured(Protocol):
    @property
    def length(self) -> int:
        """Tokens."""
        ...


def divide[T: Measured](items: Sequence[T], parts: int) -> list[list[T]]:
    """At most `parts` non-empty groups of like length, the largest of which, with its padding, is
    as small as can be: they are worked on at the same time."""
    ordered = sorted(items, key=lambda item: -item.length)
    low, high = 0, sum(item.length for item in ordered[:1]) * len(ordered)
    while low < high:
        middle = (low + high) // 2
        if len(_filling(ordered, middle, parts)) <= parts:
            high = middle
        else:
            low = middle + 1
    return [group[::-1] for group in reversed(_filling(ordered, high, parts))]


def _filling[T: Measured](ordered: Sequence[T], most: int, parts: int) -> list[list[T]]:
    """Groups of at most `most` tokens with their padding, of items that come longest first; as soon
    as there are more than `parts`, the rest is left out."""
    groups: list[list[T]] = []
    at = 0
    while at < len(ordered) and len(groups) <= parts:
        size = max(1, most // max(1, ordered[at].length))
        groups.append(list(ordered[at : at + size]))
        at += size
    return groups


def cut[T: Measured](items: Sequence[T], parts: int, most: int) -> list[list[T]]:
    """Groups that follow each other, as few as let each of `parts`, into which a group is divided, have
    at most `most` tokens with its padding, or those of the longest item."""
    most = max(most, *(item.length for item in items))
    count = 1
    while True:
        groups = divide(items, parts * count)
        if max(len(group) * group[-1].length for group in groups) <= most:
            break
        count += 1
    return _joined(groups, parts)


def cut_packed[T: Measured](items: Sequence[T], parts: int, most: int) -> list[list[T]]:
    """As `cut`, of items that need no padding. Each part has about `most` tokens or those of the longest
    item, so that parts that are worked on at the same time are alike."""
    most = max(most, *(item.length for item in items))
    count = -(-sum(item.length for item in items) // (parts * most))
    groups = balance(items, parts * count)
    groups.sort(key=lambda group: sum(item.length for item in group))
    return _joined(groups, parts)


def _joined[T](groups: Sequence[Sequence[T]], parts: int) -> list[list[T]]:
    return [
        [item for group in groups[at : at + parts] for item in group]
        for at in range(0, len(groups), parts)
    ]


def balance[T: Measured](items: Sequence[T], parts: int) -> list[list[T]]:
    """At most `parts` non-empty groups with near-equal numbers of tokens."""
    groups: list[list[T]] = [[] for _ in range(min(parts, len(items)))]
    for item in sorted(items, key=lambda item: -item.length):
        min(groups, key=lambda group: sum(member.length for member in group)).append(item)
    return groups


def pack[T: Measured](items: Sequence[T], capacity: int) -> list[list[T]]:
    """First-fit decreasing: each item, longest first, goes into the first row with room."""
    rows: list[list[T]] = []
    room: list[int] = []
    for item in sorted(items, key=lambda item: -item.length):
        need = item.length - 1  # the last token is no input
        for at, free in enumerate(room):
            if need <= free:
                rows[at].append(item)
                room[at] -= need
                break
        else:
            rows.append([item])
            room.append(capacity - need)
    return rows
