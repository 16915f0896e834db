"""Opening a model folder with mlx-lm."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlx_lm
from mlx_lm.utils import load_adapters, load_model

from backends.base import UnsupportedModel, first_line
from backends.mlx.files.folder import describe


def open_model(
    folder: Path, adapter: Path | None = None, *, lazy: bool = False
) -> tuple[Any, Any, dict[str, Any]]:
    """(model, tokenizer, config), the adapter's layers in place. With `lazy`, a weight is read when
    it is needed. Raises UnsupportedModel."""
    with _opening(folder):
        loaded: Any = mlx_lm.load(
            str(folder),
            adapter_path=str(adapter) if adapter else None,
            return_config=True,
            lazy=lazy,
            tokenizer_config={"trust_remote_code": False},
            trust_remote_code=False,
        )
    model, tokenizer, config = loaded
    return model, tokenizer, config


def open_weights(folder: Path, adapter: Path | None = None) -> tuple[Any, dict[str, Any]]:
    """(model, config) as `open_model` gives them with `lazy`, for work that reads no text: a tokenizer
    of 49,000 tokens takes 0.4 s of processor time. Raises UnsupportedModel."""
    with _opening(folder):
        load: Any = load_model  # untyped upstream
        model, config = load(folder, lazy=True, trust_remote_code=False)
        if adapter:
            model = load_adapters(model, str(adapter))
            model.eval()
    return model, config


@contextmanager
def _opening(folder: Path) -> Iterator[None]:
    describe(folder)  # refuses code and pickles
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError) as error:
        raise UnsupportedModel(
            f"The model {folder.name} could not be loaded: {first_line(error)}"
        ) from error
