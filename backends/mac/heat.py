"""How hot a Mac is, read without root.

`pmset -g therm` knows Intel's speed limits; on Apple silicon it stays silent while the machine is
throttled, and the level that the kernel publishes through notify(3) reports.
"""

from __future__ import annotations

import contextlib
import ctypes
import re
from functools import cache

from backends.mac.programs import library, printed

_PUBLISHED = b"com.apple.system.thermalpressurelevel"
_HOT = 2
"""From libkern/OSThermalNotification.h: 0 nominal, 1 moderate, 2 heavy, 3 trapping, 4 sleeping."""


def heat() -> int:
    """0 (cool), 1 (warm, slightly throttled) or 2 (hot)."""
    return max(min(_HOT, pressure() or 0), speed_limit_heat(printed("pmset", "-g", "therm")))


def pressure() -> int | None:
    """The thermal pressure level that macOS publishes; None when it publishes none."""
    with contextlib.suppress(OSError, AttributeError):  # AttributeError: a library without notify
        if (token := _token()) is not None:
            state = ctypes.c_uint64()
            if library().notify_get_state(ctypes.c_int(token), ctypes.byref(state)) == 0:
                return int(state.value)
    return None


@cache
def _token() -> int | None:
    """Registered once in a process: each registration takes a slot until it exits."""
    token = ctypes.c_int()
    failed = library().notify_register_check(_PUBLISHED, ctypes.byref(token))
    return None if failed else int(token.value)


def speed_limit_heat(pmset: str) -> int:
    """From `pmset -g therm`: a recorded warning level, or the CPU's speed limit in percent."""
    level = re.search(r"thermal warning level[^\d\n]*(\d+)", pmset, re.IGNORECASE)
    limit = re.search(r"CPU_Speed_Limit\s*=\s*(\d+)", pmset)
    by_level = min(_HOT, int(level[1])) if level else 0
    speed = int(limit[1]) if limit else 100
    return max(by_level, 0 if speed >= 100 else 1 if speed >= 70 else _HOT)
