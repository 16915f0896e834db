"""Retrying a job that ended without a result, unchanged or with half its batch size."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.db.models import F

from registry.errors import Conflict
from training.models import TrainingJob
from training.queue.doorbell import ring
from training.queue.entry import last_position

Status = TrainingJob.Status


def retry(job: TrainingJob) -> TrainingJob:
    """Queue a failed or cancelled job again; it continues from its checkpoint, as a new version.

    Raises Conflict when the job is in another state.
    """
    return _retry(job, {})


def retry_halved(job: TrainingJob) -> TrainingJob:
    """Queue a job that ran out of memory again, with half the batch size and twice the batches per
    step. That gives different bytes, so it starts from the beginning.

    Raises Conflict when the job did not run out of memory, or was halved before.
    """
    job.refresh_from_db()
    if not job.can_halve:
        raise Conflict(
            f"Job {job.pk} cannot be retried with half the batch size. That works once, for a "
            "job with a batch_size above 1 that ran out of memory and does not reproduce a "
            "version."
        )
    return _retry(job, halved(job))


def _retry(job: TrainingJob, changes: dict[str, Any]) -> TrainingJob:
    with transaction.atomic():
        retried = TrainingJob.objects.filter(
            pk=job.pk, status__in=[Status.FAILED, Status.CANCELLED]
        ).update(
            **{
                "status": Status.QUEUED,
                "iteration": F("checkpoint_iteration"),
                "position": last_position() + 1,
                "completed_at": None,
                "error_message": "",
                "wait_reason": "",
                "cancel_requested": False,
                "paused": False,
                "out_of_memory": False,
                "crashes": 0,
                "not_before": None,
                "lease": None,
                "result_version": None,
                **changes,
            }
        )
        ring()
    job.refresh_from_db()
    if not retried:
        raise Conflict(
            f"Job {job.pk} is {job.status}; only failed or cancelled jobs can be retried."
        )
    return job


def halved(job: TrainingJob) -> dict[str, Any]:
    """The job's columns with half its batch size. Examples per step stay the same, or grow slightly
    when the batch size was odd."""
    config = job.training_config
    half = config.batch_size // 2
    steps = -(-config.batch_size * config.grad_accumulation_steps // half)
    smaller = config.model_copy(update={"batch_size": half, "grad_accumulation_steps": steps})
    return {
        "config": smaller.model_dump(mode="json"),
        "batch_size_before": config.batch_size,
        "iteration": 0,
        "checkpoint_iteration": 0,
        "crashes": 0,
    }
