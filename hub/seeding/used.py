"""Made-up jobs, metrics and requests."""

from __future__ import annotations

import datetime
import math
from typing import Any

from backends.base import TrainingConfig
from hub.seeding.bulk import first_pk, insert
from hub.seeding.plan import Seeding, digest
from inference.models import InferenceRequest
from registry.models import (
    Model,
    ModelVersion,
)
from training.models import TrainingJob, TrainingMetric


def jobs(run: Seeding) -> None:
    """One job for each version, and a few waiting jobs."""
    first = first_pk(TrainingJob)
    versions = (
        ModelVersion.objects.filter(job=None, dataset__isnull=False)
        .exclude(status=ModelVersion.Status.TRAINING)
        .order_by("pk")
        .values_list("pk", "model_id", "dataset_id", "status", "created_at", "params")
    )
    made: list[tuple[Any, ...]] = list(versions)
    run.job_pks = list(range(first, first + len(made)))
    insert(TrainingJob, map(_ended_job, run.job_pks, made))
    config = TrainingConfig().model_dump(mode="json")
    waiting = (
        TrainingJob(
            pk=first + len(made) + index,
            model_id=row[1],
            dataset_id=row[2],
            config=config,
            created_at=run.moment(1),
        )
        for index, row in enumerate(made[:20])
    )
    insert(TrainingJob, waiting)


def _ended_job(pk: int, version: tuple[Any, ...]) -> TrainingJob:
    version_pk, model_pk, dataset_pk, status, ended, params = version
    failed = status == "failed"
    return TrainingJob(
        pk=pk,
        model_id=model_pk,
        dataset_id=dataset_pk,
        status="failed" if failed else "completed",
        config=params,
        created_at=ended - datetime.timedelta(minutes=9),
        started_at=ended - datetime.timedelta(minutes=8),
        completed_at=ended,
        error_message="The loss became NaN; lower the learning rate and retry." if failed else "",
        attempt=1,
        iteration=params["iters"],
        tokens_per_second=512.0,
        result_version_id=version_pk,
    )


def metrics(run: Seeding) -> None:
    """A fifth of them in every thousandth job, the rest evenly over all jobs."""
    if not run.job_pks:
        return
    long = run.job_pks[::1000]
    many = run.scale.metrics // 5
    counts = dict.fromkeys(run.job_pks, 0)
    for pks, total in ((long, many), (run.job_pks, run.scale.metrics - many)):
        each, left = divmod(total, len(pks))
        for index, pk in enumerate(pks):
            counts[pk] += each + (index < left)
    rows = (
        TrainingMetric(
            job_id=pk,
            iteration=step,
            train_loss=2.4 * math.exp(-step / 18) + 0.02,
            val_loss=2.5 * math.exp(-step / 18) + 0.03 if step % 5 == 1 else None,
            tokens_per_second=512.0,
            created_at=run.start,
        )
        for pk, count in counts.items()
        for step in range(1, count + 1)
    )
    insert(TrainingMetric, rows)


def requests(run: Seeding) -> None:
    if not run.ready:
        return
    names = dict(Model.objects.values_list("pk", "name"))
    first = first_pk(InferenceRequest)
    rows = (
        InferenceRequest(
            pk=first + index,
            request_id=digest("request", first + index)[:32],
            api=run.noise.choice(InferenceRequest.Api.values),
            status=run.noise.choices(("completed", "cancelled", "failed"), (95, 3, 2))[0],
            requested_model=f"{names[model_pk]}@{number}",
            version_id=version_pk,
            prompt_tokens=run.noise.randrange(20, 400),
            completion_tokens=run.noise.randrange(5, 200),
            queue_ms=0.4,
            first_token_ms=run.noise.uniform(50, 300),
            total_ms=run.noise.uniform(400, 2000),
            tokens_per_second=run.noise.uniform(20, 40),
            finish_reason="stop",
            created_at=run.moment(index / run.scale.requests),
        )
        for index in range(run.scale.requests)
        for model_pk, version_pk, number in (run.noise.choice(run.ready),)
    )
    insert(InferenceRequest, rows)
