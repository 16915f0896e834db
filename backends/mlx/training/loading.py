"""Loading the base model that a run starts from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from backends.base import UnsupportedModel
from backends.mlx.files.folder import describe


def load_base(base: Path) -> tuple[Any, Any]:
    """(model, tokenizer), the weights in memory. Raises UnsupportedModel."""
    describe(base)  # refuses code and pickles with a sentence
    from mlx_lm import load

    try:
        model, tokenizer = load(str(base))[:2]
    except (ValueError, FileNotFoundError) as error:
        raise UnsupportedModel(f"{base.name} cannot be loaded: {error}") from error
    return model, tokenizer
