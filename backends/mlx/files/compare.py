"""How much the tensors of two safetensors files differ."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

import mlx.core as mx


def compare_weights(one: Path, other: Path) -> dict[str, float]:
    """See `backends.base.Backend.compare_weights`. Quantized tensors differ by their integers."""
    left, right = _load(one), _load(other)
    return {
        name: _difference(left.get(name), right.get(name))
        for name in sorted(left.keys() | right.keys())
    }


def largest_weights(path: Path) -> dict[str, float]:
    """See `backends.base.Backend.largest_weights`."""
    found = {}
    for name, array in sorted(_load(path).items()):
        largest: Any = mx.abs(array.astype(mx.float32)).max() if array.size else mx.array(0.0)
        found[name] = float(largest.item())
    return found


def _difference(a: mx.array | None, b: mx.array | None) -> float:
    if a is None or b is None or a.shape != b.shape:
        return math.inf
    if a.size == 0:
        return 0.0
    apart: Any = mx.abs(a.astype(mx.float32) - b.astype(mx.float32)).max()
    largest = float(apart.item())
    return math.inf if math.isnan(largest) else largest


def _load(path: Path) -> dict[str, mx.array]:
    return cast(dict[str, mx.array], mx.load(str(path)))
