"""What becomes of a job that runs: completed, failed, cancelled, or back in the line."""

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
from training.models import LeaseLost, TrainingJob
from training.queue import tracking
from training.queue.doorbell import ring
from training.queue.retries import halved

MAX_CRASHES = 3  # in a row without a new checkpoint between them
BACK_OFF_S = 2.0  # after the first crash; four times as long after the next

log = structlog.get_logger(__name__)
Status = TrainingJob.Status


def complete(job: TrainingJob, lease: uuid.UUID) -> None:
    """running → completed; its version is ready. Safe to repeat. Raises LeaseLost."""
    try:
        with transaction.atomic():
            row = _locked(job, lease)
            row.leave_running(lease, Status.COMPLETED, wait_reason="", paused=False)
            tracking.end(row, Status.COMPLETED)
    except LeaseLost:
        # The answer to an earlier commit may have been lost with the connection.
        if not TrainingJob.objects.filter(pk=job.pk, lease=lease, status=Status.COMPLETED).exists():
            raise


def fail(job: TrainingJob, lease: uuid.UUID, message: str) -> None:
    """running → failed, for a reason that another attempt would meet again. Raises LeaseLost."""
    with transaction.atomic():
        _end(_locked(job, lease), lease, Status.FAILED, message)


def refuse(job: TrainingJob, message: str) -> None:
    """queued → failed, for a reason that waiting will not cure."""
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
    """running → queued, to go on from the checkpoint; cancelled if that was asked for.

    Raises LeaseLost.
    """
    with transaction.atomic():
        row = _locked(job, lease)
        if row.cancel_requested:
            _end(row, lease, Status.CANCELLED)
        else:
            _put_back(row, lease, reason, delay_s)


def crashed(
    job: TrainingJob, lease: uuid.UUID, reason: str, *, out_of_memory: bool = False
) -> None:
    """An attempt died: try again after a back-off, or fail when it dies at the same place again.

    A job that keeps running out of memory goes on once with half its batch size, unless that is
    left to people (HUB_HALVE_BATCH_SIZE). `reason` is a sentence. Raises LeaseLost.
    """
    with transaction.atomic():
        row = _locked(job, lease)
        row.crashes += 1
        again_out_of_memory = out_of_memory and row.out_of_memory
        row.out_of_memory = out_of_memory
        row.write_held(lease, crashes=row.crashes, out_of_memory=out_of_memory)
        if row.cancel_requested:
            _end(row, lease, Status.CANCELLED)
        elif settings.HALVE_BATCH_SIZE and again_out_of_memory and row.may_halve:
            _put_back_halved(row, lease, reason)
        elif row.crashes >= MAX_CRASHES:
            place = f"after iteration {row.checkpoint_iteration}, {row.crashes} times in a row"
            _end(row, lease, Status.FAILED, f"{reason} It stopped {place}.")
        else:
            _put_back(row, lease, reason, BACK_OFF_S * 4 ** (row.crashes - 1))
    log.warning("job crashed", job=job.pk, reason=reason, crashes=row.crashes)


def cancelled(job: TrainingJob, lease: uuid.UUID) -> None:
    """running → cancelled, once its child has stopped. Raises LeaseLost."""
    with transaction.atomic():
        _end(_locked(job, lease), lease, Status.CANCELLED)


def attach_version(job: TrainingJob, lease: uuid.UUID, config: TrainingConfig) -> ModelVersion:
    """The version that the job makes: begun now, or by an earlier attempt. Raises LeaseLost."""
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
        tracking.begin(job, version)
    return version


def _locked(job: TrainingJob, lease: uuid.UUID) -> TrainingJob:
    row = TrainingJob.objects.held(job.pk, lease).select_for_update().first()
    if row is None:
        raise LeaseLost(f"Job {job.pk} is no longer held by lease {lease}.")
    return row


def _put_back(
    job: TrainingJob, lease: uuid.UUID, reason: str, delay_s: float, /, **columns: Any
) -> None:
    not_before = timezone.now() + datetime.timedelta(seconds=delay_s) if delay_s else None
    job.leave_running(
        lease,
        Status.QUEUED,
        lease=None,
        wait_reason=reason,
        not_before=not_before,
        **columns,
    )
    ring(delay_s)


def _put_back_halved(job: TrainingJob, lease: uuid.UUID, reason: str) -> None:
    """Its version was begun with other parameters; the next attempt begins one of its own."""
    columns = halved(job)
    size, steps = (columns["config"][k] for k in ("batch_size", "grad_accumulation_steps"))
    said = (
        f"{reason} It begins anew with batch_size {size} instead of {columns['batch_size_before']} "
        f"and grad_accumulation_steps {steps}: checkpoints of the larger batch do not fit."
    )
    _put_back(job, lease, said, BACK_OFF_S, out_of_memory=False, result_version=None, **columns)
    abandon(job, Status.FAILED)


def _end(job: TrainingJob, lease: uuid.UUID, status: TrainingJob.Status, message: str = "") -> None:
    job.leave_running(lease, status, error_message=message, wait_reason="", paused=False)
    abandon(job, status)


def abandon(job: TrainingJob, status: TrainingJob.Status) -> None:
    """The job ended without a result: its version has no files, and MLflow's run is over."""
    if job.result_version is not None:
        lifecycle.fail_version(job.result_version)
    tracking.end(job, status)
