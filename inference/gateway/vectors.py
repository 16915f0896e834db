"""Vectors of fewer numbers than a model's own, where the model was trained for that."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from backends.base import Embedder, UnsupportedModel
from registry.errors import Invalid
from registry.promotion.resolve import Served


def prompted(texts: Sequence[str], name: str | None, served: Served) -> Sequence[str]:
    """The texts as the model was trained to read them. Raises Invalid for a prompt that it does not
    have, or a folder that cannot be read any more."""
    if not served.base.embeds_only and name is None:
        return texts
    try:
        how = Embedder.of(served.base_path, served.base.architecture) or Embedder()
    except UnsupportedModel as error:
        raise Invalid(str(error)) from error
    try:
        return [how.prompted(text, name) for text in texts]
    except KeyError:
        known = ", ".join(how.prompts) or "none; put the words that it needs before your texts"
        wanted = how.default if name is None else name
        raise Invalid(
            f"prompt_name {wanted!r}: {served.label} has no such prompt. It has: {known}."
        ) from None


def shortened(
    vectors: Sequence[list[float]], dimensions: int | None, base: Path
) -> Sequence[list[float]]:
    """The first `dimensions` numbers of each, at unit length again; None leaves all of them. Raises
    Invalid when the model in the folder `base` was not trained for that."""
    width = len(vectors[0])
    if dimensions is None or dimensions == width:
        return vectors
    trained = trained_for(base, width)
    if dimensions not in trained:
        others = f" or of {_listed(trained)}" if trained else " and was not trained for fewer"
        raise Invalid(
            f"dimensions {dimensions}: this model gives vectors of {width} numbers{others}; leave "
            f"dimensions out, or send {width}."
        )
    return [_unit(vector[:dimensions]) for vector in vectors]


def trained_for(base: Path, width: int) -> Sequence[int]:
    """Widths below `width` that the model's config.json names, as vLLM reads it:
    `matryoshka_dimensions`, or all of them with `is_matryoshka`."""
    try:
        config: Any = json.loads((base / "config.json").read_bytes())
    except (OSError, ValueError):
        return []
    if not isinstance(config, dict):
        return []
    if listed := config.get("matryoshka_dimensions"):
        return [n for n in listed if isinstance(n, int) and 0 < n < width]
    return range(1, width) if config.get("is_matryoshka") else []


def _listed(widths: Sequence[int]) -> str:
    if isinstance(widths, range):
        return "any smaller width"
    return ", ".join(map(str, widths))


def _unit(vector: list[float]) -> list[float]:
    length = math.sqrt(math.fsum(x * x for x in vector)) or 1.0
    return [x / length for x in vector]
