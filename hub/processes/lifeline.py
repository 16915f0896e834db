"""A child of `up` ends with it, however that ends.

`up` keeps the writing end of a pipe and never writes. Each child reads the other end: the kernel
closes the pipe when `up` dies, `kill -9` included, and the read returns. Unlike Linux's
PR_SET_PDEATHSIG this works on macOS too.
"""

from __future__ import annotations

import os
import signal
import threading
import time

VARIABLE = "HUB_PARENT_PIPE"
_GRACE_S = 6.0


def hold_on() -> None:
    """End this process when its parent is gone. Does nothing in a process without a parent pipe."""
    descriptor = os.environ.pop(VARIABLE, None)  # popped: grandchildren watch their own parent
    if descriptor is None:
        return
    os.set_inheritable(int(descriptor), False)
    threading.Thread(
        target=_end_after_parent, args=(int(descriptor),), name="lifeline", daemon=True
    ).start()


def _end_after_parent(descriptor: int) -> None:
    while os.read(descriptor, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_S)
    # `up` makes every child the leader of its group, so this reaches what it started as well.
    os.killpg(os.getpgrp(), signal.SIGKILL)
