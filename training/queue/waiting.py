"""What people do with queued and running jobs: cancel, pause, resume, and change their order."""

from __future__ import annotations

from typing import Literal

from django.db import transaction
from django.utils import timezone

from registry.errors import Conflict
from training.models import TrainingJob
from training.queue.doorbell import ring
from training.queue.entry import last_position
from training.queue.outcomes import abandon

Status = TrainingJob.Status

Where = Literal["first", "up", "down", "last"]


def cancel(job: TrainingJob) -> TrainingJob:
    """Cancel a queued job at once, a running one at its next step; the checkpoint is kept.

    Raises Conflict when the job has finished.
    """
    with transaction.atomic():
        row = TrainingJob.objects.select_for_update().get(pk=job.pk)
        if row.is_over:
            raise Conflict(f"Job {job.pk} is already {row.status}; there is nothing to cancel.")
        rows = TrainingJob.objects.filter(pk=job.pk, status=row.status)
        if row.status == Status.QUEUED:
            rows.update(
                status=Status.CANCELLED,
                completed_at=timezone.now(),
                wait_reason="",
                paused=False,
            )
            abandon(row, Status.CANCELLED)
        else:
            rows.update(cancel_requested=True)
    job.refresh_from_db()
    return job


def pause(job: TrainingJob) -> TrainingJob:
    """Hold a queued job; send a running one back to the queue at its next step, with a checkpoint.
    Raises Conflict when the job has finished."""
    return _set_paused(job, True)


def resume(job: TrainingJob) -> TrainingJob:
    """Let a paused job run again, from its checkpoint. Raises Conflict when it is not paused."""
    return _set_paused(job, False)


def _set_paused(job: TrainingJob, paused: bool) -> TrainingJob:
    alive = [Status.QUEUED, Status.RUNNING]
    with transaction.atomic():
        changed = TrainingJob.objects.filter(
            pk=job.pk, status__in=alive, paused=not paused, cancel_requested=False
        ).update(paused=paused)
        if changed and not paused:
            TrainingJob.objects.filter(pk=job.pk, status=Status.QUEUED).update(wait_reason="")
            ring()
    job.refresh_from_db()
    if not changed:
        state = "paused" if job.paused else job.status
        verb = "paused" if paused else "resumed"
        raise Conflict(f"Job {job.pk} is {state}; it cannot be {verb}.")
    return job


def move(job: TrainingJob, where: Where) -> TrainingJob:
    """Move a waiting job in the queue. Moved past jobs of another priority, it takes that priority.

    Raises Conflict when the job is not waiting.
    """
    with transaction.atomic():
        waiting = list(TrainingJob.objects.waiting().select_for_update())
        old = next((n for n, row in enumerate(waiting) if row.pk == job.pk), None)
        if old is None:
            job.refresh_from_db()
            raise Conflict(f"Job {job.pk} is {job.status}; only waiting jobs can be moved.")
        new = {"first": 0, "up": max(0, old - 1), "down": old + 1, "last": len(waiting)}[where]
        slots = [row.position for row in waiting]
        moved = waiting.pop(old)
        waiting.insert(new, moved)
        place = waiting.index(moved)
        if place > 0:
            moved.priority = min(moved.priority, waiting[place - 1].priority)
        if place + 1 < len(waiting):
            moved.priority = max(moved.priority, waiting[place + 1].priority)
        last = min(slots) - 1
        for row, slot in zip(waiting, sorted(slots), strict=True):
            last = max(slot, last + 1)  # positions may repeat, so some rows get a new one
            if row.position != last or row is moved:
                TrainingJob.objects.filter(pk=row.pk, status=Status.QUEUED).update(
                    position=last, priority=row.priority
                )
    job.refresh_from_db()
    return job


def prioritize(job: TrainingJob, priority: int) -> TrainingJob:
    """Change a waiting job's priority; it goes behind the jobs that already have it.

    Raises Conflict when the job is not waiting.
    """
    with transaction.atomic():
        changed = TrainingJob.objects.filter(pk=job.pk, status=Status.QUEUED).update(
            priority=priority, position=last_position() + 1
        )
    job.refresh_from_db()
    if not changed:
        raise Conflict(
            f"Job {job.pk} is {job.status}; only a waiting job's priority can be changed."
        )
    return job
