"""How often the host waits for the device, and how many kernels it runs: counted instead of timed."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
import pytest

# Nodes of a graph that only look at memory in another way.
_VIEWS = {"Broadcast", "ExpandDims", "Flatten", "Reshape", "Slice", "Squeeze", "Transpose"}
_VIEWS |= {"Unflatten"}
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


def kernels(*arrays: mx.array) -> Counter[str]:
    """What the device computes for `arrays` by the name of its kind, without what is computed
    already and without views."""
    dot = io.StringIO()
    mx.export_to_dot(dot, *arrays)  # type: ignore[arg-type]
    found = Counter(re.findall(r'\[label ="(\w+)", shape=rectangle\]', dot.getvalue()))
    return Counter({name: count for name, count in found.items() if name not in _VIEWS})
