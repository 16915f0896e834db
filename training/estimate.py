"""What a job will need, before it starts: memory and disk, from the model's own dimensions.

Estimates for a person to plan with, not limits. They know llama-like layers (four attention and
three MLP projections with adapters) and plain LoRA without gradient checkpointing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.base import TrainingConfig

_FLOAT = 4  # bytes; adapters, gradients and optimizer state are float32
_STATES = 4  # weight, gradient and Adam's two moments
_CHECKPOINTS = 3  # two kept and one being written


@dataclass(frozen=True)
class Dimensions:
    """The sizes in a model folder's `config.json`; absent ones are guessed as llama does."""

    layers: int
    hidden: int
    intermediate: int
    kv: int
    vocabulary: int

    @classmethod
    def read(cls, folder: Path) -> Dimensions:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text())
        config = {**config, **(config.get("text_config") or {})}
        hidden = int(config.get("hidden_size") or 1024)
        heads = int(config.get("num_attention_heads") or 1)
        kv_heads = int(config.get("num_key_value_heads") or heads)
        head = int(config.get("head_dim") or hidden // heads)
        return cls(
            layers=int(config.get("num_hidden_layers") or 24),
            hidden=hidden,
            intermediate=int(config.get("intermediate_size") or 4 * hidden),
            kv=kv_heads * head,
            vocabulary=int(config.get("vocab_size") or 32_000),
        )


def adapter_bytes(size: Dimensions, config: TrainingConfig) -> int:
    """The adapter's weights in float32."""
    layers = size.layers if config.num_layers < 0 else min(config.num_layers, size.layers)
    attention = 2 * (size.hidden + size.hidden) + 2 * (size.hidden + size.kv)
    mlp = 3 * (size.hidden + size.intermediate)
    return layers * config.lora.rank * (attention + mlp) * _FLOAT


def memory_bytes(
    size: Dimensions, base_bytes: int, config: TrainingConfig, longest: int | None
) -> int:
    """Peak memory of a run. `longest` is the longest example's tokens, None when unknown."""
    length = min(config.max_seq_length, longest or config.max_seq_length)
    tokens = config.batch_size * length
    # Kept per token for the backward pass: about ten vectors of the hidden size and three of the
    # intermediate size per layer, and the logits with their gradient.
    per_layer = 10 * size.hidden + 3 * size.intermediate
    activations = tokens * (size.layers * per_layer + 2 * size.vocabulary) * _FLOAT
    return base_bytes + _STATES * adapter_bytes(size, config) + activations


def disk_bytes(size: Dimensions, config: TrainingConfig) -> int:
    """Checkpoints (weights and the optimizer's two moments) and the adapter itself."""
    return (_CHECKPOINTS * 3 + 1) * adapter_bytes(size, config)
