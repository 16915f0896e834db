"""Takes back jobs whose child process died, or went silent, with nobody left to notice.

The supervisor settles the children it waits for; this is for when it died itself, and for a child
that hangs. Everything runs on one machine: a pid in the database is a pid here.
"""

from __future__ import annotations

import time
import uuid

import structlog
from django.utils import timezone

from training import queue
from training.machine import processes
from training.models import LeaseLost, TrainingJob

GRACE_S = 5.0

log = structlog.get_logger(__name__)

# When this process first saw a lease in trouble, on the clock that stands still while the machine
# sleeps: after a wake-up everything looks silent, and the living need a moment to speak again.
_suspects: dict[uuid.UUID, float] = {}


def reap(grace_s: float = GRACE_S) -> list[TrainingJob]:
    """Requeue (or fail) running jobs that are dead; returns them. Call it every few seconds.

    A job is dead when its process is gone, or when its heartbeat is overdue: then its process
    group is killed first. Trouble must last `grace_s`, over calls from the same process.
    """
    reaped = []
    suspects: dict[uuid.UUID, float] = {}
    for job in TrainingJob.objects.running():
        reason = _trouble(job)
        if reason is None or job.lease is None:
            continue
        since = suspects[job.lease] = _suspects.get(job.lease, time.monotonic())
        if time.monotonic() - since >= grace_s and _take_back(job, job.lease, reason):
            reaped.append(job)
    _suspects.clear()
    _suspects.update(suspects)
    return reaped


def _trouble(job: TrainingJob) -> str | None:
    if job.process_group is not None and processes.child_of(job) is None:
        return "The training process vanished."
    if job.heartbeat_due_at is not None and job.heartbeat_due_at < timezone.now():
        return f"The training process went silent while {job.stage or 'running'}."
    return None


def _take_back(job: TrainingJob, lease: uuid.UUID, reason: str) -> bool:
    # A heartbeat may have come since the job was read: then it lives, and is left alone.
    fresh = TrainingJob.objects.held(job.pk, lease).first()
    if fresh is None or _trouble(fresh) is None:
        return False
    if not processes.kill_child(fresh):
        log.error("job's process survived SIGKILL", job=job.pk, pid=fresh.process_group)
        return False
    try:
        queue.crashed(fresh, lease, reason)
    except LeaseLost:
        return False
    log.warning("job taken back", job=job.pk, reason=reason)
    return True
