"""Sweeps: a grid of settings becomes jobs, and the jobs become one comparison."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import OuterRef, QuerySet, Subquery

from backends.base import TrainingConfig
from registry.errors import Conflict, Invalid
from registry.models import Dataset, Model
from training import queue
from training.config.changes import with_changes
from training.models import Sweep, TrainingJob, TrainingMetric

MAX_JOBS = 64

type Grid = Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class Compared:
    """One job of a sweep. `val_loss` is the newest and `best_val_loss` the lowest of the run; `best`
    marks the lowest of all jobs."""

    job: TrainingJob
    varied: dict[str, Any]
    metrics: dict[str, Any]  # of the finished version
    train_loss: float | None
    val_loss: float | None
    best_val_loss: float | None
    seconds: float | None  # from start to end
    best: bool


def start(
    model: Model,
    dataset: Dataset,
    config: TrainingConfig,
    grid: Grid,
    *,
    name: str = "",
    priority: int = 0,
) -> Sweep:
    """Queue a job for every combination of the grid's values; the grid's keys are dotted settings.

    Raises Invalid, and queues nothing, when a combination cannot be trained or there are more than
    MAX_JOBS.
    """
    grid_points = combinations(grid)
    configs = [with_changes(config, varied) for varied in grid_points]
    with transaction.atomic():
        sweep = Sweep.objects.create(
            name=name.strip()[:100] or " × ".join(grid)[:100],
            model=model,
            dataset=dataset,
            config=config.model_dump(mode="json"),
            grid={setting: list(values) for setting, values in grid.items()},
        )
        for varied, changed in zip(grid_points, configs, strict=True):
            queue.enqueue(model, dataset, changed, priority, sweep=sweep, varied=varied)
    return sweep


def cancel(sweep: Sweep) -> int:
    """Cancel the jobs that have not finished; returns how many."""
    count = 0
    for job in sweep.jobs.filter(status__in=["queued", "running"]):
        try:
            queue.cancel(job)
        except Conflict:  # it finished in the meantime
            continue
        count += 1
    return count


def compare(sweep: Sweep) -> list[Compared]:
    """The sweep's jobs in the grid's order, each with its settings and results."""
    jobs: QuerySet[TrainingJob] = (
        sweep.jobs.with_losses()
        .select_related("model", "dataset", "result_version")
        .order_by("created_at", "pk")
    )
    lowest_first = TrainingMetric.objects.filter(job=OuterRef("pk"), val_loss__isnull=False)
    jobs = jobs.annotate(
        best_val_loss=Subquery(lowest_first.order_by("val_loss").values("val_loss")[:1])
    )
    rows = [(job, getattr(job, "best_val_loss", None)) for job in jobs]
    lowest = min((best for _, best in rows if best is not None), default=None)
    return [
        Compared(
            job=job,
            varied=job.varied,
            metrics=job.result_version.metrics if job.result_version else {},
            train_loss=getattr(job, "train_loss", None),
            val_loss=getattr(job, "val_loss", None),
            best_val_loss=best,
            seconds=(job.completed_at - job.started_at).total_seconds()
            if job.started_at and job.completed_at
            else None,
            best=best is not None and best == lowest,
        )
        for job, best in rows
    ]


def combinations(grid: Grid) -> list[dict[str, Any]]:
    """The varied settings of each job. Raises Invalid when the grid is empty or too large, or
    repeats a value."""
    if not grid:
        raise Invalid('A sweep needs settings to vary, such as {"lora.rank": [8, 16]}.')
    for setting, values in grid.items():
        if isinstance(values, str) or not isinstance(values, Sequence) or not values:
            raise Invalid(f"{setting}: give a list of values to try.")
        if any(values.count(value) > 1 for value in values):
            raise Invalid(f"{setting}: a value is listed twice; list each value once.")
    count = 1
    for values in grid.values():
        count *= len(values)
    if count > MAX_JOBS:
        raise Invalid(
            f"The grid has {count} combinations; the limit is {MAX_JOBS}. Try fewer values."
        )
    return [dict(zip(grid, chosen, strict=True)) for chosen in itertools.product(*grid.values())]
