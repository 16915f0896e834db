"""Waking the worker.

Huey loses the message of a task whose consumer is killed, so a message says only "check the
queue", and the worker that receives it runs every job that is due in the database.
"""

from __future__ import annotations

from collections.abc import Callable

from django.db import transaction
from huey.contrib.djhuey import db_task

_listeners: list[Callable[[], object]] = []


def listen(check_queue: Callable[[], object]) -> None:
    """Call `check_queue` in this process whenever the doorbell rings; the worker sets this once."""
    _listeners[:] = [check_queue]


@db_task()  # type: ignore[untyped-decorator]
def doorbell() -> None:
    """Run the jobs that are due, one after another."""
    (check_queue,) = _listeners
    check_queue()


def ring(delay_s: float = 0.0) -> None:
    """Wake the worker after the commit, or `delay_s` later. Never fails: the worker also checks the
    queue every minute."""
    # 0.1 s beyond the back-off, so that the job is certainly due when the doorbell rings.
    wake = (lambda: doorbell.schedule(delay=delay_s + 0.1)) if delay_s else doorbell
    transaction.on_commit(wake, robust=True)
