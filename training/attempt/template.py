"""Before training: will the model be asked with the tokens that it was trained on?

A chat template is a program that came with a model, and one that loops for ever cannot be stopped
from within. So it is rendered in the job's own process, which a watchdog ends.
"""

from __future__ import annotations

import os
import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog
from django.conf import settings
from django.db import connection

from backends import get_backend
from registry.bases import registration
from registry.datasets import snapshots
from training import queue
from training.models import LeaseLost, TrainingJob
from training.queue.outage import ride_out

SAMPLE = 32  # examples of each split
DEADLINE_S = 60.0
_LAST_S = 10.0  # the watchdog is a thread; a template may also sit in C code that lets none run

log = structlog.get_logger(__name__)


def check(job: TrainingJob, lease: uuid.UUID) -> None:
    """Raises TemplateMismatch. A template that does not come to an end fails the job and ends this
    process."""
    base, data = registration.base_path(job.base_model), snapshots.dataset_path(job.dataset)
    reason = (
        f"The chat template of {job.base_model.name} did not come to an end within "
        f"{DEADLINE_S:.0f} s on {SAMPLE} examples of each split; use a base model with another."
    )

    def fail() -> None:
        try:
            ride_out(lambda: queue.fail(job, lease, reason))
        except LeaseLost:
            return
        finally:
            connection.close()  # this thread's own

    with deadline(DEADLINE_S, fail):
        get_backend(settings.BACKEND).check_template(base, data, SAMPLE)


@contextmanager
def deadline(
    limit_s: float, expired: Callable[[], None], end: Callable[[int], object] = os._exit
) -> Iterator[None]:
    """Call `expired` and end the process unless the body is done within `limit_s`.

    Where Python itself is held up, the kernel ends the process a little later by SIGALRM.
    """
    over = threading.Event()

    def watch() -> None:
        if over.wait(limit_s):
            return
        log.error("the chat template did not come to an end", limit_s=limit_s)
        try:
            expired()
        finally:
            end(1)

    alarmed = threading.current_thread() is threading.main_thread()
    if alarmed:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, limit_s + _LAST_S)
    threading.Thread(target=watch, name="template-watchdog", daemon=True).start()
    try:
        yield
    finally:
        over.set()
        if alarmed:
            signal.setitimer(signal.ITIMER_REAL, 0)
