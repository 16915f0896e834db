"""Riding out a short loss of the database, so that one failed write does not end a training run."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog
from django.db import InterfaceError, OperationalError, connection

LIMIT_S = 60.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0

log = structlog.get_logger(__name__)


def ride_out[T](write: Callable[[], T], limit_s: float = LIMIT_S) -> T:
    """Repeat `write` until the database answers, for up to `limit_s`; then raise its error.

    `write` may run more than once, even after a commit whose confirmation was lost, so it must be
    safe to repeat. Call it outside a transaction.
    """
    deadline = time.monotonic() + limit_s
    pause = _FIRST_PAUSE_S
    while True:
        try:
            return write()
        except (OperationalError, InterfaceError) as error:
            if time.monotonic() + pause > deadline:
                raise
            log.warning("database unavailable, retrying", error=str(error), pause_s=pause)
        if not connection.in_atomic_block:
            connection.close()  # a broken connection stays broken; the next write opens another
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_S)
