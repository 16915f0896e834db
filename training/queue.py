"""The queue of training jobs: how a job enters it, leaves it, and what follows from that.

A job's row, its version and what MLflow will be told change in one transaction. The worker is
rung after the commit; a ring that is lost costs at most a minute (see `training.tasks`).
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Literal

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Max
from django.utils import timezone

from backends.base import TrainingConfig
from registry import versions
from registry.errors import Conflict
from registry.models import Dataset, Model, ModelVersion
from training import rules, tracking
from training.configs import with_changes
from training.models import LeaseLost, Sweep, TrainingJob

MAX_CRASHES = 3  # in a row without a new checkpoint between them
BACK_OFF_S = 2.0  # after the first crash; four times as long after the next

log = structlog.get_logger(__name__)
Status = TrainingJob.Status

Where = Literal["first", "up", "down", "last"]


def enqueue(
    model: Model,
    dataset: Dataset,
    config: TrainingConfig,
    priority: int = 0,
    *,
    reproduces: ModelVersion | None = None,
    sweep: Sweep | None = None,
    varied: Mapping[str, Any] | None = None,
    cloned_from: TrainingJob | None = None,
) -> TrainingJob:
    """Queue a fine-tuning of `model` on `dataset`, or of what `training.reproduction` asks for.

    Raises Invalid when it could not be trained.
    """
    rules.check(model, dataset, config)
    with transaction.atomic():
        job = TrainingJob.objects.create(
            model=model,
            dataset=dataset,
            reproduces=reproduces,
            config=config.model_dump(mode="json"),
            priority=priority,
            position=_last_position() + 1,
            sweep=sweep,
            varied=dict(varied or {}),
            cloned_from=cloned_from,
            correlation_id=_correlation_id(),
        )
        ring()
    log.info("job queued", job=job.pk, model=model.name, dataset=dataset.name)
    return job


def clone(
    job: TrainingJob,
    changes: Mapping[str, Any],
    *,
    dataset: Dataset | None = None,
    priority: int | None = None,
) -> TrainingJob:
    """Queue a new job like `job`, with the settings in `changes` (by dotted name) and perhaps
    other data. Raises Invalid when it could not be trained."""
    config = with_changes(job.training_config, changes)
    return enqueue(
        job.model,
        dataset or job.dataset,
        config,
        job.priority if priority is None else priority,
        cloned_from=job,
    )


def claim(admits: Callable[[TrainingJob], bool] = lambda job: True) -> TrainingJob | None:
    """The next due job that `admits`, running under a new lease; None when there is none or one
    runs."""
    return TrainingJob.objects.claim_next(settings.HEARTBEAT_TIMEOUT_S, admits)


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
            rows.update(
                status=Status.CANCELLED,
                completed_at=timezone.now(),
                wait_reason="",
                paused=False,
            )
            _abandon(row, Status.CANCELLED)
        else:
            rows.update(cancel_requested=True)
    job.refresh_from_db()
    return job


def pause(job: TrainingJob) -> TrainingJob:
    """Hold a queued job back; send a running one back to the queue at its next step, with its
    checkpoint. Raises Conflict when the job is over."""
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
    """Change a waiting job's place; beyond jobs of another priority it takes their priority.

    Raises Conflict when the job does not wait.
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
        _renumber(waiting, slots, moved)
    job.refresh_from_db()
    return job


def _renumber(order: list[TrainingJob], slots: list[int], moved: TrainingJob) -> None:
    """Write the order of all waiting jobs; `slots` are the positions they had."""
    place = order.index(moved)
    if place > 0:
        moved.priority = min(moved.priority, order[place - 1].priority)
    if place + 1 < len(order):
        moved.priority = max(moved.priority, order[place + 1].priority)
    last = min(slots) - 1
    for row, slot in zip(order, sorted(slots), strict=True):
        last = max(slot, last + 1)
        if row.position != last or row is moved:
            TrainingJob.objects.filter(pk=row.pk, status=Status.QUEUED).update(
                position=last, priority=row.priority
            )


def prioritize(job: TrainingJob, priority: int) -> TrainingJob:
    """Give a waiting job another priority, behind those that have it already. Raises Conflict."""
    with transaction.atomic():
        changed = TrainingJob.objects.filter(pk=job.pk, status=Status.QUEUED).update(
            priority=priority, position=_last_position() + 1
        )
    job.refresh_from_db()
    if not changed:
        raise Conflict(f"Job {job.pk} is {job.status}; only a waiting job's priority matters.")
    return job


def retry(job: TrainingJob) -> TrainingJob:
    """Queue a failed or cancelled job again; it goes on from its checkpoint, as a new version.

    Raises Conflict when the job is in another state.
    """
    return _retry(job, {})


def retry_halved(job: TrainingJob) -> TrainingJob:
    """Queue a job that ran out of memory again, with half the batch size and twice the batches per
    step. That is another run to the last byte, so it begins anew.

    Raises Conflict when the job did not fail for want of memory, or was halved before.
    """
    job.refresh_from_db()
    if not job.can_halve:
        raise Conflict(
            f"Job {job.pk} cannot be tried at half the batch size: that is offered once, after "
            "a job with a batch_size above 1 failed for want of memory, and never to one that "
            "trains a version again."
        )
    return _retry(job, halved(job))


def _retry(job: TrainingJob, changes: dict[str, Any]) -> TrainingJob:
    with transaction.atomic():
        retried = TrainingJob.objects.filter(
            pk=job.pk, status__in=[Status.FAILED, Status.CANCELLED]
        ).update(
            **{
                "status": Status.QUEUED,
                "position": _last_position() + 1,
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
        raise Conflict(f"Job {job.pk} is {job.status}; only failed or cancelled jobs are retried.")
    return job


def halved(job: TrainingJob) -> dict[str, Any]:
    """The columns of the job at half its batch size; the effective batch stays, or grows by less
    than a step's worth when the size was odd."""
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
            _abandon(job, Status.FAILED)
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
    _abandon(job, Status.FAILED)


def _end(job: TrainingJob, lease: uuid.UUID, status: Status, message: str = "") -> None:
    job.leave_running(lease, status, error_message=message, wait_reason="", paused=False)
    _abandon(job, status)


def _abandon(job: TrainingJob, status: Status) -> None:
    """The job ended without a result: its version has no files, and MLflow's run is over."""
    if job.result_version is not None:
        versions.fail_version(job.result_version)
    tracking.end(job, status)


def _last_position() -> int:
    alive = TrainingJob.objects.filter(status__in=[Status.QUEUED, Status.RUNNING])
    return alive.aggregate(last=Max("position"))["last"] or 0


def _correlation_id() -> str:
    bound = structlog.contextvars.get_contextvars()
    return str(bound.get("correlation_id") or bound.get("request_id") or uuid.uuid4().hex)[:64]
