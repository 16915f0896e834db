"""What the device reads and computes in a second, and what MLX says of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mlx.core as mx

from backends.mlx.device import describe_device, free_memory


def computing_kind() -> str:
    """ "cpu", "metal" or "cuda": what really computes here, whatever HUB_ASSUMED_DEVICE says."""
    if mx.default_device() != mx.gpu:
        return "cpu"
    return "metal" if mx.metal.is_available() else "cuda"


def bandwidth(nbytes: int, times: int) -> float:
    """Bytes a second that the device reads, as decoding does: a product of a matrix of `nbytes` with
    a vector. The best of `times`."""
    kind, columns = _fast_type(), 4096
    rows = max(1, nbytes // (columns * kind.size))
    seconds = _best(mx.ones((rows, columns), kind), mx.ones((columns, 1), kind), times)
    return rows * columns * kind.size / seconds


def flops(size: int, times: int) -> float:
    """FLOPs a second of a product of two matrices of `size`. The best of `times`."""
    one = mx.ones((size, size), _fast_type())
    return 2 * size**3 / _best(one, one, times)


def facts() -> dict[str, Any]:
    """What MLX reports of the device, and what it holds."""
    reported: dict[str, Any] = dict(mx.device_info())
    held = {
        "active": mx.get_active_memory(),
        "cache": mx.get_cache_memory(),
        "peak": mx.get_peak_memory(),
    }
    return {"reported": reported, "held": held}


EXCESS = 64
"""Times the device's memory: more than any system grants."""


def exceed() -> list[str]:
    """Ask for an array beyond everything: what MLX says, and what one and one are four times
    afterwards. A process may not survive it."""
    nbytes = EXCESS * describe_device().memory_bytes
    try:
        mx.eval(mx.zeros((nbytes // 2**22, 2**20)) + 1)
        mx.synchronize()
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        return [said, str(float((mx.ones((4,)) + 1).sum().item()))]  # type: ignore[arg-type]
    return ["It was granted."]


def _fast_type() -> mx.Dtype:
    return mx.float32 if computing_kind() == "cpu" else mx.bfloat16


def _best(one: mx.array, other: mx.array, times: int) -> float:
    """Seconds of the fastest of their products."""
    mx.eval(one, other, one @ other)
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        mx.eval(one @ other)
        seconds.append(time.perf_counter() - began)
    free_memory()
    return max(1e-9, min(seconds))


@contextmanager
def holding(nbytes: int) -> Iterator[None]:
    """Within, MLX holds an array of `nbytes`."""
    array = mx.ones((max(1, nbytes // 4),), mx.float32)
    mx.eval(array)
    try:
        yield
    finally:
        del array
        free_memory()
