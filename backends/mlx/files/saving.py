"""Load a model folder with its adapter, and write a changed one.

mlx-lm's `save` copies code files beside the weights and writes a card; here a folder holds the
weights, the config and the base's own tokenizer files, byte for byte.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from mlx_lm.utils import save_config, save_model

from backends.base import ImportedModel
from backends.litter import tidy
from backends.mlx.device import settle
from backends.mlx.files.folder import describe

_WEIGHT_FILES = ("*.safetensors", "*.safetensors.index.json")
_KEPT = ("*.json", "*.jinja", "*.txt", "*.model", "LICENSE*")
_REWRITTEN = frozenset({"config.json", "manifest.json"})


def write_model(base: Path, target: Path, model: Any, config: dict[str, Any]) -> ImportedModel:
    """Write `model` into the empty folder `target`, with the tokenizer and other files of `base`."""
    target.mkdir(parents=True, exist_ok=True)
    save: Any = save_model
    save(target, model, donate_model=True)
    settle()
    save_config(config, config_path=target / "config.json")
    skipped = {path.name for pattern in _WEIGHT_FILES for path in base.glob(pattern)}
    for pattern in _KEPT:
        for path in tidy(base.glob(pattern)):
            if path.name not in skipped | _REWRITTEN:
                shutil.copyfile(path, target / path.name)
    return describe(target)


def read_config(folder: Path) -> dict[str, Any]:
    """config.json as it is in the folder, after `inspect` has accepted it."""
    describe(folder)
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return config
