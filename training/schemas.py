"""What the training API takes and gives."""

from __future__ import annotations

import datetime
from typing import Annotated, Any

from ninja import Schema
from pydantic import BaseModel, ConfigDict, Field

from backends.base import TrainingConfig
from training.models import TrainingJob

_TIME = "2026-11-20T14:05:09Z"
_CONFIG: dict[str, Any] = {
    "iters": 100,
    "batch_size": 4,
    "learning_rate": 2e-4,
    "lora": {"rank": 8},
}
_JOB: dict[str, Any] = {
    "id": 1,
    "model_id": 1,
    "model": "calendar",
    "dataset_id": 1,
    "dataset": "calendar-requests",
    "status": "running",
    "stage": "training",
    "priority": 0,
    "config": TrainingConfig.model_validate(_CONFIG).model_dump(mode="json"),
    "attempt": 1,
    "iteration": 42,
    "progress": 0.42,
    "seconds_left": 31.5,
    "checkpoint_iteration": 25,
    "train_loss": 0.31,
    "val_loss": 0.64,
    "tokens_per_second": 117.4,
    "peak_memory_bytes": 1_400_000_000,
    "memory_estimate_bytes": 1_600_000_000,
    "cancel_requested": False,
    "wait_reason": "",
    "error_message": "",
    "reproduces": None,
    "version": "0.1.0",
    "version_status": "training",
    "metrics": {},
    "correlation_id": "8b1c4f0e5a1d4a5b9a7d0c7c3f1f2e11",
    "created_at": _TIME,
    "started_at": _TIME,
    "completed_at": None,
}
_METRIC: dict[str, Any] = {
    "iteration": 42,
    "train_loss": 0.31,
    "val_loss": None,
    "learning_rate": 1.4e-4,
    "grad_norm": 0.8,
    "tokens_per_second": 117.4,
    "peak_memory_bytes": 1_400_000_000,
    "created_at": _TIME,
}


class JobIn(BaseModel):
    """A job to queue. What `config` leaves out takes its default."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"model_id": 1, "dataset_id": 1, "config": _CONFIG}]},
    )

    model_id: int
    dataset_id: int
    config: TrainingConfig = TrainingConfig()
    priority: Annotated[int, Field(ge=-1000, le=1000, description="Higher runs first")] = 0


class JobOut(Schema):
    model_config = ConfigDict(from_attributes=True, json_schema_extra={"examples": [_JOB]})

    id: int
    model_id: int
    model: Annotated[str, Field(alias="model.name")]
    dataset_id: int
    dataset: Annotated[str, Field(alias="dataset.name")]
    status: TrainingJob.Status
    stage: Annotated[str, Field(description="What a running job is doing")]
    priority: int
    config: dict[str, Any]
    attempt: int
    iteration: int
    progress: Annotated[float, Field(description="Share of the iterations done, 0 to 1")]
    seconds_left: Annotated[float | None, Field(description="Estimate while training")]
    checkpoint_iteration: int
    train_loss: Annotated[float | None, Field(description="Newest measured")]
    val_loss: Annotated[float | None, Field(description="Newest measured")]
    tokens_per_second: float | None
    peak_memory_bytes: int | None
    memory_estimate_bytes: int | None
    cancel_requested: bool
    wait_reason: str
    error_message: str
    reproduces: Annotated[
        str | None, Field(description="The version that is trained again; then none is made")
    ]
    version: Annotated[str | None, Field(description="The version that the job makes")]
    version_status: str | None
    metrics: Annotated[dict[str, Any], Field(description="The finished version's")]
    correlation_id: str
    created_at: datetime.datetime
    started_at: datetime.datetime | None
    completed_at: datetime.datetime | None

    @staticmethod
    def resolve_reproduces(job: TrainingJob) -> str | None:
        return str(job.reproduces) if job.reproduces else None

    @staticmethod
    def resolve_version(job: TrainingJob) -> str | None:
        return job.result_version.version if job.result_version else None

    @staticmethod
    def resolve_version_status(job: TrainingJob) -> str | None:
        return job.result_version.status if job.result_version else None

    @staticmethod
    def resolve_metrics(job: TrainingJob) -> dict[str, Any]:
        return job.result_version.metrics if job.result_version else {}


class MetricOut(Schema):
    model_config = ConfigDict(from_attributes=True, json_schema_extra={"examples": [_METRIC]})

    iteration: int
    train_loss: float | None
    val_loss: float | None
    learning_rate: float | None
    grad_norm: float | None
    tokens_per_second: float | None
    peak_memory_bytes: int | None
    created_at: datetime.datetime
