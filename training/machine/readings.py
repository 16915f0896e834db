"""Memory pressure, battery and heat of this machine, read without root.

Each reading is a function of what the system printed, so that tests can use recorded output.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from backends.mac import heat as mac
from backends.mac.power import low_power_mode
from backends.mac.programs import printed

_LOW_SHARE = 0.03  # of memory available: below this the system starts swapping heavily
_WARM_WITHIN_C = 3.0  # of the temperature that a sensor reports as high


@dataclass(frozen=True)
class Reading:
    """`heat` is 0 (cool), 1 (warm, slightly throttled) or 2 (hot); `low_power`: whether the system
    saves energy at the user's wish (macOS's Low Power Mode)."""

    memory_low: bool = False
    on_battery: bool = False
    heat: int = 0
    low_power: bool = False


def read() -> Reading:
    """The machine's current state; what it does not report counts as fine."""
    return Reading(memory_is_low(), on_battery(), heat(), low_power())


def memory_is_low() -> bool:
    """From macOS's own pressure level; elsewhere from the share of available memory."""
    if sys.platform == "darwin":
        return pressure_level(printed("sysctl", "-n", "kern.memorystatus_vm_pressure_level")) > 1
    memory = psutil.virtual_memory()
    return is_scarce(memory.available, memory.total)


def is_scarce(available: int, total: int) -> bool:
    return available < _LOW_SHARE * total


def pressure_level(sysctl: str) -> int:
    """1 (normal), 2 (warning) or 4 (critical); 1 when it is not reported."""
    return int(sysctl) if sysctl.strip().isdigit() else 1


def on_battery() -> bool:
    with contextlib.suppress(Exception):  # psutil's readers of /sys fail in many ways
        battery = psutil.sensors_battery()
        return battery is not None and battery.power_plugged is False
    return False


def heat() -> int:
    if sys.platform == "darwin":
        return mac.heat()
    with contextlib.suppress(Exception):
        sensors = psutil.sensors_temperatures()
        return sensor_heat(
            (entry.current, entry.high) for group in sensors.values() for entry in group
        )
    return 0


def low_power() -> bool:
    return sys.platform == "darwin" and low_power_mode()


def sensor_heat(temperatures: Iterable[tuple[float, float | None]]) -> int:
    """From pairs of (current, high) in °C; a sensor without a high value is ignored."""
    known = [(current, high) for current, high in temperatures if high]
    if any(current >= high for current, high in known):
        return 2
    return int(any(current >= high - _WARM_WITHIN_C for current, high in known))


def out_of_memory_kills() -> int:
    """Processes that Linux killed for lack of memory since boot; 0 on other systems."""
    with contextlib.suppress(OSError):
        return oom_kill_count(Path("/proc/vmstat").read_text())
    return 0


def oom_kill_count(vmstat: str) -> int:
    found = re.search(r"^oom_kill (\d+)$", vmstat, re.MULTILINE)
    return int(found[1]) if found else 0
