"""The memory of processes and of this machine, read without MLX.

A process's figure is what the system charges it with: on macOS its physical footprint, which has the
Metal buffers in it and which a resident set leaves out, elsewhere its resident set.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from pathlib import Path

_GB = 2**30
_RUSAGE_INFO_V4 = 4
_MOST_OF_RAM, _MOST_OF_WORKING_SET = 0.75, 0.9


class _Usage(ctypes.Structure):
    """`rusage_info_v4` of <sys/resource.h>: a UUID, then numbers of 64 bits."""

    _fields_ = (
        ("uuid", ctypes.c_uint8 * 16),
        ("before", ctypes.c_uint64 * 7),
        ("phys_footprint", ctypes.c_uint64),
        ("between", ctypes.c_uint64 * 20),
        ("lifetime_max_phys_footprint", ctypes.c_uint64),
        ("after", ctypes.c_uint64 * 6),
    )


def footprint(pid: int | None = None) -> int:
    """Bytes that the process `pid`, by default this one, holds now. Raises psutil.NoSuchProcess."""
    if usage := _usage(pid or os.getpid()):
        return int(usage.phys_footprint)
    import psutil  # here: it takes as long to import as all else of the child that reads a file

    return int(psutil.Process(pid).memory_info().rss)


def peak_footprint(pid: int | None = None) -> int:
    """The most that the process `pid`, by default this one, has held since it started. Raises
    psutil.NoSuchProcess."""
    if usage := _usage(pid or os.getpid()):
        return int(usage.lifetime_max_phys_footprint)
    with contextlib.suppress(OSError, StopIteration, ValueError):
        lines = Path(f"/proc/{pid or 'self'}/status").read_text().splitlines()
        peak = next(line for line in lines if line.startswith("VmHWM:"))
        return int(peak.split()[1]) * 1024
    return footprint(pid)


def _usage(pid: int) -> _Usage | None:
    """None where it is not macOS, or not a process of this user."""
    if sys.platform != "darwin":
        return None
    usage = _Usage()
    try:
        library = ctypes.CDLL("/usr/lib/libproc.dylib")
        failed = library.proc_pid_rusage(pid, _RUSAGE_INFO_V4, ctypes.byref(usage))
    except (OSError, AttributeError):
        return None
    return None if failed else usage


def default_budget() -> int:
    """Bytes that MLX may hold in all processes together, where the user does not say: 75 % of RAM, and
    on a Mac no more than 90 % of what Metal may have at once."""
    ram = _ram()
    most = int(_MOST_OF_RAM * ram)
    if sys.platform == "darwin" or os.environ.get("HUB_ASSUMED_DEVICE") == "metal":
        most = min(most, int(_MOST_OF_WORKING_SET * working_set(ram, _wired_limit())))
    return most


def working_set(ram: int, wired_limit: int = 0) -> int:
    """What Metal recommends as the most that all buffers take, of a Mac with so much memory: two thirds
    of it, three quarters of more than 36 GB, or what `iogpu.wired_limit_mb` was set to."""
    if wired_limit:
        return min(ram, wired_limit)
    return ram * 3 // 4 if ram > 36 * _GB else ram * 2 // 3


def _ram() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _wired_limit() -> int:
    """Bytes that the user lets the GPU have, 0 where that is left to macOS."""
    number, size = ctypes.c_int64(0), ctypes.c_size_t(8)
    try:
        ask = ctypes.CDLL(None).sysctlbyname
    except AttributeError:  # Linux
        return 0
    failed = ask(b"iogpu.wired_limit_mb", ctypes.byref(number), ctypes.byref(size), None, 0)
    return 0 if failed else number.value * 2**20
