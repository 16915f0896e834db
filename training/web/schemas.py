"""Requests and responses of the training API."""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal

from ninja import Schema
from pydantic import BaseModel, ConfigDict, Field

from backends.base import TrainingConfig
from training.models import Sweep, TrainingJob
from training.queue import Where, sweeps

_TIME = "2026-11-20T14:05:09Z"
_CONFIG: dict[str, Any] = {
    "iters": 100,
    "batch_size": 4,
    "learning_rate": 2e-4,
    "lora": {"rank": 8},
}
_NUMBER_HELP = "Number of the new version; empty uses the proposed number"
_JOB: dict[str, Any] = {
    "id": 1,
    "model_id": 1,
    "model": "calendar",
    "dataset_id": 1,
    "dataset": "calendar-requests",
    "status": "running",
    "stage": "training",
    "priority": 0,
    "place": None,
    "paused": False,
    "config": TrainingConfig.model_validate(_CONFIG).model_dump(mode="json"),
    "attempt": 1,
    "iteration": 42,
    "total_iters": 100,
    "progress": 0.42,
    "seconds_left": 31.5,
    "checkpoint_iteration": 25,
    "train_loss": 0.31,
    "val_loss": 0.64,
    "tokens_per_second": 117.4,
    "peak_memory_bytes": 1_400_000_000,
    "memory_estimate_bytes": 1_600_000_000,
    "memory_parts": {"weights": 1_100_000_000, "activations": 400_000_000},
    "memory_error": None,
    "yielding": "",
    "yielded_s": 0.0,
    "cancel_requested": False,
    "out_of_memory": False,
    "can_halve": False,
    "batch_size_before": None,
    "sweep_id": None,
    "varied": {},
    "cloned_from_id": None,
    "wait_reason": "",
    "error_message": "",
    "reproduces": None,
    "version_number": "",
    "version": "0.1.0",
    "version_status": "training",
    "metrics": {},
    "correlation_id": "8b1c4f0e5a1d4a5b9a7d0c7c3f1f2e11",
    "trace_url": "",
    "phases": {"starting": 1.9, "verifying": 0.4},
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
    """A job to queue. Settings left out of `config` take their defaults."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"model_id": 1, "dataset_id": 1, "config": _CONFIG}]},
    )

    model_id: int
    dataset_id: int
    config: TrainingConfig = TrainingConfig()
    priority: Annotated[int, Field(ge=-1000, le=1000, description="Higher runs first")] = 0
    version_number: Annotated[str, Field(max_length=20, description=_NUMBER_HELP)] = ""


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
    place: Annotated[
        int | None, Field(description="Position in the queue, from 1; null when it is not waiting")
    ] = None
    paused: Annotated[
        bool,
        Field(description="Queued: not started. Running: pauses at its next step"),
    ]
    config: dict[str, Any]
    attempt: int
    iteration: int
    total_iters: Annotated[int, Field(description="Optimizer steps of the whole run")]
    progress: Annotated[float, Field(description="Fraction of iterations done, 0 to 1")]
    seconds_left: Annotated[float | None, Field(description="Estimate while training")]
    checkpoint_iteration: int
    train_loss: Annotated[float | None, Field(description="Newest value")]
    val_loss: Annotated[float | None, Field(description="Newest value")]
    tokens_per_second: float | None
    peak_memory_bytes: int | None
    memory_estimate_bytes: Annotated[
        int | None,
        Field(description="Expected peak, corrected by similar earlier runs"),
    ]
    memory_parts: Annotated[
        dict[str, Any],
        Field(description="Bytes by purpose; the correction, and how many runs it is based on"),
    ]
    memory_error: Annotated[
        float | None,
        Field(description="Measured / estimated peak, minus 1; set when the job has finished"),
    ]
    yielding: Annotated[
        str,
        Field(
            alias="yield_text", description="Why training is waiting right now, and for how long"
        ),
    ]
    yielded_s: Annotated[float, Field(description="Total seconds spent waiting for others")]
    cancel_requested: bool
    out_of_memory: Annotated[bool, Field(description="Its last attempt ran out of memory")]
    can_halve: Annotated[
        bool, Field(description="POST …/retry-halved can retry with half the batch size")
    ]
    batch_size_before: Annotated[
        int | None, Field(description="Before it was halved because memory ran out")
    ]
    sweep_id: int | None
    varied: Annotated[dict[str, Any], Field(description="The settings that its sweep varies")]
    cloned_from_id: int | None
    wait_reason: str
    error_message: str
    reproduces: Annotated[
        str | None, Field(description="The version being trained again; no new version is created")
    ]
    version_number: Annotated[
        str, Field(description="Number chosen for the version; empty: the proposed number")
    ]
    version: Annotated[
        str | None, Field(description="The version that the job creates, once training starts")
    ]
    version_status: str | None
    metrics: Annotated[dict[str, Any], Field(description="Metrics of the finished version")]
    correlation_id: str
    trace_url: Annotated[str, Field(description="Where the trace is shown (HUB_TRACE_URL)")]
    phases: Annotated[dict[str, float], Field(description="Seconds in each phase so far")]
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


class EstimateIn(BaseModel):
    """A run to estimate; nothing is queued."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"model_id": 1, "dataset_id": 1, "config": _CONFIG}]},
    )

    model_id: int
    dataset_id: int
    config: TrainingConfig = TrainingConfig()


class EstimateOut(Schema):
    model_config = ConfigDict(from_attributes=True)

    nbytes: Annotated[int, Field(alias="estimate.nbytes", description="Expected peak")]
    weights: Annotated[int, Field(alias="estimate.parts.weights")]
    trained: Annotated[int, Field(alias="estimate.parts.trained", description="Adapter")]
    gradients: Annotated[int, Field(alias="estimate.parts.gradients")]
    optimizer: Annotated[int, Field(alias="estimate.parts.optimizer")]
    activations: Annotated[int, Field(alias="estimate.parts.activations")]
    program: Annotated[
        int, Field(alias="estimate.parts.program", description="Python and libraries")
    ]
    correction: Annotated[
        float, Field(alias="estimate.correction", description="Factor learned from earlier runs")
    ]
    runs: Annotated[
        int, Field(alias="estimate.runs", description="How many runs the factor is based on")
    ]
    error: Annotated[
        float | None,
        Field(alias="estimate.error", description="Typical relative error for those runs"),
    ]
    budget_bytes: int
    held_bytes: Annotated[int, Field(description="Held by active or pinned models")]
    verdict: Annotated[Literal["now", "waits", "never"], Field(description="When it fits")]
    sentence: Annotated[str, Field(description="The result as a sentence, with what to change")]
    packing: Annotated[
        str,
        Field(
            description="Whether steps are faster packed or padded, as a sentence; empty before the "
            "lengths of the examples are known"
        ),
    ]


class MoveIn(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"to": "first"}]})

    to: Where


class PriorityIn(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"priority": 5}]})

    priority: Annotated[int, Field(ge=-1000, le=1000, description="Higher runs first")]


class CloneIn(BaseModel):
    """Changed settings by dotted name or nested; everything else is copied from the old job."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"changes": {"learning_rate": 1e-4, "lora.rank": 16}}]},
    )

    changes: dict[str, Any] = {}
    dataset_id: int | None = None
    priority: Annotated[int | None, Field(ge=-1000, le=1000)] = None
    version_number: Annotated[str, Field(max_length=20, description=_NUMBER_HELP)] = ""


class SweepIn(BaseModel):
    """A job for every combination of the values in `grid`, whose keys are dotted setting names."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "model_id": 1,
                    "dataset_id": 1,
                    "config": _CONFIG,
                    "grid": {"lora.rank": [8, 16], "learning_rate": [1e-4, 2e-4]},
                }
            ]
        },
    )

    name: Annotated[
        str, Field(max_length=100, description="Empty uses the names of the varied settings")
    ] = ""
    model_id: int
    dataset_id: int
    config: TrainingConfig = TrainingConfig()
    grid: Annotated[dict[str, list[Any]], Field(min_length=1, max_length=8)]
    priority: Annotated[int, Field(ge=-1000, le=1000, description="Higher runs first")] = 0


class ComparedOut(Schema):
    model_config = ConfigDict(from_attributes=True)

    job_id: Annotated[int, Field(alias="job.pk")]
    status: Annotated[TrainingJob.Status, Field(alias="job.status")]
    varied: dict[str, Any]
    iteration: Annotated[int, Field(alias="job.iteration")]
    train_loss: float | None
    val_loss: Annotated[float | None, Field(description="Newest value")]
    best_val_loss: Annotated[float | None, Field(description="Lowest of the run")]
    best: Annotated[bool, Field(description="Lowest of all jobs so far")]
    metrics: Annotated[dict[str, Any], Field(description="Metrics of the finished version")]
    tokens_per_second: Annotated[float | None, Field(alias="job.tokens_per_second")]
    peak_memory_bytes: Annotated[int | None, Field(alias="job.peak_memory_bytes")]
    seconds: Annotated[float | None, Field(description="From start to end")]
    error_message: Annotated[str, Field(alias="job.error_message")]


class SweepOut(Schema):
    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str
    model_id: int
    model: Annotated[str, Field(alias="model.name")]
    dataset_id: int
    dataset: Annotated[str, Field(alias="dataset.name")]
    config: dict[str, Any]
    grid: dict[str, list[Any]]
    created_at: datetime.datetime


class SweepDetail(SweepOut):
    jobs: list[ComparedOut]

    @staticmethod
    def resolve_jobs(sweep: Sweep) -> list[sweeps.Compared]:
        return sweeps.compare(sweep)


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


class SampleOut(Schema):
    model_config = ConfigDict(from_attributes=True)

    iteration: int
    line: Annotated[int, Field(description="Line of valid.jsonl, from 1")]
    prompt: str
    expected: str
    answer: str
    created_at: datetime.datetime
