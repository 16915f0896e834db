"""Merge an adapter into its base's weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlx.utils import tree_unflatten

from backends.base import ImportedModel, UnsupportedModel
from backends.mlx.files.loading import open_weights
from backends.mlx.files.saving import write_model


def fuse(base: Path, adapter: Path, target: Path) -> ImportedModel:
    """See `backends.base.Backend.fuse`. A quantized layer is quantized again, which can lose a
    small fine-tune; `fidelity` measures that."""
    model, config = open_weights(base, adapter)
    fused: list[Any] = [
        (name, module.fuse()) for name, module in model.named_modules() if hasattr(module, "fuse")
    ]
    if not fused:
        raise UnsupportedModel(f"{adapter.name} does not adapt any layer of {base.name}.")
    model.update_modules(tree_unflatten(fused))
    return write_model(base, target, model, config)
