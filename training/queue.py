"""The queue of training jobs: how a job enters it, leaves it, and what follows from that.

A job's row, its version and what MLflow will be told change in one transaction. The worker is
rung after the commit; a ring that is lost costs at most a minute (see `training.tasks`).
"""

from __future__ import annotations

import datetime
import uuid

import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from backends.base import TrainingConfig
from registry import versions
from registry.errors import Conflict, Invalid
from registry.models import Dataset, Model, ModelVersion
from training import scoring, tracking
from training.models import LeaseLost, TrainingJob

MAX_CRASHES = 3  # in a row without a new checkpoint between them
BACK_OFF_S = 2.0  # after the first crash; four times as long after the next

log = structlog.get_logger(__name__)
Status = TrainingJob.Status


def enqueue(
    model: Model,
    dataset: Dataset,
    config: TrainingConfig,
    priority: int = 0,
    reproduces: ModelVersion | None = None,
) -> TrainingJob:
    """Queue a fine-tuning of `model` on `dataset`, or of what `training.reproduction` asks for.

    Raises Invalid when it could not be trained.
    """
    if model.archived_at is not None:
        raise Invalid(f"Model {model.name} is archived; restore it before you train it.")
    if dataset.format == Dataset.Format.PREFERENCE:
        raise Invalid(
            f"Data set {dataset.name} holds preferences (chosen and rejected answers), which LoRA "
            "fine-tuning cannot learn from; choose one of chats, completions, tool calls or text."
        )
    examples = int(dataset.splits.get("train", 0))
    if examples < config.batch_size:
        raise Invalid(
            f"Data set {dataset.name} has {examples} training examples, fewer than batch_size "
            f"{config.batch_size}; lower batch_size or add examples."
        )
    scoring.check(config.scoring)
    with transaction.atomic():
        job = TrainingJob.objects.create(
            model=model,
            dataset=dataset,
            reproduces=reproduces,
            config=config.model_dump(mode="json"),
            priority=priority,
            correlation_id=_correlation_id(),
        )
        ring()
    log.info("job queued", job=job.pk, model=model.name, dataset=dataset.name)
    return job


def claim() -> TrainingJob | None:
    """The next due job, running under a new lease; None when there is none or one runs."""
    return TrainingJob.objects.claim_next(settings.HEARTBEAT_TIMEOUT_S)


def ring(delay_s: float = 0.0) -> None:
    """Wake the worker after the commit, or `delay_s` later. Never fails: a minute's tick follows."""
    from training.tasks import doorbell  # tasks → supervisor → queue

    # 0.1 s beyond the back-off, so that the job is due for certain when the bell rings.
    chime = (lambda: doorbell.schedule(delay=delay_s + 0.1)) if delay_s else doorbell
    transaction.on_commit(chime, robust=True)


def cancel(job: TrainingJob) -> TrainingJob:
    """Cancel a queued job at once, a running one at its next step; the checkpoint is kept.

    Raises Conflict when the job is over already.
    """
    with transaction.atomic():
        row = TrainingJob.objects.select_for_update().get(pk=job.pk)
        if row.is_over:
            raise Conflict(f"Job {job.pk} is {row.status} already; there is nothing to cancel.")
        rows = TrainingJob.objects.filter(pk=job.pk, status=row.status)
        if row.status == Status.QUEUED:
            rows.update(status=Status.CANCELLED, completed_at=timezone.now(), wait_reason="")
            _abandon(row, Status.CANCELLED)
        else:
            rows.update(cancel_requested=True)
    job.refresh_from_db()
    return job


def retry(job: TrainingJob) -> TrainingJob:
    """Queue a failed or cancelled job again; it goes on from its checkpoint, as a new version.

    Raises Conflict when the job is in another state.
    """
    with transaction.atomic():
        retried = TrainingJob.objects.filter(
            pk=job.pk, status__in=[Status.FAILED, Status.CANCELLED]
        ).update(
            status=Status.QUEUED,
            completed_at=None,
            error_message="",
            wait_reason="",
            cancel_requested=False,
            crashes=0,
            not_before=None,
            lease=None,
            result_version=None,
        )
        ring()
    job.refresh_from_db()
    if not retried:
        raise Conflict(f"Job {job.pk} is {job.status}; only failed or cancelled jobs are retried.")
    return job


def complete(job: TrainingJob, lease: uuid.UUID) -> None:
    """running → completed; its version is ready. Safe to repeat. Raises LeaseLost."""
    try:
        with transaction.atomic():
            row = _locked(job, lease)
            row.leave_running(lease, Status.COMPLETED, wait_reason="")
            tracking.end(row, Status.COMPLETED)
    except LeaseLost:
        # The answer to an earlier commit may have been lost with the connection.
        if not TrainingJob.objects.filter(pk=job.pk, lease=lease, status=Status.COMPLETED).exists():
            raise


def fail(job: TrainingJob, lease: uuid.UUID, message: str) -> None:
    """running → failed, for a reason that another attempt would meet again. Raises LeaseLost."""
    with transaction.atomic():
        _end(_locked(job, lease), lease, Status.FAILED, message)


def requeue(job: TrainingJob, lease: uuid.UUID, reason: str, delay_s: float = 0.0) -> None:
    """running → queued, to go on from the checkpoint; cancelled if that was asked for.

    Raises LeaseLost.
    """
    with transaction.atomic():
        row = _locked(job, lease)
        if row.cancel_requested:
            _end(row, lease, Status.CANCELLED)
        else:
            _put_back(row, lease, reason, delay_s, row.crashes)


def crashed(job: TrainingJob, lease: uuid.UUID, reason: str) -> None:
    """An attempt died: try again after a back-off, or fail when it dies at the same place again.

    `reason` is a sentence. Raises LeaseLost.
    """
    with transaction.atomic():
        row = _locked(job, lease)
        crashes = row.crashes + 1
        if row.cancel_requested:
            _end(row, lease, Status.CANCELLED)
        elif crashes >= MAX_CRASHES:
            place = f"after iteration {row.checkpoint_iteration}, {crashes} times in a row"
            _end(row, lease, Status.FAILED, f"{reason} It stopped {place}.")
        else:
            _put_back(row, lease, reason, BACK_OFF_S * 4 ** (crashes - 1), crashes)
    log.warning("job crashed", job=job.pk, reason=reason, crashes=crashes)


def cancelled(job: TrainingJob, lease: uuid.UUID) -> None:
    """running → cancelled, once its child has stopped. Raises LeaseLost."""
    with transaction.atomic():
        _end(_locked(job, lease), lease, Status.CANCELLED)


def attach_version(job: TrainingJob, lease: uuid.UUID, config: TrainingConfig) -> ModelVersion:
    """The version that the job makes: begun now, or by an earlier attempt. Raises LeaseLost."""
    if job.result_version is not None:
        return job.result_version
    with transaction.atomic():
        version = versions.begin_version(
            job.model, job.dataset, config.model_dump(mode="json"), config.seed
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
    job: TrainingJob, lease: uuid.UUID, reason: str, delay_s: float, crashes: int
) -> None:
    not_before = timezone.now() + datetime.timedelta(seconds=delay_s) if delay_s else None
    job.leave_running(
        lease,
        Status.QUEUED,
        lease=None,
        wait_reason=reason,
        not_before=not_before,
        crashes=crashes,
    )
    ring(delay_s)


def _end(job: TrainingJob, lease: uuid.UUID, status: Status, message: str = "") -> None:
    job.leave_running(lease, status, error_message=message, wait_reason="")
    _abandon(job, status)


def _abandon(job: TrainingJob, status: Status) -> None:
    """The job ended without a result: its version has no files, and MLflow's run is over."""
    if job.result_version is not None:
        versions.fail_version(job.result_version)
    tracking.end(job, status)


def _correlation_id() -> str:
    bound = structlog.contextvars.get_contextvars()
    return str(bound.get("correlation_id") or bound.get("request_id") or uuid.uuid4().hex)[:64]
