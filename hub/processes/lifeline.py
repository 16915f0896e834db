"""A child of `up` exits when `up` does, however `up` ends.

`up` holds the write end of a pipe and never writes to it. Each child reads the other end: when `up`
dies, even by `kill -9`, the kernel closes the pipe and the read returns. Unlike Linux's
PR_SET_PDEATHSIG this works on macOS, too.
"""

from __future__ import annotations

import os
import signal
import threading
import time

VARIABLE = "HUB_PARENT_PIPE"
_has_parent = False
PREPARED = "HUB_PREPARED_PIPE"
READY = b"ready"
_GRACE_S = 6.0


def watch_parent() -> None:
    """Exit this process when its parent dies. Does nothing in a process without a parent pipe."""
    descriptor = os.environ.pop(VARIABLE, None)  # popped: grandchildren watch their own parent
    if descriptor is None:
        return
    global _has_parent
    _has_parent = True
    os.set_inheritable(int(descriptor), False)
    threading.Thread(
        target=_exit_after_parent, args=(int(descriptor),), name="lifeline", daemon=True
    ).start()


def was_prepared() -> bool:
    """Whether `up` has started this process anew, after another had prepared the database."""
    return _has_parent and not is_to_prepare()


def is_to_prepare() -> bool:
    """Whether `up` waits for this process to prepare the database."""
    return PREPARED in os.environ


def report(problem: str | None) -> None:
    """Tell `up` that the database is prepared, or why the hub must not start."""
    with os.fdopen(int(os.environ.pop(PREPARED)), "wb") as pipe:
        pipe.write(problem.encode() if problem else READY)


def _exit_after_parent(descriptor: int) -> None:
    while os.read(descriptor, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_S)
    # `up` makes every child the leader of its group, so this reaches what it started as well.
    os.killpg(os.getpgrp(), signal.SIGKILL)
