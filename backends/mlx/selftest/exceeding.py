"""A backend whose models ask for more memory than there is, once, in the middle of an answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx

from backends.base import LoadedModel, LoadOptions
from backends.mlx import MLXBackend
from backends.mlx.device import describe_device
from backends.mlx.selftest.rates import EXCESS
from backends.mlx.serving.generation import MLXModel

REFUSAL = (
    "[metal::malloc] Attempting to allocate {} bytes which is greater than the maximum allowed "
    "buffer size of {} bytes."
)
"""What MLX says on Metal. On the CPU it does not look at what the system refuses, and crashes."""


class ExceedingBackend(MLXBackend):
    """`exceed` arms it: the next pass of any of its models needs an allocation beyond everything. On a
    GPU that is a real one; on the CPU MLX's error is raised in its place."""

    exceed = False

    def load(
        self, base: Path, adapter: Path | None = None, options: LoadOptions = LoadOptions()
    ) -> LoadedModel:
        model = super().load(base, adapter, options)
        assert isinstance(model, MLXModel)
        model._routed._model = _Exceeding(model._routed._model, self)
        return model


class _Exceeding:
    """The model that a lane calls."""

    def __init__(self, model: Any, backend: ExceedingBackend) -> None:
        self._model, self._backend = model, backend

    def __call__(self, *given: Any, **named: Any) -> mx.array:
        logits: mx.array = self._model(*given, **named)
        if not self._backend.exceed:
            return logits
        self._backend.exceed = False
        return logits + beyond_everything().astype(logits.dtype)


def beyond_everything() -> mx.array:
    """A zero that is computed from an array of many times the device's memory. Raises RuntimeError on
    the CPU."""
    memory = describe_device().memory_bytes
    if mx.default_device() == mx.cpu:
        raise RuntimeError(REFUSAL.format(EXCESS * memory, memory))
    return 0 * (mx.zeros((EXCESS * memory // 2**22, 2**20)) + 1).max()
