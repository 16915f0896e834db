"""Descriptions of the device, of a model folder and of a converted model."""

from __future__ import annotations

import json
import struct
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
    quantization: str  # see `packed` and `Prospect.precision`
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
        nested = config.get("text_config")
        parts = (config, nested if isinstance(nested, Mapping) else {})
        named = [str(part[key]) for key in _TYPES for part in parts if part.get(key)]
        quantization = config.get("quantization")
        if isinstance(quantization, Mapping):
            return packed(quantization, wide="float32" in named[:1])
        return named[0] if named else "float32"


_TYPES = ("torch_dtype", "dtype")


def packed(quantization: Mapping[str, Any], *, wide: bool) -> str:
    """How quantized weights are named. Where their scales are float32 (`wide`), the model computes in
    it: "4-bit (group 64, float32)"."""
    scales = ", float32" if wide else ""
    return f"{quantization.get('bits')}-bit (group {quantization.get('group_size')}{scales})"


def has_wide_scales(folder: Path) -> bool:
    """Whether a quantized model folder has float32 scales, by the headers of its weights; also where
    they cannot be read: who plans with it then expects too much rather than too little."""
    found = False
    for path in folder.glob("model*.safetensors"):
        try:
            with path.open("rb") as file:
                (length,) = struct.unpack("<Q", file.read(8))
                header = json.loads(file.read(min(length, _LONGEST_HEADER)))
            scales = [at["dtype"] for name, at in header.items() if name.endswith(".scales")]
        except (OSError, struct.error, ValueError, LookupError, TypeError, AttributeError):
            return True
        if "F32" in scales:
            return True
        found |= bool(scales)
    return not found


_LONGEST_HEADER = 16 << 20  # bytes


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
