"""The weights that an optimizer steps.

Of an adapter these are the model's own, which are float32. A full fine-tune trains weights of 16 bits,
in which a step of usual size is lost: beside 1.0, bfloat16 knows nothing closer than 0.004. So each has
a float32 copy, its master. Gradients step the master, and the model computes with the master rounded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mlx.core as mx
from mlx.utils import tree_map

from backends.base import Arithmetic
from backends.mlx.training import lora


class Trained:
    """The trainable weights of `model`, as the optimizer sees them."""

    def __init__(self, model: Any, arithmetic: Arithmetic) -> None:
        self._model = model
        self.masters: dict[str, Any] = {}
        """Under "weights" a tree like that of the trainable parameters; empty where these are
        float32. A dictionary, which a compiled step can read and replace."""
        own = model.trainable_parameters()
        narrow = any(array.dtype != mx.float32 for array in lora.flat(own).values())
        if narrow and arithmetic == "masters":
            self.masters["weights"] = tree_map(_widened, own)

    @property
    def tree(self) -> Any:
        return self.masters.get("weights") or self._model.trainable_parameters()

    def gradients(self, found: Any) -> Any:
        """`found` by a batch, in the type in which they are summed, clipped and applied."""
        return tree_map(_widened, found) if self.masters else found

    def apply(self, optimizer: Any, gradients: Any) -> None:
        if not self.masters:
            optimizer.update(self._model, gradients)
            return
        self.masters["weights"] = optimizer.apply_gradients(gradients, self.masters["weights"])
        self._round()

    def saved(self) -> dict[str, mx.array]:
        """What a checkpoint keeps of them, by mlx-lm's names."""
        return lora.flat(self.tree)

    def load(self, weights: Mapping[str, mx.array]) -> None:
        """Put in what `saved` gave."""
        if not self.masters:
            self._model.load_weights(list(weights.items()), strict=False)
            return
        self.masters["weights"] = lora.filled(self.masters["weights"], weights)
        self._round()

    def _round(self) -> None:
        own = self._model.trainable_parameters()
        self._model.update(
            tree_map(lambda old, master: master.astype(old.dtype), own, self.masters["weights"])
        )


def _widened(array: mx.array) -> mx.array:
    return array.astype(mx.float32)
