"""Check whether a model folder can be written as GGUF, from its JSON files alone. Without importing
MLX this takes a fraction of a second, so it can come before an hour of fusing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from backends.base import UnsupportedModel
from backends.mlx.files.folder import describe
from backends.mlx.gguf.tokenizer import splitting_rule

ARCHITECTURES = ("llama", "qwen2")


def check_gguf(folder: Path) -> None:
    """See `backends.base.Backend.check_gguf`."""
    describe(folder)
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    if config["model_type"] not in ARCHITECTURES:
        raise UnsupportedModel(
            f"The architecture {config['model_type']!r} cannot be written as GGUF; llama and "
            "qwen2 can. Export the fused folder instead."
        )
    if "quantization" in config:
        raise UnsupportedModel(
            f"{folder.name} is quantized, but GGUF is written from full weights; fuse into an "
            "unquantized base, or export the fused folder instead."
        )
    if config.get("rope_scaling"):
        raise UnsupportedModel(
            "A model with scaled positions cannot be written as GGUF yet; export the fused folder "
            "instead."
        )
    if config.get("use_sliding_window") or "sliding_attention" in (config.get("layer_types") or ()):
        raise UnsupportedModel(
            "A model with a sliding attention window cannot be written as GGUF yet; export the "
            "fused folder instead."
        )
    written: dict[str, Any] = json.loads((folder / "tokenizer.json").read_text())
    model = written["model"] or {}
    if model.get("type") != "BPE" or model.get("byte_fallback"):
        raise UnsupportedModel(
            "Only models with a byte-level BPE tokenizer can be written as GGUF; export the fused "
            "folder instead."
        )
    splitting_rule(folder / "tokenizer.json")
