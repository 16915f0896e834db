"""Descriptions of the device, of a model folder and of a converted model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class DeviceInfo:
    """Where a backend computes. `memory_bytes` is what the device may use in total."""

    backend: str  # "mlx" | "fake"
    device: str  # "cpu" | "metal" | "cuda" | "fake"
    name: str  # e.g. "Apple M4 Pro", "Intel Xeon"
    memory_bytes: int
    blas: str  # "accelerate" | "onemkl" | "reference" | "none"
    versions: dict[str, str]  # {"mlx": "0.32.4", "mlx-lm": "0.32.2", ...}
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImportedModel:
    """A normal MLX model folder that the importer has written. `pooling` is set for a model that makes
    vectors alone; see `Embedder`."""

    path: Path
    architecture: str  # "llama", "qwen2", …
    quantization: str  # "float32", "bfloat16", "4-bit (group 64)", …
    parameters: int
    context_length: int
    pooling: str = ""


@dataclass(frozen=True)
class Prospect:
    """What is known of a model before its weights are here: its config.json, and what follows from it.
    `nbytes` is what the weights take once imported, 0 where that is not known, as `parameters`."""

    config: Mapping[str, Any]
    architecture: str
    quantization: str
    context_length: int
    parameters: int = 0
    nbytes: int = 0
    embeds_only: bool = False

    @staticmethod
    def precision(config: Mapping[str, Any]) -> str:
        """How a config says that its weights are stored: "4-bit (group 64)", "bfloat16", …"""
        packed = config.get("quantization")
        if isinstance(packed, Mapping):
            return f"{packed.get('bits')}-bit (group {packed.get('group_size')})"
        nested = config.get("text_config")
        inner = nested if isinstance(nested, Mapping) else {}
        for key in ("torch_dtype", "dtype"):
            if named := config.get(key) or inner.get(key):
                return str(named)
        return "float32"


@dataclass(frozen=True)
class Fidelity:
    """How a converted model differs from its original, teacher-forced on held-out examples.

    Every figure is over the answers' tokens: both models read the same text.
    """

    kl: float  # mean KL(original ‖ converted), nats per token
    top1: float  # share of tokens where both rank the same one first
    largest_difference: float  # largest absolute difference of two logits
    perplexity: float  # of the original
    converted_perplexity: float
    tokens: int
    examples: int
