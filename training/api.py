"""Training over JSON: queue a job, watch it, cancel it, try it again."""

# No `from __future__ import annotations`: ninja resolves texts in the module of `paginate`, and fails.

from typing import Annotated

from django.db.models import QuerySet
from django.http import HttpRequest
from ninja import Query, Router, Status
from ninja.pagination import paginate

from registry.errors import NotFound
from registry.models import Dataset, Model
from registry.paging import LimitOffset
from training import queue
from training.models import TrainingJob, TrainingMetric
from training.schemas import JobIn, JobOut, MetricOut

router = Router(tags=["training"])


@router.post("/jobs", response={201: JobOut}, summary="Queue a fine-tuning job")
def create(request: HttpRequest, payload: JobIn) -> Status[TrainingJob]:
    """The worker runs queued jobs one at a time; watch `status` and `iteration`."""
    model = Model.objects.filter(pk=payload.model_id).first()
    if model is None:
        raise NotFound(f"There is no model {payload.model_id}; GET /api/models lists them.")
    dataset = Dataset.objects.filter(pk=payload.dataset_id).first()
    if dataset is None:
        raise NotFound(f"There is no data set {payload.dataset_id}; GET /api/datasets lists them.")
    job = queue.enqueue(model, dataset, payload.config, payload.priority)
    return Status(201, _job(job.pk))


@router.get("/jobs", response=list[JobOut], summary="Jobs, newest first")
@paginate(LimitOffset)
def jobs(
    request: HttpRequest,
    status: TrainingJob.Status | None = None,
    model_id: int | None = None,
    dataset_id: int | None = None,
) -> QuerySet[TrainingJob]:
    """Page with `limit` and `offset`; `count` is how many there are."""
    wanted = {"status": status, "model_id": model_id, "dataset_id": dataset_id}
    return _shown().filter(**{k: v for k, v in wanted.items() if v is not None})


@router.get("/jobs/{job_id}", response=JobOut, summary="One job")
def job(request: HttpRequest, job_id: int) -> TrainingJob:
    return _job(job_id)


@router.get("/jobs/{job_id}/metrics", response=list[MetricOut], summary="What was measured")
@paginate(LimitOffset)
def metrics(
    request: HttpRequest,
    job_id: int,
    after: Annotated[int, Query(description="Only iterations above this one")] = -1,
) -> QuerySet[TrainingMetric]:
    """By iteration. To follow a running job, ask again with `after` the last one you have; a job
    that resumes from a checkpoint measures what came after it anew."""
    return _job(job_id).metrics.filter(iteration__gt=after).order_by("iteration")


@router.post("/jobs/{job_id}/cancel", response=JobOut, summary="Cancel a job")
def cancel(request: HttpRequest, job_id: int) -> TrainingJob:
    """A queued job is cancelled at once, a running one at its next step; its checkpoint is kept."""
    queue.cancel(_job(job_id))
    return _job(job_id)


@router.post("/jobs/{job_id}/retry", response=JobOut, summary="Try a failed job again")
def retry(request: HttpRequest, job_id: int) -> TrainingJob:
    """A failed or cancelled job is queued again and goes on from its checkpoint."""
    queue.retry(_job(job_id))
    return _job(job_id)


def _shown() -> QuerySet[TrainingJob]:
    return TrainingJob.objects.with_losses().select_related("model", "dataset", "result_version")


def _job(job_id: int) -> TrainingJob:
    found = _shown().filter(pk=job_id).first()
    if found is None:
        raise NotFound(f"There is no job {job_id}; GET /api/training/jobs lists them.")
    return found
