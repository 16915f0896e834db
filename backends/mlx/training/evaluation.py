"""The mean loss, and for preferences margin and accuracy, over a whole split."""

from __future__ import annotations

import math
from array import array
from collections.abc import Generator, Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from backends.mlx.data import batching
from backends.mlx.data.columns import Items
from backends.mlx.training.loss import Arrays, Lanes
from backends.mlx.training.objectives import REFERENCE, Objective


class Evaluation:
    """One split in batches that never change. They are laid out when they are used, so that a large
    split stays where it is; what the base says of them is kept from the first use."""

    def __init__(
        self,
        objective: Objective,
        lanes: Lanes,
        items: Items[Any],
        most_tokens: int = batching.EVAL_TOKENS,
        measured: Sequence[int] | None = None,
    ) -> None:
        """A batch has at most `most_tokens`, those of a training batch: its memory is allocated.
        `measured` are the numbers of the items that count; without it, all do."""
        self._objective, self._lanes, self._items = objective, lanes, items
        counted = np.arange(len(items)) if measured is None else np.asarray(measured, np.int64)
        groups = batching.sequential(items.lengths[counted], most_tokens)
        self._groups = [array("I", counted[group].tolist()) for group in groups]
        self._references: dict[int, list[Arrays]] = {}

    def measure(self, model: Any) -> dict[str, float]:
        """Means by name; "loss" is always there, and "perplexity" of the (chosen) answers."""
        measuring = self.measuring(model)
        while True:
            try:
                next(measuring)
            except StopIteration as end:
                found: dict[str, float] = end.value
                return found

    def measuring(self, model: Any) -> Generator[tuple[int, int], None, dict[str, float]]:
        """Yields (batches done, all) between two batches and returns what `measure` does."""
        model.eval()
        totals = [0.0] * len(self._objective.names)
        for number in range(len(self._groups)):
            if number:
                yield number, len(self._groups)
            for summed in self._sums(model, number):
                totals = [a + b for a, b in zip(totals, summed, strict=True)]
        found = dict(zip(self._objective.names, totals, strict=True))
        means = {"loss": found["loss"] / found["count"]}
        for name in ("margin", "accuracy"):
            if name in found:
                means[name] = found[name] / found["count"]
        per_token = means["loss"]
        if "chosen_tokens" in found:
            per_token = found["chosen_loss"] / max(1.0, found["chosen_tokens"])
        return means | {"perplexity": math.exp(min(per_token, 700.0))}

    def _sums(self, model: Any, number: int) -> list[list[float]]:
        sums = []
        fresh = self._objective.fresh(model, self._arrays(model, number))
        for stream, arrays in zip(self._lanes.streams, fresh, strict=False):
            with mx.stream(stream):
                sums.append(self._objective.sums(model, arrays))
        mx.eval(sums)
        return [summed.tolist() for summed in sums]  # type: ignore[misc]

    def _arrays(self, model: Any, number: int) -> list[Arrays]:
        batches = self._objective.batches([self._items[at] for at in self._groups[number]])
        if kept := self._references.get(number):
            laid = self._objective.laid(batches)
            return [lane | own for lane, own in zip(laid, kept, strict=True)]
        found = self._objective.arrays(model, batches)
        own = [{k: v for k, v in lane.items() if k.endswith(REFERENCE)} for lane in found]
        if all(own):
            self._references[number] = own
        return found
