"""Versions, where they come from, their runs and their exports."""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal

from ninja import Schema
from pydantic import BaseModel, Field, FiniteFloat

from registry.models import BundleImport, ModelVersion
from registry.web.schemas.examples import SHA, TIME, answered, shown

LINEAGE: dict[str, Any] = {
    "git_commit": "86f1f50c0f1d4a7f8b1f3f4b8e3d2a1c9b7e6d5f",
    "git_dirty": False,
    "dataset": "calendar-requests",
    "dataset_checksum": SHA,
    "labels": [],
    "base_model": "SmolLM2-135M-Instruct",
    "base_checksum": SHA,
    "parent": None,
    "params": {"iters": 70, "learning_rate": 0.0002, "lora": {"rank": 8}},
    "seed": 0,
    "packages": {"mlx": "0.32.4", "mlx-lm": "0.32.2"},
    "hardware": {"processor": "Apple M4 Pro", "cores": 12, "memory_bytes": 51539607552},
}


VERSION: dict[str, Any] = {
    "id": 1,
    "version": "0.1.0",
    "status": "ready",
    "metrics": {"val_loss": 0.012, "exact_match": 0.86},
    "aliases": ["production"],
    "size_bytes": 9742336,
    "manifest_sha256": SHA,
    "mlflow_run_id": "006f6dcea3b849068b852fd16708690f",
    "notes": "Best on short requests",
    "created_at": TIME,
    "lineage": LINEAGE,
    "evaluation": {"scorer": "exact_match", "examples": 50, "left_out": 0, "problem": ""},
    "reproduction": {"verdict": "bit-exact", "largest_difference": 0.0, "differs": []},
}


class LineageOut(Schema):
    """Everything needed to make the version again. Empty and null mean unknown."""

    model_config = answered(LINEAGE)

    git_commit: str
    git_dirty: bool | None
    dataset: str | None
    dataset_checksum: str
    labels: Annotated[list[str], Field(description="Of a classification set, by frequency")]
    base_model: str
    base_checksum: str
    parent: str | None
    params: dict[str, Any]
    seed: int | None
    packages: dict[str, Any]
    hardware: dict[str, Any]

    @staticmethod
    def resolve_dataset(row: ModelVersion) -> str | None:
        return row.dataset.name if row.dataset else None

    @staticmethod
    def resolve_base_model(row: ModelVersion) -> str:
        return row.base_model.name

    @staticmethod
    def resolve_parent(row: ModelVersion) -> str | None:
        return row.parent.version if row.parent else None


class VersionOut(Schema):
    model_config = answered(VERSION)

    id: int
    version: str
    status: str
    metrics: dict[str, Any]
    aliases: list[str]
    size_bytes: int
    manifest_sha256: str
    mlflow_run_id: Annotated[str, Field(description="Empty until MLflow is in sync")]
    notes: str
    created_at: datetime.datetime
    lineage: LineageOut
    evaluation: Annotated[
        dict[str, Any], Field(description="How its answers were scored; {}: they were not")
    ]
    reproduction: Annotated[
        dict[str, Any], Field(description="What training it again gave; {}: not tried")
    ]

    @staticmethod
    def resolve_aliases(row: ModelVersion) -> list[str]:
        return [alias.name for alias in row.aliases.all()]

    @staticmethod
    def resolve_lineage(row: ModelVersion) -> ModelVersion:
        return row

    @staticmethod
    def resolve_evaluation(row: ModelVersion) -> dict[str, Any]:
        return {k: v for k, v in row.evaluation.items() if k != "samples"}

    @staticmethod
    def resolve_reproduction(row: ModelVersion) -> dict[str, Any]:
        return {k: v for k, v in row.reproduction.items() if k != "differences"}


class NotesIn(BaseModel):
    """A person's notes on a version."""

    model_config = shown({"notes": "Best on short requests"})

    notes: Annotated[str, Field(max_length=100_000)]


class EvaluationIn(BaseModel):
    """Figures of one evaluation, by name."""

    model_config = shown({"metrics": {"exact_match": 0.86}})

    metrics: Annotated[
        dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,49}$")], FiniteFloat],
        Field(min_length=1, max_length=50),
    ]


class RunOut(Schema):
    """A run as MLflow has it. `metrics` are the last values; null is not a number."""

    model_config = answered(
        {
            "run_id": VERSION["mlflow_run_id"],
            "name": "calendar@0.1.0",
            "status": "FINISHED",
            "started_at": TIME,
            "ended_at": TIME,
            "params": {"iters": "70", "lora.rank": "8"},
            "metrics": {"train_loss": 0.01, "val_loss": 0.012},
            "tags": {"mlflow.source.git.commit": LINEAGE["git_commit"], "hub.seed": "0"},
            "artifact_uri": "file:///hub/storage/mlflow-artifacts/calendar/006f…/artifacts",
        }
    )

    run_id: str
    name: str | None
    status: str
    started_at: datetime.datetime | None
    ended_at: datetime.datetime | None
    params: dict[str, str]
    metrics: dict[str, float | None]
    tags: dict[str, str]
    artifact_uri: str


class ExportIn(BaseModel):
    """In what form a version is exported."""

    model_config = shown({"form": "adapter"})

    form: Literal["adapter", "fused", "gguf"] = "adapter"


class ExportOut(Schema):
    """An export: fetch its file from `/exports/{form}/file` once it is ready."""

    model_config = answered(
        {
            "form": "adapter",
            "status": "ready",
            "size_bytes": 9742336,
            "file_name": "calendar-0.1.0-adapter.zip",
            "error": "",
            "stage": "",
            "certificate": {},
        }
    )

    form: str
    status: str
    size_bytes: int
    file_name: str
    error: str
    stage: Annotated[str, Field(description="What is being done while it is running")]
    certificate: Annotated[dict[str, Any], Field(description="Fidelity of what was fused")]


class BundleImportOut(Schema):
    """A large bundle being imported. `model_id` and `version` are null until it is."""

    model_config = answered(
        {
            "id": 1,
            "name": "calendar@0.1.0",
            "source": "calendar-0.1.0.bundle.tar",
            "status": "running",
            "stage": "Verifying the bundle",
            "share": 0.41,
            "error_message": "",
            "model_id": None,
            "version": None,
            "created_at": TIME,
        }
    )

    id: int
    name: Annotated[str, Field(description="The model it is for, @ and its number elsewhere")]
    source: Annotated[str, Field(description="The file that was sent")]
    status: str
    stage: str
    share: Annotated[float, Field(description="Of the stage that is done, 0 to 1")]
    error_message: str
    model_id: int | None
    version: Annotated[str | None, Field(description="The version's number here")]
    created_at: datetime.datetime

    @staticmethod
    def resolve_model_id(row: BundleImport) -> int | None:
        return row.version.model_id if row.version else None

    @staticmethod
    def resolve_version(row: BundleImport) -> str | None:
        return row.version.version if row.version else None
