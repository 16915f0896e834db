"""Checks before training that serving will send the same tokens as training.

A chat template is a program that came with a model, and one that loops forever cannot be stopped
from within. So it is rendered in the job's own process, which a watchdog can end.
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
from registry.storage import paths
from training import queue
from training.models import LeaseLost, TrainingJob
from training.queue.outage import ride_out

SAMPLE = 32  # examples of each split
DEADLINE_S = 60.0
_ALARM_S = 10.0  # after the watchdog, a thread, which cannot run while C code holds the GIL

log = structlog.get_logger(__name__)


def check(job: TrainingJob, lease: uuid.UUID) -> None:
    """Raises TemplateMismatch. A template that does not finish fails the job and ends this process."""
    base, data = registration.base_path(job.base_model), snapshots.dataset_path(job.dataset)
    reason = (
        f"The chat template of {job.base_model.name} did not finish within {DEADLINE_S:.0f} s on "
        f"{SAMPLE} examples of each split; use a base model with another template."
    )

    def fail() -> None:
        try:
            ride_out(lambda: queue.fail(job, lease, reason))
        except LeaseLost:
            return
        finally:
            connection.close()  # this thread's own

    with deadline(DEADLINE_S, fail):
        get_backend(settings.BACKEND).check_template(
            base,
            data,
            SAMPLE,
            job.training_config.thoughts,
            paths.tokens_dir(job.dataset.checksum),
        )


@contextmanager
def deadline(
    limit_s: float, expired: Callable[[], None], end: Callable[[int], object] = os._exit
) -> Iterator[None]:
    """Call `expired` and end the process unless the body finishes within `limit_s`.

    When Python itself is blocked, the kernel ends the process by SIGALRM a little later.
    """
    finished = threading.Event()

    def watch() -> None:
        if finished.wait(limit_s):
            return
        log.error("chat template did not finish", limit_s=limit_s)
        try:
            expired()
        finally:
            end(1)

    on_main_thread = threading.current_thread() is threading.main_thread()
    if on_main_thread:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, limit_s + _ALARM_S)
    threading.Thread(target=watch, name="template-watchdog", daemon=True).start()
    try:
        yield
    finally:
        finished.set()
        if on_main_thread:
            signal.setitimer(signal.ITIMER_REAL, 0)
