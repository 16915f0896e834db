"""Machine-learning backends: the only package that imports MLX. `get_backend` picks one by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a process that reads files needs nothing of the contract
    from backends.base import Backend


def get_backend(name: str) -> Backend:
    """`name` is "mlx" or "fake". Raises ValueError for any other."""
    if name == "mlx":
        from backends.mlx import MLXBackend

        return MLXBackend()
    if name == "fake":
        from backends.fake import FakeBackend

        return FakeBackend()
    raise ValueError(f"Unknown backend {name!r}; use 'mlx' or 'fake'.")
