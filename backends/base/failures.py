"""What the texts of a device's errors mean; MLX has one type for all of them, RuntimeError."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from backends.base.errors import GPUInterrupted, OutOfMemory

_OUT_OF_MEMORY = re.compile(
    r"kIOGPUCommandBufferCallbackErrorOutOfMemory|Insufficient Memory"  # found out while it ran
    r"|\[metal::malloc\]|Unable to allocate"  # before it began
    r"|cudaErrorMemoryAllocation|CUDA_ERROR_OUT_OF_MEMORY|\bout of memory\b|ALLOC_FAILED"
    r"|std::bad_alloc|Cannot allocate memory",
    re.IGNORECASE,
)
_WATCHDOG = re.compile(
    r"Impacting ?Interactivity|kIOGPUCommandBufferCallbackErrorTimeout", re.IGNORECASE
)
INTERRUPTED = (
    "macOS stopped the GPU because its work held up the display (Impacting Interactivity): let the "
    "display sleep while the hub computes, or start the hub with AGX_RELAX_CDM_CTXSTORE_TIMEOUT=1 "
    "(see docs/operations.md)."
)


def says_out_of_memory(text: str) -> bool:
    """Whether an error or the end of a dead process's log says that Metal, CUDA or C++ ran out of
    memory."""
    return _OUT_OF_MEMORY.search(text) is not None


def says_interrupted(text: str) -> bool:
    """Whether it says that the watchdog of macOS's GPU stopped the work (mlx#3267)."""
    return _WATCHDOG.search(text) is not None


@contextmanager
def readable_errors(advice: str) -> Iterator[None]:
    """Raise what MLX reports as the error that it is: GPUInterrupted, or OutOfMemory with the sentence
    `advice`; others as they are."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if says_interrupted(str(error)):
            raise GPUInterrupted(INTERRUPTED) from error
        if isinstance(error, MemoryError) or says_out_of_memory(str(error)):
            raise OutOfMemory(advice) from error
        raise
