"""Opening a model folder with mlx-lm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx_lm

from backends.base import UnsupportedModel, first_line
from backends.mlx.files.folder import describe


def open_model(
    folder: Path, adapter: Path | None = None, *, lazy: bool = False
) -> tuple[Any, Any, dict[str, Any]]:
    """(model, tokenizer, config), the adapter's layers in place. With `lazy`, a weight is read when
    it is needed. Raises UnsupportedModel."""
    describe(folder)  # refuses code and pickles
    try:
        loaded: Any = mlx_lm.load(
            str(folder),
            adapter_path=str(adapter) if adapter else None,
            return_config=True,
            lazy=lazy,
            tokenizer_config={"trust_remote_code": False},
            trust_remote_code=False,
        )
    except (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError) as error:
        raise UnsupportedModel(
            f"The model {folder.name} could not be loaded: {first_line(error)}"
        ) from error
    model, tokenizer, config = loaded
    return model, tokenizer, config
