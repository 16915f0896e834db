"""Low Power Mode, and staying awake."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable

from backends.mac.programs import printed

LINGER_S = 60.0
AGAIN_S = 30.0
"""Before a program is started again that ended by itself or could not start."""


def low_power_mode() -> bool:
    """Whether the Mac saves energy now, at about half its speed."""
    return says_low_power(printed("pmset", "-g"))


def says_low_power(pmset: str) -> bool:
    """From `pmset -g`: `lowpowermode 1`, or `powermode 1` where there is a high one (2), too."""
    return re.search(r"^\s*(?:lowpowermode|powermode)\s+1\s*$", pmset, re.MULTILINE) is not None


def caffeinate(*options: str) -> subprocess.Popen[bytes] | None:
    """Start the program that holds a power assertion until it ends, with its options; None where
    there is none (on Linux another one has its name), or no process or descriptor is free. With
    `close_fds` off, Python spawns it without copying this process's memory map, which is large where
    models are held."""
    program = shutil.which("caffeinate") if sys.platform == "darwin" else None
    if program is None:
        return None
    try:
        return subprocess.Popen([program, *options], stdin=subprocess.DEVNULL, close_fds=False)
    except OSError:  # the work continues, and the Mac may sleep
        return None


class Awake:
    """Keeps a Mac from falling asleep while this process works, and a minute longer, so that a
    conversation takes one assertion. The display may sleep, and a closed lid still ends it all."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._busy_at = self._started_at = float("-inf")
        self._holding: subprocess.Popen[bytes] | None = None

    def look(self, busy: bool) -> None:
        """Call this now and then with whether there is work."""
        if busy:
            self._busy_at = now = self._clock()
            holds = self._holding is not None and self._holding.poll() is None
            if not holds and now - self._started_at >= AGAIN_S:
                self._started_at = now
                self._holding = caffeinate("-i", "-w", str(os.getpid()))
        elif self._clock() - self._busy_at > LINGER_S:
            self.release()

    def release(self) -> None:
        """Let the Mac sleep again."""
        self._started_at = float("-inf")
        if self._holding is not None:
            self._holding.terminate()
            self._holding.wait()
            self._holding = None
