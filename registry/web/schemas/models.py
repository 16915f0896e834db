"""Models, and what becomes of one that is removed."""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal

from ninja import Schema
from pydantic import BaseModel, Field

from registry.maintenance.gc import disk_use
from registry.models import Model
from registry.web.schemas.examples import TIME, answered, shown
from registry.web.schemas.versions import VERSION, VersionOut

_PROPOSALS: dict[str, Any] = {
    "scorer": "json",
    "metrics": ["field_f1", "field_precision", "field_recall", "json"],
    "form": "fields",
}
_MODEL: dict[str, Any] = {
    "id": 1,
    "name": "calendar",
    "task_type": "extraction",
    "proposes": _PROPOSALS,
    "description": "Calendar entries from plain English",
    "base_model": "SmolLM2-135M-Instruct",
    "tags": ["demo"],
    "mlflow_experiment_id": "1",
    "newest_version": "0.1.0",
    "version_count": 1,
    "aliases": {"production": "0.1.0"},
    "card_notes": "Times without a day mean today.",
    "archived_at": None,
    "created_at": TIME,
}


class ModelIn(BaseModel):
    """A model to register."""

    model_config = shown({k: _MODEL[k] for k in ("name", "base_model", "task_type", "tags")})

    name: Annotated[str, Field(min_length=1, max_length=100)]
    base_model: Annotated[
        str | None, Field(description="May be left out while the hub has only one")
    ] = None
    task_type: Model.TaskType = Model.TaskType.CHAT
    description: Annotated[str, Field(max_length=10_000)] = ""
    tags: list[str] = []


class ModelChanges(BaseModel):
    """What of a model may change; what is left out stays. Clients use the name, so it stays."""

    model_config = shown({"description": "Calendar entries from plain English", "tags": ["demo"]})

    task_type: Model.TaskType = Model.TaskType.CHAT
    description: Annotated[str, Field(max_length=10_000)] = ""
    tags: list[str] = []
    card_notes: Annotated[
        str, Field(max_length=100_000, description="Your own words on the card, in Markdown")
    ] = ""


class ProposalsOut(Schema):
    """What a task proposes."""

    model_config = answered(_PROPOSALS)

    scorer: Annotated[str, Field(description="Of jobs whose scorer is task")]
    metrics: Annotated[list[str], Field(description="What decides about a version, by weight")]
    form: Annotated[str, Field(description="How a version is tried: chat, labels or fields")]


class ModelOut(Schema):
    model_config = answered(_MODEL)

    id: int
    name: str
    task_type: str
    proposes: Annotated[ProposalsOut, Field(alias="task")]
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


class ModelDetail(ModelOut):
    """A model with its newest versions; `/models/{id}/versions` pages through all of them."""

    model_config = answered({**_MODEL, "disk_bytes": 9742336, "versions": [VERSION]})

    disk_bytes: Annotated[int, Field(description="What its versions hold, archived ones too")]
    versions: list[VersionOut]

    @staticmethod
    def resolve_disk_bytes(row: Model) -> int:
        (use,) = disk_use(row)
        return use.total_bytes


class RemovalOut(Schema):
    """What became of a model."""

    model_config = answered(
        {"outcome": "archived", "name": "calendar", "freed_bytes": 0, "kept_active": []}
    )

    outcome: Literal["archived", "restored", "deleted"]
    name: str
    freed_bytes: int
    kept_active: Annotated[list[str], Field(description="Why versions could not be moved")]
