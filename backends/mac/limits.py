"""A limit of memory for a child process that reads strangers' files."""

from __future__ import annotations

import os
import resource
import sys
import threading
import time

import psutil

_LOOK_S = 0.1


def limit_memory(most: int, reason: str) -> None:
    """Let this process have at most `most` bytes.

    Where the system limits address space, Python raises MemoryError beyond it. macOS does not for a
    process that has mapped more already, as each has there: a thread then looks at what is in memory
    and ends the process, with `reason` as the last line of its errors.
    """
    try:
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    except (ValueError, OSError):
        threading.Thread(target=_end_above, args=(most, reason), daemon=True).start()


def _end_above(most: int, reason: str) -> None:
    process = psutil.Process()
    while process.memory_info().rss <= most:
        time.sleep(_LOOK_S)
    print(reason, file=sys.stderr, flush=True)
    os._exit(1)
