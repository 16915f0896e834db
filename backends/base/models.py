"""Descriptions of the device, of a model folder and of a converted model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


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
