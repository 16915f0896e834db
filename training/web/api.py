"""The JSON API of training: queue, watch, reorder, pause, cancel and retry jobs and sweeps."""

# No `from __future__ import annotations`: ninja resolves texts in the module of `paginate`, and fails.

from typing import Annotated

from django.db.models import QuerySet
from django.http import HttpRequest, StreamingHttpResponse
from ninja import Query, Router, Status
from ninja.pagination import paginate

from registry.errors import NotFound
from registry.models import Dataset, Model, ModelVersion
from registry.web.paging import LimitOffset
from training import queue
from training.attempt import reproduction
from training.memory import admission
from training.models import Sweep, TrainingJob, TrainingMetric, TrainingSample
from training.queue import sweeps
from training.web import events, overview
from training.web.schemas import (
    CloneIn,
    EstimateIn,
    EstimateOut,
    JobIn,
    JobOut,
    MetricOut,
    MoveIn,
    PriorityIn,
    SampleOut,
    SweepDetail,
    SweepIn,
    SweepOut,
)

_EVENTS = (
    "event: metrics\nid: 42-1764000000000000-0\n"
    'data: {"iteration":[42],"train_loss":[0.31],"val_loss":[null]}\n\n'
)

router = Router(tags=["training"])
versions_router = Router(tags=["versions"])


@router.post("/jobs", response={201: JobOut}, summary="Queue a fine-tuning job")
def create(request: HttpRequest, payload: JobIn) -> Status[TrainingJob]:
    """The worker runs queued jobs one at a time; watch `status` and `iteration`."""
    model, dataset = _model(payload.model_id), _dataset(payload.dataset_id)
    job = queue.enqueue(
        model,
        dataset,
        payload.config,
        payload.priority,
        version_number=payload.version_number,
    )
    return Status(201, _job(job.pk))


@router.post("/estimate", response=EstimateOut, summary="Estimate the memory of a run")
def estimate(request: HttpRequest, payload: EstimateIn) -> admission.Plan:
    """Corrected by measurements of similar earlier runs. Queues nothing."""
    model, dataset = _model(payload.model_id), _dataset(payload.dataset_id)
    return admission.foresee(model, dataset, payload.config)


@router.get("/jobs", response=list[JobOut], summary="Jobs, newest first")
@paginate(LimitOffset)
def jobs(
    request: HttpRequest,
    status: TrainingJob.Status | None = None,
    model_id: int | None = None,
    dataset_id: int | None = None,
) -> QuerySet[TrainingJob]:
    """Page with `limit` and `offset`; `count` is the total."""
    wanted = {"status": status, "model_id": model_id, "dataset_id": dataset_id}
    return _shown().filter(**{k: v for k, v in wanted.items() if v is not None})


@router.get("/jobs/{job_id}", response=JobOut, summary="One job")
def job(request: HttpRequest, job_id: int) -> TrainingJob:
    return _job(job_id)


@router.get("/jobs/{job_id}/metrics", response=list[MetricOut], summary="A job's metrics")
@paginate(LimitOffset)
def metrics(
    request: HttpRequest,
    job_id: int,
    after: Annotated[int, Query(description="Only iterations above this one")] = -1,
) -> QuerySet[TrainingMetric]:
    """By iteration. To follow a running job, repeat the request with `after` set to the last
    iteration you have. A job that resumes from a checkpoint measures the later iterations again."""
    return _job(job_id).metrics.filter(iteration__gt=after).order_by("iteration")


@router.post("/jobs/{job_id}/cancel", response=JobOut, summary="Cancel a job")
def cancel(request: HttpRequest, job_id: int) -> TrainingJob:
    """A queued job is cancelled at once, a running one at its next step. Its checkpoint is kept."""
    queue.cancel(_job(job_id))
    return _job(job_id)


@router.post("/jobs/{job_id}/pause", response=JobOut, summary="Pause a job")
def pause(request: HttpRequest, job_id: int) -> TrainingJob:
    """A queued job is held. A running one goes back to the queue at its next step, with a checkpoint.
    Either waits there until it is resumed."""
    queue.pause(_job(job_id))
    return _job(job_id)


@router.post("/jobs/{job_id}/resume", response=JobOut, summary="Resume a paused job")
def resume(request: HttpRequest, job_id: int) -> TrainingJob:
    queue.resume(_job(job_id))
    return _job(job_id)


@router.post("/jobs/{job_id}/move", response=JobOut, summary="Move a waiting job in the queue")
def move(request: HttpRequest, job_id: int, payload: MoveIn) -> TrainingJob:
    """Moved past jobs of another priority, it takes that priority."""
    queue.move(_job(job_id), payload.to)
    return _job(job_id)


@router.put("/jobs/{job_id}/priority", response=JobOut, summary="Change a waiting job's priority")
def prioritize(request: HttpRequest, job_id: int, payload: PriorityIn) -> TrainingJob:
    queue.prioritize(_job(job_id), payload.priority)
    return _job(job_id)


@router.post(
    "/jobs/{job_id}/clone", response={201: JobOut}, summary="Queue a copy of this job with changes"
)
def clone(request: HttpRequest, job_id: int, payload: CloneIn) -> Status[TrainingJob]:
    dataset = None if payload.dataset_id is None else _dataset(payload.dataset_id)
    copy = queue.clone(
        _job(job_id),
        payload.changes,
        dataset=dataset,
        priority=payload.priority,
        version_number=payload.version_number,
    )
    return Status(201, _job(copy.pk))


@router.post("/jobs/{job_id}/retry", response=JobOut, summary="Retry a failed or cancelled job")
def retry(request: HttpRequest, job_id: int) -> TrainingJob:
    """The job is queued again and continues from its checkpoint."""
    queue.retry(_job(job_id))
    return _job(job_id)


@versions_router.post(
    "/models/{int:model_id}/versions/{version}/reproduce",
    response={201: JobOut},
    summary="Train a version again",
)
def reproduce(request: HttpRequest, model_id: int, version: str) -> Status[TrainingJob]:
    """Queues a job that trains the version again from its lineage without creating a new one. When
    it finishes, the version's `reproduction` says bit-exact, close or diverged, and why."""
    found = ModelVersion.objects.filter(model_id=model_id, version=version)
    row = found.select_related("model", "base_model", "dataset").first()
    if row is None:
        raise NotFound(f"Model {model_id} has no version {version}.")
    return Status(201, _job(reproduction.enqueue(row).pk))


@router.post(
    "/jobs/{job_id}/retry-halved",
    response=JobOut,
    summary="Retry with half the batch size",
)
def retry_halved(request: HttpRequest, job_id: int) -> TrainingJob:
    """Works once, when `can_halve` is true: after a job failed because it ran out of memory. The
    batches per step are doubled, and the job starts from the beginning."""
    queue.retry_halved(_job(job_id))
    return _job(job_id)


@router.get("/jobs/{job_id}/samples", response=list[SampleOut], summary="Sample answers so far")
@paginate(LimitOffset)
def samples(request: HttpRequest, job_id: int) -> QuerySet[TrainingSample]:
    """Answers to validation prompts at each validation, when the job's `samples` is above 0."""
    return _job(job_id).samples.order_by("iteration", "line")


@router.get(
    "/jobs/{job_id}/events",
    summary="Follow a job (SSE)",
    openapi_extra={
        "responses": {
            200: {
                "description": "Server-sent events: status, progress, metrics…, sample…, end",
                "content": {"text/event-stream": {"example": _EVENTS}},
            }
        }
    },
)
async def follow(
    request: HttpRequest,
    job_id: int,
    after: Annotated[
        str, Query(description="An iteration or an event ID, like Last-Event-ID")
    ] = "",
) -> StreamingHttpResponse:
    """Events: `status`, `progress`, `metrics` (columns, a few iterations each), `sample` (shortened
    texts), `rewind` (iterations after this one are measured again) and, when the job has finished,
    `end`. Reconnect with `Last-Event-ID` to continue from there."""
    cursor = events.Cursor.parse(request.headers.get("Last-Event-ID") or after)
    frames = events.stream(job_id, cursor)
    return events.response(await anext(frames), frames)


@router.post("/sweeps", response={201: SweepDetail}, summary="Queue a grid of jobs")
def create_sweep(request: HttpRequest, payload: SweepIn) -> Status[Sweep]:
    """All combinations are checked before any job is queued."""
    sweep = sweeps.start(
        _model(payload.model_id),
        _dataset(payload.dataset_id),
        payload.config,
        payload.grid,
        name=payload.name,
        priority=payload.priority,
    )
    return Status(201, sweep)


@router.get("/sweeps", response=list[SweepOut], summary="Sweeps, newest first")
@paginate(LimitOffset)
def list_sweeps(request: HttpRequest, model_id: int | None = None) -> QuerySet[Sweep]:
    found = Sweep.objects.select_related("model", "dataset")
    return found if model_id is None else found.filter(model_id=model_id)


@router.get("/sweeps/{sweep_id}", response=SweepDetail, summary="Compare a sweep's jobs")
def sweep(request: HttpRequest, sweep_id: int) -> Sweep:
    return _sweep(sweep_id)


@router.post(
    "/sweeps/{sweep_id}/cancel", response=SweepDetail, summary="Cancel a sweep's unfinished jobs"
)
def cancel_sweep(request: HttpRequest, sweep_id: int) -> Sweep:
    found = _sweep(sweep_id)
    sweeps.cancel(found)
    return found


def _shown() -> QuerySet[TrainingJob]:
    return TrainingJob.objects.with_losses().select_related(
        "model", "dataset", "result_version", "reproduces__model"
    )


def _job(job_id: int) -> TrainingJob:
    found = _shown().filter(pk=job_id).first()
    if found is None:
        raise NotFound(f"There is no job {job_id}; GET /api/training/jobs lists them.")
    if found.status == TrainingJob.Status.QUEUED:
        found.place = overview.queue_positions().get(found.pk)  # type: ignore[attr-defined]
    return found


def _sweep(sweep_id: int) -> Sweep:
    found = Sweep.objects.select_related("model", "dataset").filter(pk=sweep_id).first()
    if found is None:
        raise NotFound(f"There is no sweep {sweep_id}; GET /api/training/sweeps lists them.")
    return found


def _model(model_id: int) -> Model:
    found = Model.objects.select_related("base_model").filter(pk=model_id).first()
    if found is None:
        raise NotFound(f"There is no model {model_id}; GET /api/models lists them.")
    return found


def _dataset(dataset_id: int) -> Dataset:
    found = Dataset.objects.filter(pk=dataset_id).first()
    if found is None:
        raise NotFound(f"There is no data set {dataset_id}; GET /api/datasets lists them.")
    return found
