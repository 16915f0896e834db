"""How a running job ends: completed, failed, cancelled, or back in the queue."""

from __future__ import annotations

import datetime
import uuid
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from backends.base import TrainingConfig
from registry.models import ModelVersion
from registry.versions import lifecycle
from training.models import STARTING, LeaseLost, TrainingJob
from training.queue import tracking
from training.queue.doorbell import ring
from training.queue.retries import halved

MAX_CRASHES = 3  # in a row without a new checkpoint between them
BACK_OFF_S = 2.0  # after the first crash; four times as long after the next

SLOW_START_PAUSE_S = 10.0

log = structlog.get_logger(__name__)
Status = TrainingJob.Status


def complete(job: TrainingJob, lease: uuid.UUID) -> None:
    """running → completed, once its version is ready. Safe to repeat. Raises LeaseLost."""
    try:
        with transaction.atomic():
            row = _locked(job, lease)
            row.leave_running(lease, Status.COMPLETED, wait_reason="", paused=False)
            tracking.finish_run(row, Status.COMPLETED)
    except LeaseLost:
        # An earlier commit may have succeeded although the connection was lost before it said so.
        if not TrainingJob.objects.filter(pk=job.pk, lease=lease, status=Status.COMPLETED).exists():
            raise


def fail(job: TrainingJob, lease: uuid.UUID, message: str) -> None:
    """running → failed, when another attempt would fail the same way. Raises LeaseLost."""
    with transaction.atomic():
        _end(_locked(job, lease), lease, Status.FAILED, message)


def refuse(job: TrainingJob, message: str) -> None:
    """queued → failed, when waiting will not help."""
    with transaction.atomic():
        ended = TrainingJob.objects.filter(pk=job.pk, status=Status.QUEUED).update(
            status=Status.FAILED,
            completed_at=timezone.now(),
            error_message=message,
            wait_reason="",
            paused=False,
        )
        if ended:
            abandon(job, Status.FAILED)
    log.warning("job refused", job=job.pk, reason=message)


def requeue(job: TrainingJob, lease: uuid.UUID, reason: str, delay_s: float = 0.0) -> None:
    """running → queued, to continue from the checkpoint; cancelled if that was requested.

    Raises LeaseLost.
    """
    with transaction.atomic():
        row = _locked(job, lease)
        if row.cancel_requested:
            _end(row, lease, Status.CANCELLED)
        else:
            _requeue(row, lease, reason, delay_s)


def crashed(
    job: TrainingJob, lease: uuid.UUID, reason: str, *, out_of_memory: bool = False
) -> None:
    """An attempt crashed: retry after a back-off, or fail the job when it keeps crashing without a
    new checkpoint.

    A job that runs out of memory twice in a row is restarted once with half its batch size, unless
    HUB_HALVE_BATCH_SIZE is off. `reason` is a sentence. Raises LeaseLost.
    """
    with transaction.atomic():
        row = _locked(job, lease)
        reason = row.wait_reason or reason  # why the reaper killed it, which it writes first
        if row.wait_reason and row.stage == STARTING and not row.cancel_requested:
            # Nothing of the job has run: the machine was too busy, or the worker died.
            _requeue(row, lease, f"{reason} It starts again in a moment.", SLOW_START_PAUSE_S)
            log.warning("job start too slow", job=job.pk, reason=reason)
            return
        row.crashes += 1
        again_out_of_memory = out_of_memory and row.out_of_memory
        row.out_of_memory = out_of_memory
        row.write_held(lease, crashes=row.crashes, out_of_memory=out_of_memory)
        if row.cancel_requested:
            _end(row, lease, Status.CANCELLED)
        elif settings.HALVE_BATCH_SIZE and again_out_of_memory and row.may_halve:
            columns = halved(row)
            size, steps = (columns["config"][k] for k in ("batch_size", "grad_accumulation_steps"))
            message = (
                f"{reason} Restarting with batch_size {size} instead of "
                f"{columns['batch_size_before']} and grad_accumulation_steps {steps}; checkpoints "
                "of the larger batch cannot be used."
            )
            # The version was created with the old parameters; the next attempt creates its own.
            columns |= {"out_of_memory": False, "result_version": None}
            _requeue(row, lease, message, BACK_OFF_S, **columns)
            abandon(row, Status.FAILED)
        elif row.crashes >= MAX_CRASHES:
            where = f"after iteration {row.checkpoint_iteration}"
            message = f"{reason} It crashed {where}, {row.crashes} times in a row."
            _end(row, lease, Status.FAILED, message)
        else:
            _requeue(row, lease, reason, BACK_OFF_S * 4 ** (row.crashes - 1))
    log.warning("job crashed", job=job.pk, reason=reason, crashes=row.crashes)


def cancelled(job: TrainingJob, lease: uuid.UUID) -> None:
    """running → cancelled, once its child has stopped. Raises LeaseLost."""
    with transaction.atomic():
        _end(_locked(job, lease), lease, Status.CANCELLED)


def attach_version(job: TrainingJob, lease: uuid.UUID, config: TrainingConfig) -> ModelVersion:
    """The job's version: created now, or by an earlier attempt. Raises LeaseLost."""
    if job.result_version is not None:
        return job.result_version
    with transaction.atomic():
        version = lifecycle.begin_version(
            job.model,
            job.dataset,
            config.model_dump(mode="json"),
            config.seed,
            number=job.version_number,
        )
        job.write_held(lease, result_version=version)
        job.result_version = version
        tracking.start_run(job, version)
    return version


def _locked(job: TrainingJob, lease: uuid.UUID) -> TrainingJob:
    row = TrainingJob.objects.held(job.pk, lease).select_for_update().first()
    if row is None:
        raise LeaseLost(f"Job {job.pk} is no longer held by lease {lease}.")
    return row


def _requeue(
    job: TrainingJob, lease: uuid.UUID, reason: str, delay_s: float, /, **columns: Any
) -> None:
    not_before = timezone.now() + datetime.timedelta(seconds=delay_s) if delay_s else None
    waiting = {"lease": None, "not_before": not_before, "iteration": job.resumes_at}
    job.leave_running(lease, Status.QUEUED, wait_reason=reason, **(waiting | columns))
    ring(delay_s)


def _end(job: TrainingJob, lease: uuid.UUID, status: TrainingJob.Status, message: str = "") -> None:
    job.leave_running(lease, status, error_message=message, wait_reason="", paused=False)
    abandon(job, status)


def abandon(job: TrainingJob, status: TrainingJob.Status) -> None:
    """The job ended without a result: mark its version as failed and finish its MLflow run."""
    if job.result_version is not None:
        lifecycle.fail_version(job.result_version)
    tracking.finish_run(job, status)
