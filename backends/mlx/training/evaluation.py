"""The mean loss, and for preferences margin and accuracy, over a whole split."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from typing import Any

import mlx.core as mx

from backends.mlx.data import batching
from backends.mlx.data.batching import Batch
from backends.mlx.training.loss import Arrays, Lanes
from backends.mlx.training.objectives import Objective


class Evaluation:
    """One split, laid out once. The `reference` values of its arrays are computed at the first use
    and kept: the batches never change, so neither do they."""

    def __init__(
        self,
        objective: Objective,
        lanes: Lanes,
        items: Sequence[Any],
        most_tokens: int = batching.EVAL_TOKENS,
    ) -> None:
        """A batch has at most `most_tokens`, those of a training batch: its memory is allocated."""
        self._objective, self._lanes = objective, lanes
        groups = batching.sequential(items, most_tokens)
        self._batches = [objective.batches(group) for group in groups]
        self._arrays: dict[int, list[Arrays]] = {}

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
        for number, batches in enumerate(self._batches):
            if number:
                yield number, len(self._batches)
            for summed in self._sums(model, number, batches):
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

    def _sums(self, model: Any, number: int, batches: Sequence[Batch]) -> list[list[float]]:
        if number not in self._arrays:
            self._arrays[number] = self._objective.arrays(model, batches)
        sums = []
        fresh = self._objective.fresh(model, self._arrays[number])
        for stream, arrays in zip(self._lanes.streams, fresh, strict=False):
            with mx.stream(stream):
                sums.append(self._objective.sums(model, arrays))
        mx.eval(sums)
        return [summed.tolist() for summed in sums]  # type: ignore[misc]
