"""A job's MLflow updates: outbox entries, written in the job's own transactions."""

from __future__ import annotations

import json
from collections.abc import Sequence

from django.utils import timezone

from registry.mlflow import tracking
from registry.mlflow.tracking import Point
from registry.models import ModelVersion
from registry.storage import paths
from training.models import TrainingJob, TrainingMetric

Status = TrainingJob.Status

_KEYS = ("train_loss", "val_loss", "learning_rate", "grad_norm", "tokens_per_second")
_ENDINGS: dict[str, tracking.Status] = {
    Status.COMPLETED: "completed",
    Status.FAILED: "failed",
    Status.CANCELLED: "cancelled",
}


def start_run(job: TrainingJob, version: ModelVersion) -> None:
    """Start an MLflow run for the version that the job trains."""
    tracking.start_run(job.pk, version, tags={"hub.correlation_id": job.correlation_id})


def log_metrics(job: TrainingJob, rows: Sequence[TrainingMetric]) -> None:
    """Log what was measured at these iterations."""
    tracking.log_metrics(
        job.pk,
        [
            Point(key, value, row.iteration, row.created_at)
            for row in rows
            for key in _KEYS
            if (value := getattr(row, key)) is not None
        ],
    )


def finish_run(job: TrainingJob, status: TrainingJob.Status) -> None:
    """Finish the job's run, if it has one; a completed run gets the final metrics and the adapter."""
    version = job.result_version
    if version is None:
        return
    if status != Status.COMPLETED:
        tracking.finish_run(job.pk, _ENDINGS[status])
        return
    now = timezone.now()
    final = [Point(f"final_{k}", float(v), job.iteration, now) for k, v in version.metrics.items()]
    tracking.log_metrics(job.pk, final)
    for report in ("classes", "fields"):
        if found := version.evaluation.get(report):
            text = json.dumps(found, indent=1, ensure_ascii=False)
            tracking.log_text(job.pk, text, f"evaluation/{report}.json")
    tracking.finish_run(job.pk, _ENDINGS[status], paths.absolute(version.artifact_path))
