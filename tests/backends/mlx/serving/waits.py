"""How often the host waits for the device, counted instead of timed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
import pytest

_METHODS = ("item", "tolist", "__array__", "__int__", "__float__", "__bool__", "__index__")


@contextmanager
def counted_waits() -> Iterator[Counter[str]]:
    """Count the calls that return after the device has computed something, by name."""
    seen: Counter[str] = Counter()

    def counting(name: str, real: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            seen[name] += 1
            return real(*args, **options)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in ("eval", "synchronize"):
            patch.setattr(mx, name, counting(name, getattr(mx, name)))
        for name in _METHODS:
            patch.setattr(mx.array, name, counting(name, getattr(mx.array, name)))
        yield seen
