"""What the machine says of itself: memory pressure, battery, heat. No root is needed.

Each reading is a function of what the system printed, so that tests feed recorded outputs.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

_LOW_SHARE = 0.03  # of the memory available: below it the system begins to swap in earnest
_OUT_OF_MEMORY = re.compile(
    r"kIOGPUCommandBufferCallbackErrorOutOfMemory|Insufficient Memory|\[metal::malloc\]"
    r"|cudaErrorMemoryAllocation|CUDA_ERROR_OUT_OF_MEMORY|std::bad_alloc",
    re.IGNORECASE,
)
_HOT_WITHIN_C = 3.0  # of the temperature that a sensor calls high


@dataclass(frozen=True)
class Reading:
    """`heat` is 0 (cool), 1 (warm: the system slows down a little) or 2 (hot)."""

    memory_low: bool = False
    on_battery: bool = False
    heat: int = 0


def read() -> Reading:
    """The machine now; what it does not tell counts as good."""
    return Reading(memory_low=memory_is_low(), on_battery=on_battery(), heat=heat())


def memory_is_low() -> bool:
    """macOS tells its own judgement; elsewhere little available memory is low."""
    if sys.platform == "darwin":
        return pressure_level(_printed("sysctl", "-n", "kern.memorystatus_vm_pressure_level")) > 1
    memory = psutil.virtual_memory()
    return is_scarce(memory.available, memory.total)


def is_scarce(available: int, total: int) -> bool:
    return available < _LOW_SHARE * total


def pressure_level(sysctl: str) -> int:
    """1 (normal), 2 (warning) or 4 (critical); 1 when it is not told."""
    return int(sysctl) if sysctl.strip().isdigit() else 1


def on_battery() -> bool:
    with contextlib.suppress(Exception):  # psutil's readers of /sys fail in many ways
        battery = psutil.sensors_battery()
        return battery is not None and battery.power_plugged is False
    return False


def heat() -> int:
    if sys.platform == "darwin":
        return speed_limit_heat(_printed("pmset", "-g", "therm"))
    with contextlib.suppress(Exception):
        sensors = psutil.sensors_temperatures()
        return sensor_heat(
            (entry.current, entry.high) for group in sensors.values() for entry in group
        )
    return 0


def speed_limit_heat(pmset: str) -> int:
    """From `pmset -g therm`: a recorded warning level, or the CPU's speed limit in per cent."""
    level = re.search(r"thermal warning level[^\d\n]*(\d+)", pmset, re.IGNORECASE)
    limit = re.search(r"CPU_Speed_Limit\s*=\s*(\d+)", pmset)
    by_level = min(2, int(level[1])) if level else 0
    speed = int(limit[1]) if limit else 100
    return max(by_level, 0 if speed >= 100 else 1 if speed >= 70 else 2)


def sensor_heat(temperatures: Iterable[tuple[float, float | None]]) -> int:
    """From pairs of (current, high) in °C; a sensor that names no high tells nothing."""
    known = [(current, high) for current, high in temperatures if high]
    if any(current >= high for current, high in known):
        return 2
    return int(any(current >= high - _HOT_WITHIN_C for current, high in known))


def out_of_memory_kills() -> int:
    """Processes that Linux has killed for want of memory since it booted; 0 where nobody counts."""
    with contextlib.suppress(OSError):
        return oom_kill_count(Path("/proc/vmstat").read_text())
    return 0


def oom_kill_count(vmstat: str) -> int:
    found = re.search(r"^oom_kill (\d+)$", vmstat, re.MULTILINE)
    return int(found[1]) if found else 0


def tells_out_of_memory(log: str) -> bool:
    """Whether the last words of a process say that memory ran out, in Metal's words, CUDA's or
    C++'s: an abort that no `except` sees."""
    return _OUT_OF_MEMORY.search(log) is not None


def _printed(*command: str) -> str:
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        answer = subprocess.run(command, capture_output=True, timeout=2, text=True, check=False)
        return answer.stdout
    return ""
