"""Comparison of versions over JSON."""

# No `from __future__ import annotations`: ninja resolves the annotations of operations.

import datetime
from typing import Annotated, Any

from django.http import HttpRequest
from ninja import Query, Router, Schema
from pydantic import ConfigDict, Field

from registry.models import ModelVersion
from registry.versions import curves
from registry.versions.comparison import Comparison, find_versions
from registry.versions.comparison import compare as compare_versions

router = Router(tags=["versions"])


class ComparedRowOut(Schema):
    """One fact; a value per version, null where it is unknown."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "examples": [
                {
                    "name": "val_loss",
                    "values": [0.5, 0.25],
                    "same": False,
                    "best": 1,
                    "differences": [None, -0.25],
                }
            ]
        },
    )

    name: str
    values: list[Any]
    same: bool
    best: Annotated[int | None, Field(description="Place of the best value, from 0")]
    differences: Annotated[list[float | None], Field(description="Each value less the first's")]


class LossCurveOut(Schema):
    """Three columns of equal length; null where nothing was measured. Long runs are downsampled."""

    iteration: list[int]
    train_loss: list[float | None]
    val_loss: list[float | None]


class ComparedVersionOut(Schema):
    """Which version a column is, and how its loss fell."""

    name: str
    model_id: int
    version: str
    created_at: datetime.datetime
    job: Annotated[int | None, Field(description="The training job that made it")]
    loss_curve: Annotated[LossCurveOut | None, Field(description="null: its job no longer exists")]

    @staticmethod
    def resolve_name(row: ModelVersion) -> str:
        return str(row)

    @staticmethod
    def resolve_job(row: ModelVersion) -> int | None:
        job = getattr(row, "job", None)
        return job.pk if job else None

    @staticmethod
    def resolve_loss_curve(row: ModelVersion) -> dict[str, list[Any]] | None:
        return curves.of_version(row)


class ComparisonOut(Schema):
    """Versions side by side, in the order they were asked for."""

    versions: list[ComparedVersionOut]
    metrics: list[ComparedRowOut]
    facts: list[ComparedRowOut]
    params: list[ComparedRowOut]
    packages: list[ComparedRowOut]
    hardware: list[ComparedRowOut]


@router.get("/compare", response=ComparisonOut, summary="Compare versions")
def compare(
    request: HttpRequest,
    version: Annotated[list[str], Query(description="NAME@VERSION or NAME@alias, twice or more")],
) -> Comparison:
    """Parameters, data, metrics, loss curves, sizes, packages and commits of versions of any
    models."""
    return compare_versions(find_versions(version))
