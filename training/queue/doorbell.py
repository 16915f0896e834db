"""Waking the worker. Huey loses the message of a task whose consumer is killed, so a message says
only "look at the queue", and whoever hears it drains the queue that the database holds.
"""

from __future__ import annotations

from collections.abc import Callable

from django.db import transaction
from huey.contrib.djhuey import db_task

_answers: list[Callable[[], object]] = []


def answer(look: Callable[[], object]) -> None:
    """Have `look` called in this process whenever the bell rings; the worker says so once."""
    _answers[:] = [look]


@db_task()  # type: ignore[untyped-decorator]
def doorbell() -> None:
    """Run the jobs that are due, one after another."""
    (look,) = _answers
    look()


def ring(delay_s: float = 0.0) -> None:
    """Wake the worker after the commit, or `delay_s` later. Never fails: a minute's tick follows."""
    # 0.1 s beyond the back-off, so that the job is due for certain when the bell rings.
    chime = (lambda: doorbell.schedule(delay=delay_s + 0.1)) if delay_s else doorbell
    transaction.on_commit(chime, robust=True)
