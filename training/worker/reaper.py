"""Recovers jobs whose child process died or hangs while nobody waits for it.

The supervisor records the outcome of children that it waits for. This is for when the supervisor
died, and for a child that hangs. Everything runs on one machine: a pid in the database is a pid
here.
"""

from __future__ import annotations

import time
import uuid

import structlog
from django.utils import timezone

from training import queue
from training.machine import processes
from training.models import START_LIMIT, STARTING, LeaseLost, TrainingJob

GRACE_S = 5.0
_WORKS_S = 0.02  # processor seconds between two looks; a process that waits uses next to none

log = structlog.get_logger(__name__)

# When this process first found a lease overdue, on the clock that stops while the machine sleeps:
# after a wake-up every heartbeat is overdue, and live processes need a moment to send one.
_suspects: dict[uuid.UUID, float] = {}
# Processor seconds of starting processes whose first heartbeat is overdue, as last seen.
_worked: dict[uuid.UUID, float] = {}


def reap(grace_s: float = GRACE_S) -> list[TrainingJob]:
    """Requeue (or fail) running jobs that are dead, and return them. Call it every few seconds.

    A job is dead when its process is gone, or when its heartbeat is overdue: then its process group
    is killed first. The problem must last `grace_s`, over several calls from the same process.
    """
    reaped = []
    suspects: dict[uuid.UUID, float] = {}
    for job in TrainingJob.objects.running():
        reason = _problem(job)
        if reason is None or job.lease is None or _still_starts(job, job.lease):
            continue
        since = suspects[job.lease] = _suspects.get(job.lease, time.monotonic())
        if time.monotonic() - since >= grace_s and _recover(job, job.lease, reason):
            reaped.append(job)
    _suspects.clear()
    _suspects.update(suspects)
    return reaped


def _problem(job: TrainingJob) -> str | None:
    if job.process_group is not None and processes.child_of(job) is None:
        return "The training process disappeared."
    if not _overdue(job):
        return None
    if job.process_group is None:
        return "The worker stopped before it had started the training process."
    if job.stage == STARTING:
        return "The training process did not start in time on this busy machine."
    return f"The training process stopped responding while {job.stage or 'running'}."


def _still_starts(job: TrainingJob, lease: uuid.UUID) -> bool:
    """Whether the child is alive, has not reported yet and is seen to work: then it is slow, and
    would only be slower if it had to start again."""
    since = job.stage_since
    if job.stage != STARTING or since is None or timezone.now() - since > START_LIMIT:
        return False
    before, now = _worked.get(lease, 0.0), processes.worked_s(job)
    _worked.clear()  # one job runs at a time
    _worked[lease] = now
    return now - before > _WORKS_S


def _overdue(job: TrainingJob) -> bool:
    """Whether the next heartbeat is late. On a busy machine everything takes longer, so the time
    between two heartbeats may grow with its load."""
    now, sent, due = timezone.now(), job.heartbeat_at, job.heartbeat_due_at
    if due is None or due >= now:
        return False
    return sent is None or now - sent > (due - sent) * processes.busyness()


def _recover(job: TrainingJob, lease: uuid.UUID, reason: str) -> bool:
    # A heartbeat may have arrived since the job was read: then the job is left alone.
    fresh = TrainingJob.objects.held(job.pk, lease).first()
    if fresh is None or _problem(fresh) is None:
        return False
    try:
        # The reason first: the supervisor may see the child's end before it is recorded here.
        fresh.write_held(lease, wait_reason=reason)
    except LeaseLost:
        return False
    if not processes.kill_child(fresh):
        log.error("job process survived SIGKILL", job=job.pk, pid=fresh.process_group)
        return False
    try:
        queue.crashed(fresh, lease, reason)
    except LeaseLost:
        return False
    log.warning("dead job recovered", job=job.pk, reason=reason)
    return True
