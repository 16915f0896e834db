"""Aliases, their moves, and the rules that guard them."""

from __future__ import annotations

import datetime
from typing import Annotated, Any

from ninja import Schema
from pydantic import BaseModel, Field, FiniteFloat

from registry.models import AliasMove, PromotionRule
from registry.web.schemas.examples import TIME, answered, shown

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
    "moved_at": TIME,
}


class AliasIn(BaseModel):
    """Where the alias points from now on."""

    model_config = shown({"version": "0.2.0", "reason": "Better exact match"})

    version: Annotated[str, Field(max_length=20)]
    reason: Annotated[str, Field(max_length=10_000)] = ""
    force: Annotated[
        bool, Field(description="Override promotion rules; recorded in the history")
    ] = False


class RollbackIn(BaseModel):
    """Why the last move is undone."""

    model_config = shown({"reason": "Answers got worse", "to": "0.1.0"})

    reason: Annotated[str, Field(max_length=10_000)] = ""
    to: Annotated[
        str | None, Field(max_length=20, description="409 when it would return to another version")
    ] = None


class AliasMoveOut(Schema):
    model_config = answered(_MOVE)

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


_RULE: dict[str, Any] = {
    "alias": "production",
    "metric": "exact_match",
    "comparison": ">=",
    "value": None,
}


class RuleIn(BaseModel):
    """A promotion rule."""

    model_config = shown(_RULE)

    alias: Annotated[str, Field(max_length=50)] = "production"
    metric: Annotated[str, Field(min_length=1, max_length=100)]
    comparison: PromotionRule.Comparison
    value: Annotated[
        FiniteFloat | None, Field(description="null: the alias's current version's figure")
    ] = None


class RuleOut(Schema):
    model_config = answered({"id": 1, **_RULE, "created_at": TIME})

    id: int
    alias: str
    metric: str
    comparison: str
    value: float | None
    created_at: datetime.datetime
