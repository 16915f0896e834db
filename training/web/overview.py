"""What the pages show about jobs: queue order, current situation, curves, samples, log."""

from __future__ import annotations

import itertools
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone

from registry.models import Model
from registry.versions import curves
from training.models import STARTING, TrainingJob, TrainingSample

MAX_RUNS = 8  # more curves cannot be distinguished in one chart
_SHOWN_WAITING = 50
_SLOW_START_S = 20
_STAGES = {
    "starting": "Starting…",
    "verifying": "Verifying the checksums of the base model and the data set.",
    "preparing": "Loading the base model and the data set.",
    "tokenizing": "Tokenizing the data set, once: the next run on it finds the tokens.",
    "evaluating": "Measuring the loss on held-out examples.",
    "publishing": "Saving the new version.",
}


def find_jobs(status: str = "", model: str = "") -> QuerySet[TrainingJob]:
    """Jobs with their model, data set and version, newest first. Without a status: finished jobs.
    `model` is a full name."""
    jobs = (
        TrainingJob.objects.with_losses()
        .select_related("model", "dataset", "result_version", "reproduces")
        .only(
            *(field.name for field in TrainingJob._meta.concrete_fields),
            *("model__name", "dataset__name", "dataset__revision"),
            *("result_version__version", "reproduces__version"),
        )
    )
    # `exclude`, because SQLite would serve "status in (finished…)" from an index by status, and sort.
    unfinished = (TrainingJob.Status.QUEUED, TrainingJob.Status.RUNNING)
    jobs = jobs.filter(status=status) if status else jobs.exclude(status__in=unfinished)
    if model:
        named = Model.objects.filter(name__iexact=model).values_list("pk", flat=True)
        jobs = jobs.filter(model__in=list(named))
    return jobs.order_by("-created_at", "-pk")


def queue() -> tuple[TrainingJob | None, list[TrainingJob], int]:
    """The running job, the first waiting jobs in order, and how many wait in total."""
    shown = TrainingJob.objects.select_related("model", "dataset").defer(
        "dataset__schema", "dataset__token_stats", "dataset__changes", "model__card_notes"
    )
    waiting = list(shown.waiting()[: _SHOWN_WAITING + 1])
    count = len(waiting)
    if count > _SHOWN_WAITING:
        count = TrainingJob.objects.waiting().count()
    return shown.running().first(), waiting[:_SHOWN_WAITING], count


def queue_positions() -> dict[int, int]:
    """Queue position of each waiting job by id; 1 runs next. Same order as the worker's."""
    order = TrainingJob.objects.waiting().values_list("pk", flat=True)
    return {pk: place for place, pk in enumerate(order, start=1)}


def place_of(job: TrainingJob) -> int | None:
    """The job's queue position, from 1; None when it is not waiting."""
    return queue_positions().get(job.pk) if job.status == TrainingJob.Status.QUEUED else None


def situation(job: TrainingJob, place: int | None) -> str:
    """What the job is doing or waiting for, as a sentence; empty while it simply trains and when it
    has finished."""
    if job.is_over:
        return ""
    if job.status == TrainingJob.Status.QUEUED:
        if job.paused:
            start = f"from step {job.checkpoint_iteration} " if job.checkpoint_iteration else ""
            return f"Paused. After you resume it, it continues {start}when its turn comes."
        position = "Next in the queue." if place in (None, 1) else f"Number {place} in the queue."
        return f"{position} {job.wait_reason}".strip()
    if job.cancel_requested:
        return "Stopping at the next step; the checkpoint is kept."
    if job.is_pausing:
        return "Pausing at the next step, with a checkpoint."
    if job.yielding:
        return f"Paused for now: {job.yielding.rstrip('.')}."
    if job.stage == STARTING and job.stage_since:
        took = (timezone.now() - job.stage_since).total_seconds()
        if took > _SLOW_START_S:
            return f"Starting for {took:.0f} s: the machine is busy. That is no problem."
    stage = job.stage.split(" ")[0]
    if stage == "scoring" and job.result_version:
        return (
            f"Version {job.result_version.version} is ready: try it while its answers to the test "
            "examples are scored. To cancel ends only the scoring."
        )
    return _STAGES.get(stage, "")


def curve(job: TrainingJob, first: int = 0, last: int | None = None) -> dict[str, Any]:
    """Columns for charts from iteration `first` to `last`, the best validation, at which steps
    checkpoints were saved, and whether the job has finished."""
    return {
        **curves.curve(job, first, last),
        "best": curves.best(job),
        "checkpoints": {
            "every": job.config.get("save_every", 0),
            "last": job.checkpoint_iteration or 0,
        },
        "over": job.is_over,
    }


def evaluations(job: TrainingJob, most: int = 12) -> list[dict[str, Any]]:
    """The last validations with their other metrics, and which one is the best so far."""
    rows = job.metrics.filter(val_loss__isnull=False).order_by("-iteration").values()[:most]
    best = curves.best(job) or {}
    return [{**row, "best": row["val_loss"] == best.get("val_loss")} for row in reversed(rows)]


def samples(job: TrainingJob) -> list[tuple[TrainingSample, list[TrainingSample]]]:
    """For each validation prompt: the newest answer, and the earlier ones, newest first."""
    rows = job.samples.order_by("line", "-iteration")
    grouped = [list(group) for _, group in itertools.groupby(rows, key=lambda row: row.line)]
    return [(newest, earlier) for newest, *earlier in grouped]


def comparable(job: TrainingJob, most: int = 30) -> QuerySet[TrainingJob]:
    """Other jobs of the model whose curves can be compared with this one's, newest first."""
    others = TrainingJob.objects.filter(model=job.model_id, iteration__gt=0).exclude(pk=job.pk)
    shown = others.select_related("result_version").only(
        *("status", "iteration", "sweep", "varied", "created_at", "result_version__version")
    )
    return shown.order_by("-created_at", "-pk")[:most]
