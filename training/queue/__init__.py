"""The queue of training jobs: how a job enters it, leaves it, and what follows from that.

A job's row, its version and its MLflow updates change in one transaction. The worker is woken
after the commit; a lost wake-up costs at most a minute (see `training.worker.tasks`).
"""

from __future__ import annotations

from training.queue.doorbell import ring
from training.queue.entry import claim, clone, enqueue
from training.queue.outcomes import (
    BACK_OFF_S,
    MAX_CRASHES,
    attach_version,
    cancelled,
    complete,
    crashed,
    fail,
    refuse,
    requeue,
)
from training.queue.retries import retry, retry_halved
from training.queue.waiting import Where, cancel, move, pause, prioritize, resume

__all__ = [
    "BACK_OFF_S",
    "MAX_CRASHES",
    "Where",
    "attach_version",
    "cancel",
    "cancelled",
    "claim",
    "clone",
    "complete",
    "crashed",
    "enqueue",
    "fail",
    "move",
    "pause",
    "prioritize",
    "refuse",
    "requeue",
    "resume",
    "retry",
    "retry_halved",
    "ring",
]
