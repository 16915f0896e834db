"""A limit of memory for a child process that reads strangers' files."""

from __future__ import annotations

import os
import resource
import sys
import threading
import time
from collections.abc import Callable

_LOOK_S = 0.1


def limit_memory(most: int, reason: str, held: Callable[[], int]) -> None:
    """Let this process have at most `most` bytes; `held` says how many it holds.

    Where the system limits address space, Python raises MemoryError beyond it. macOS does not for a
    process that has mapped more already, as each has there: a thread then looks at what is held
    and ends the process, with `reason` as the last line of its errors. A resident set would not do:
    macOS compresses what a process writes and does not use.
    """
    try:
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    except (ValueError, OSError):
        threading.Thread(target=_end_above, args=(most, reason, held), daemon=True).start()


def _end_above(most: int, reason: str, held: Callable[[], int]) -> None:
    while held() <= most:
        time.sleep(_LOOK_S)
    print(reason, file=sys.stderr, flush=True)
    os._exit(1)
