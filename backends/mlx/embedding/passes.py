"""The memory that one pass of a model over tokens takes beside its weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from backends.mlx.device import device_kind
from backends.mlx.embedding.vectors import CHUNK, batches

_LAYERS_AHEAD = 3  # whose arrays exist at the same time
LATE = 5 / 3
"""On the CPU what a pass makes is given back late: the process held two thirds more for a moment than
its arrays took (11 rows of SmolLM2 and 8 prompts, 2026-11)."""


class Passes:
    """What a model's pass over tokens takes beside its weights, by the sizes in its config.json. `width` are
    the bytes of a number, `token_bytes` those of a token's keys and values, where they are kept."""

    def __init__(
        self, config: dict[str, Any], width: int, token_bytes: int = 0, *, encodes: bool = False
    ) -> None:
        config = {**config, **(config.get("text_config") or {})}
        self._values = 6 * size(config, "hidden_size") + 4 * size(config, "intermediate_size")
        self._heads = size(config, "num_attention_heads")
        self._width, self._token_bytes, self._encodes = width, token_bytes, encodes

    @classmethod
    def of(cls, model: Any, config: dict[str, Any], *, encodes: bool) -> Passes:
        """Of a model that keeps nothing from one pass to the next."""
        leaves: Any = tree_flatten(model.parameters())
        floats = [leaf.itemsize for _, leaf in leaves if mx.issubdtype(leaf.dtype, mx.floating)]
        width = max(floats, default=4)
        kept = 0
        if not encodes:
            heads = size(config, "num_attention_heads") or 1
            each = size(config, "head_dim") or size(config, "hidden_size") // heads
            groups = size(config, "num_key_value_heads") or heads
            kept = 2 * groups * each * size(config, "num_hidden_layers") * width
        return cls(config, width, kept, encodes=encodes)

    def nbytes(self, tokens: int, seen: int) -> int:
        """Arrays of a pass over `tokens`, each of which sees at most `seen`."""
        values = _LAYERS_AHEAD * self._values
        on_cpu = device_kind() == "cpu"
        # A GPU keeps no scores for the sizes of heads that models that write have; else: as they are,
        # masked, and as shares.
        if on_cpu or self._encodes:
            values += 3 * self._heads * seen
        arrays: int = tokens * values * self._width
        return int(LATE * arrays) if on_cpu else arrays

    def to_embed(self, prompts: Sequence[Sequence[int]]) -> int:
        """Of the largest pass over texts whose vectors are wanted, keys and values included."""
        most = 0
        for batch in batches(prompts):
            rows, seen = len(batch), len(prompts[batch[-1]])
            read = seen if self._encodes else min(seen, CHUNK)
            most = max(most, self.nbytes(rows * read, seen) + rows * seen * self._token_bytes)
        return most


def size(config: dict[str, Any], name: str) -> int:
    """A number of config.json, the largest where each layer has its own."""
    value = config.get(name) or 0
    return int(max(value) if isinstance(value, list) else value)
