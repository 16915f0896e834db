"""What the errors of MLX and Metal mean, by the texts that they have (mlx 0.32, macOS 26)."""

from __future__ import annotations

import pytest

from backends.base import GPUInterrupted, OutOfMemory
from backends.base.failures import readable_errors, says_out_of_memory

EXECUTION = "[METAL] Command buffer execution failed: {}."
INTERRUPTED = EXECUTION.format(
    "Impacting Interactivity (0000000e:kIOGPUCommandBufferCallbackErrorImpactingInteractivity)"
)
OUT_OF_MEMORY = EXECUTION.format(
    "Insufficient Memory (00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)"
)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (OUT_OF_MEMORY, OutOfMemory),
        (
            "[metal::malloc] Attempting to allocate 17179869184 bytes which is greater than the "
            "maximum allowed buffer size of 14302248960 bytes.",
            OutOfMemory,
        ),
        ("[metal::malloc] Resource limit (499000) exceeded.", OutOfMemory),
        ("[malloc] Unable to allocate 4294967296 bytes.", OutOfMemory),
        ("cudaMallocAsync(&data, size, stream) failed: out of memory", OutOfMemory),
        ("std::bad_alloc", OutOfMemory),
        (INTERRUPTED, GPUInterrupted),
        (
            EXECUTION.format(
                "Caused GPU Timeout Error (00000002:kIOGPUCommandBufferCallbackErrorTimeout)"
            ),
            GPUInterrupted,
        ),
        # Nothing that less memory would mend.
        ("cudaMallocManaged failed: an illegal memory access was encountered", RuntimeError),
        ("There is no Stream(cpu, 0) in current thread.", RuntimeError),
        (
            EXECUTION.format("Ignored (00000005:kIOGPUCommandBufferCallbackErrorInnocentVictim)"),
            RuntimeError,
        ),
    ],
)
def test_the_text_of_an_error_says_what_it_is(text: str, kind: type[Exception]) -> None:
    with pytest.raises(kind) as caught, readable_errors("Use a smaller one."):
        raise RuntimeError(text)
    assert type(caught.value) is kind
    if kind is OutOfMemory:
        assert str(caught.value) == "Use a smaller one."


def test_a_refused_allocation_of_python_is_out_of_memory() -> None:
    with pytest.raises(OutOfMemory), readable_errors("Use a smaller one."):
        raise MemoryError


def test_the_watchdog_has_advice_of_its_own() -> None:
    with pytest.raises(GPUInterrupted) as caught, readable_errors("Use a smaller one."):
        raise RuntimeError(INTERRUPTED)
    assert "display sleep" in str(caught.value)
    assert "AGX_RELAX_CDM_CTXSTORE_TIMEOUT=1" in str(caught.value)


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        (
            "libc++abi: terminating due to uncaught exception of type std::runtime_error: "
            f"{OUT_OF_MEMORY}",
            True,
        ),
        ("terminate called after throwing an instance of 'std::bad_alloc'", True),
        ("Segmentation fault", False),
    ],
)
def test_out_of_memory_is_recognized_at_the_end_of_a_log(log: str, expected: bool) -> None:
    assert says_out_of_memory(log) is expected
