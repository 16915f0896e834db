"""How often the host waits for the device, counted and not timed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mlx.core as mx

_OF_ARRAYS = ("item", "tolist")
_OF_MLX = ("eval", "synchronize")


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Counts calls that wait for a result, by name, until the block ends. What reads an array's
    memory directly, as the loop reads each step's tokens, is not seen."""
    counts: Counter[str] = Counter()
    places: list[tuple[Any, str]] = [(mx.array, name) for name in _OF_ARRAYS]
    places += [(mx, name) for name in _OF_MLX]
    kept = [(place, name, getattr(place, name)) for place, name in places]
    for place, name, function in kept:
        setattr(place, name, _counting(function, name, counts))
    try:
        yield counts
    finally:
        for place, name, function in kept:
            setattr(place, name, function)


def _counting(function: Any, name: str, counts: Counter[str]) -> Any:
    def call(*given: Any, **named: Any) -> Any:
        counts[name] += 1
        return function(*given, **named)

    return call
