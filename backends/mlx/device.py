"""The device MLX uses, and the fast BLAS that must be loaded before it.

`mlx[cpu]` carries the reference BLAS (4 GFLOP/s). Its symbols resolve to oneMKL's (180 GFLOP/s
on the same two cores) when that library is loaded globally before `mlx.core` is imported, so
everything that uses MLX calls `prepare()` first and imports MLX inside functions.
"""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import importlib.metadata
import os
import platform
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from backends import devices
from backends.base import DeviceInfo
from backends.mac.memory import footprint, peak_footprint
from backends.mlx import header, lean

_ONEMKL = Path(sys.prefix) / "lib" / "libmkl_rt.so.3"

_lock = threading.Lock()
_blas: str | None = None
_set_threads: Callable[[int], object] | None = None  # the BLAS's own
_threads = 0  # the number set last; 0: none yet
_READING = 8  # tokens: from here on a pass reads a prompt
_warnings: list[str] = []
_budget: int | None = None  # bytes that this process may hold


def prepare() -> str:
    """Make this process ready for MLX and return the BLAS it will use; later calls do nothing.

    "onemkl", "openblas" or "reference" on Linux, "accelerate" on macOS.
    """
    global _blas
    with _lock:
        if _blas is None:
            lean.keep_names()
            _blas = _prepare_linux() if sys.platform == "linux" else "accelerate"
        return _blas


def describe_device() -> DeviceInfo:
    """Describe the device that MLX uses by default in this process."""
    blas = prepare()
    import mlx.core as mx

    facts: dict[str, Any] = mx.device_info()
    kind = device_kind()
    return DeviceInfo(
        backend="mlx",
        device=kind,
        name=str(facts.get("device_name") or platform.processor() or kind),
        memory_bytes=_memory(kind, facts),
        blas=blas if kind != "cuda" else "none",
        versions={name: importlib.metadata.version(name) for name in ("mlx", "mlx-lm")},
        warnings=tuple(_warnings) if kind == "cpu" else (),
    )


def device_kind() -> devices.Kind:
    """The default device, or the one that tests assume. `prepare()` must have run."""
    if assumed := devices.assumed():
        return assumed
    import mlx.core as mx

    if mx.default_device() != mx.gpu:
        return "cpu"
    return "metal" if mx.metal.is_available() else "cuda"


def _prepare_linux() -> str:
    # An OpenMP thread that spins while it waits takes the core from the web process or a second
    # model: measured, training beside two busy neighbours fell from 75 to 10 tokens/s.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # MLX walks a graph level by level only up to this width (20 by default) and goes depth first
    # beyond, which runs training's lanes one after the other: half the speed, where packed
    # examples make many small products.
    os.environ.setdefault("MLX_BFS_MAX_WIDTH", "1000")
    if shutil.which("g++") is None:
        # MLX compiles fused CPU kernels with g++ at run time and fails without it.
        os.environ.setdefault("MLX_DISABLE_COMPILE", "1")
        _warnings.append("No g++ was found, so MLX runs unfused and slower; install g++.")
    else:
        header.precompile()
    if "mlx.core" in sys.modules:
        _warnings.append(
            "MLX was imported before the fast BLAS, so it computes many times slower; "
            "call backends.mlx.device.prepare() first."
        )
        return "reference"
    return _load_onemkl() or _load_openblas() or _warn_reference()


def _load_onemkl() -> str | None:
    """Load oneMKL, which the package `mkl` puts into the environment's lib (x86-64 only)."""
    if platform.machine() != "x86_64" or not _ONEMKL.exists():
        return None
    # The GNU layer shares libgomp with other libraries; Intel's own would be a second OpenMP
    # runtime in one process.
    os.environ.setdefault("MKL_THREADING_LAYER", "GNU")
    global _set_threads
    try:
        _set_threads = ctypes.CDLL(str(_ONEMKL), mode=ctypes.RTLD_GLOBAL).MKL_Set_Num_Threads
    except OSError as error:
        _warnings.append(f"oneMKL could not be loaded ({error}).")
        return None
    return "onemkl"


def _load_openblas() -> str | None:
    name = ctypes.util.find_library("openblas")
    if name is None:
        return None
    global _set_threads
    try:
        library = ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
    except OSError:
        return None
    _set_threads = getattr(library, "openblas_set_num_threads", _set_threads)
    return "openblas"


def _warn_reference() -> str:
    _warnings.append(
        "No fast BLAS was found, so MLX computes many times slower on the CPU; install the "
        "package mkl (x86-64) or the system's libopenblas."
    )
    return "reference"


def _memory(kind: str, facts: dict[str, Any]) -> int:
    """Bytes: what Metal recommends as a working set, CUDA's total, or the machine's RAM."""
    if kind != "cpu":
        for key in ("max_recommended_working_set_size", "total_memory", "memory_size"):
            if facts.get(key):
                return int(facts[key])
    return int(psutil.virtual_memory().total)


def peak_memory() -> int:
    """Bytes: the most that this process has held: its whole footprint where the device's memory is the
    system's, else what MLX has held there since `reset_peak_memory`."""
    import mlx.core as mx

    peak = int(mx.get_peak_memory())
    return peak if device_kind() == "cuda" else max(peak, peak_footprint())


def held_memory() -> int:
    """Bytes that MLX holds now, for all of its arrays and for those to come (buffers that were freed and
    are kept); where the device's memory is the system's, what the whole process holds."""
    import mlx.core as mx

    arrays = int(mx.get_active_memory() + mx.get_cache_memory())
    return arrays if device_kind() == "cuda" else max(arrays, footprint())


def free_memory() -> None:
    """Give the freed buffers that MLX keeps back to the system, and on Linux what the C library keeps
    of them: some 300 MB after 32 prompts at once."""
    import mlx.core as mx

    mx.clear_cache()
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
            ctypes.CDLL(None).malloc_trim(0)


SERVING_CACHE, TRAINING_CACHE = 768 << 20, 64 << 20
"""Bytes of freed buffers that MLX keeps on the CPU. A training run is no faster with more: its steps
took as long with 64 MiB as with 2 GiB, which doubled its peak. Eight prompts of 400 tokens at once on
SmolLM2 fill 600 MB, and cost 8 % more processor time with 256 MB (2 cores, 2026-11)."""
TRAINING_CACHE_ON_METAL = 512 << 20
"""Metal's default is 1.5 times the working set, which batches of varying shape fill: a buffer is reused
only for a request of nearly its size."""
PROGRAM = 240 << 20
"""Bytes of a process with MLX beside its arrays: Python and the libraries."""


def limit_memory(cache: int, budget: int | None = None) -> None:
    """Let MLX in this process keep `cache` bytes of freed buffers for reuse, and allocate no further
    ahead of its work once it fills `budget`. `prepare()` must have run.

    On the CPU MLX keeps 32 MiB by default; beyond it every array is new memory from the system, whose
    page faults cost more than the arithmetic (measured: half the time of a training step's parts). At
    the second limit MLX waits for what runs before it allocates more, and Metal gives kept buffers back;
    neither refuses an allocation.
    """
    import mlx.core as mx

    global _budget
    kind = device_kind()
    if kind == "cuda":
        return
    cache = min(cache, psutil.virtual_memory().total // 8)
    mx.set_cache_limit(cache)
    if budget is not None:
        # Metal counts what it keeps against the limit, the CPU does not.
        left = budget - PROGRAM - (cache if kind == "cpu" else 0)
        mx.set_memory_limit(max(left, budget // 4))
    _budget = budget
    keep_wired()


def return_large_blocks() -> None:
    """Let glibc give blocks of over 4 MiB back to the system when they are freed. It learns to keep
    them, up to 32 MiB each: 450 MB after a batch of 32 prompts, which no later array fitted."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, 4 << 20)


_MMAP_THRESHOLD = -3  # of <malloc.h>


def keep_wired() -> None:
    """Let Metal keep as many bytes of buffers resident as this process may hold, within what it
    recommends; elsewhere there is nothing to keep. mlx-lm's generators set the recommended limit."""
    import mlx.core as mx

    if mx.metal.is_available():
        most = int(mx.device_info()["max_recommended_working_set_size"])
        mx.set_wired_limit(min(most, _budget or most))


def settle(*streams: Any) -> None:
    """Wait for what the calling thread computes on `streams`, by default on the device's own, before
    files with its results get their checksums. Metal may report at a later call that work failed, and
    what the work should have written is in the files by then (mlx#3523, mlx#4174). Raises RuntimeError.
    """
    import mlx.core as mx

    for stream in streams or (None,):
        mx.synchronize(stream)


def set_threads(count: int) -> None:
    """Set the number of threads for each product of the BLAS."""
    global _threads
    if count != _threads:
        _threads = count
        if _set_threads is not None:
            _set_threads(count)


def share_cores(length: int) -> None:
    """Set the threads for the next pass, of `length` tokens a row: all of them to read prompts, half
    to decode.

    Measured on two cores: with a second thread 128 tokens are read in 241 ms instead of 358, while
    decoding is no faster, and the web process needs a core to pass the tokens on.
    """
    total = devices.threads()
    set_threads(total if length >= _READING else max(1, total // 2))


@contextmanager
def blas_threads(most: int) -> Iterator[int]:
    """Divide the BLAS's threads over at most `most` callers; yields how many there are.

    Within the block one product uses (threads / callers) threads; OMP_NUM_THREADS sets the total.
    """
    total = devices.threads()
    callers = min(total, most)
    if prepare() != "onemkl":
        yield callers
        return
    set_threads(max(1, total // callers))
    try:
        yield callers
    finally:
        set_threads(total)
