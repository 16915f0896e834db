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

_ONEMKL = Path(sys.prefix) / "lib" / "libmkl_rt.so.3"

_lock = threading.Lock()
_blas: str | None = None
_set_threads: Callable[[int], object] | None = None  # the BLAS's own
_threads = 0  # the number set last; 0: none yet
_READING = 8  # tokens: from here on a pass reads a prompt
_warnings: list[str] = []


def prepare() -> str:
    """Make this process ready for MLX and return the BLAS it will use; later calls do nothing.

    "onemkl", "openblas" or "reference" on Linux, "accelerate" on macOS.
    """
    global _blas
    with _lock:
        if _blas is None:
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
    """Bytes: the most that MLX has held on a GPU since `reset_peak_memory`; on the CPU, where its
    arrays are ordinary memory, the most that the whole process has held."""
    import mlx.core as mx

    if device_kind() == "cpu":
        with contextlib.suppress(OSError, StopIteration, ValueError):
            lines = Path("/proc/self/status").read_text().splitlines()
            peak = next(line for line in lines if line.startswith("VmHWM:"))
            return int(peak.split()[1]) * 1024
    return int(mx.get_peak_memory())


def held_memory() -> int:
    """Bytes that MLX holds on a GPU now, for all of its arrays and for those to come (buffers that
    were freed and are kept); on the CPU, where these are ordinary memory, what the whole process
    holds."""
    import mlx.core as mx

    arrays = int(mx.get_active_memory() + mx.get_cache_memory())
    if device_kind() == "cpu":
        return max(arrays, int(psutil.Process().memory_info().rss))
    return arrays


def free_memory() -> None:
    """Give the freed buffers that MLX keeps back to the system, and on Linux what the C library keeps
    of them: some 300 MB after 32 prompts at once."""
    import mlx.core as mx

    mx.clear_cache()
    if device_kind() == "cpu" and sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
            ctypes.CDLL(None).malloc_trim(0)


SERVING_CACHE, TRAINING_CACHE = 768 << 20, 256 << 20
"""Bytes of freed buffers that MLX keeps on the CPU. A training run is no faster with more: its steps
took as long with 64 MiB as with 2 GiB, which doubled its peak. Eight prompts of 400 tokens at once on
SmolLM2 fill 600 MB, and cost 8 % more processor time with 256 MB (2 cores, 2026-11)."""


def limit_cache(most: int) -> None:
    """Let MLX keep freed buffers for reuse on the CPU. `prepare()` must have run.

    Its default there is 32 MiB; beyond it every array is new memory from the system, whose page
    faults cost more than the arithmetic (measured: half the time of a training step's parts).
    """
    import mlx.core as mx

    if device_kind() == "cpu":
        mx.set_cache_limit(min(most, psutil.virtual_memory().total // 8))


def total_threads() -> int:
    """How many the BLAS may use: OMP_NUM_THREADS, or one for each core."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else (os.cpu_count() or 1)
    return max(1, int(os.environ.get("OMP_NUM_THREADS", "") or cores))


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
    total = total_threads()
    set_threads(total if length >= _READING else max(1, total // 2))


@contextmanager
def blas_threads(most: int) -> Iterator[int]:
    """Divide the BLAS's threads over at most `most` callers; yields how many there are.

    Within the block one product uses (threads / callers) threads; OMP_NUM_THREADS sets the total.
    """
    total = total_threads()
    callers = min(total, most)
    if prepare() != "onemkl":
        yield callers
        return
    set_threads(max(1, total // callers))
    try:
        yield callers
    finally:
        set_threads(total)
