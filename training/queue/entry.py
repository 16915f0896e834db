"""How a job gets into the queue, and how the worker takes it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Max

from backends.base import TrainingConfig
from registry import traces
from registry.models import Dataset, Model, ModelVersion
from registry.storage import paths
from training.config import rules
from training.config.changes import with_changes
from training.models import Sweep, TrainingJob
from training.queue.doorbell import ring

log = structlog.get_logger(__name__)
Status = TrainingJob.Status


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
    version_number: str = "",
) -> TrainingJob:
    """Queue a fine-tuning job of `model` on `dataset`; `reproduces` is the version to train again.

    The new version gets `version_number`, or the proposed number when training starts. Raises
    Invalid when the job could not be trained, Invalid or Conflict when the number is not available.
    """
    rules.check(model, dataset, config)
    if version_number:
        rules.check_number(model, version_number)
    context = structlog.contextvars.get_contextvars()
    correlation_id = context.get("correlation_id") or context.get("request_id") or uuid.uuid4().hex
    with transaction.atomic():
        job = TrainingJob.objects.create(
            model=model,
            dataset=dataset,
            reproduces=reproduces,
            config=config.model_dump(mode="json"),
            priority=priority,
            position=last_position() + 1,
            sweep=sweep,
            varied=dict(varied or {}),
            cloned_from=cloned_from,
            version_number=version_number,
            correlation_id=str(correlation_id)[:64],
            traceparent=traces.current(),
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
    version_number: str = "",
) -> TrainingJob:
    """Queue a new job like `job`, with the settings in `changes` (by dotted name) and optionally
    another data set. A version number chosen for the old job is not copied. Raises what `enqueue`
    raises."""
    config = with_changes(job.training_config, changes)
    return enqueue(
        job.model,
        dataset or job.dataset,
        config,
        job.priority if priority is None else priority,
        cloned_from=job,
        version_number=version_number,
    )


def claim(admits: Callable[[TrainingJob], bool] = lambda job: True) -> TrainingJob | None:
    """The next due job that `admits` accepts, now running under a new lease. None when no job is
    due or another one is running. One worker of a storage folder calls it."""
    mark = paths.training_mark()

    def admitted(job: TrainingJob) -> bool:
        if not admits(job):
            return False
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()  # before its row says that it runs: the engine looks for this first
        return True

    job = TrainingJob.objects.claim_next(settings.HEARTBEAT_TIMEOUT_S, admitted)
    if job is None and not TrainingJob.objects.running().exists():
        mark.unlink(missing_ok=True)
    return job


def last_position() -> int:
    """The highest position in the queue; a new job goes behind it."""
    alive = TrainingJob.objects.filter(status__in=[Status.QUEUED, Status.RUNNING])
    return alive.aggregate(last=Max("position"))["last"] or 0
