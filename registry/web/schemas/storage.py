"""What storage holds, and whether it is as it was recorded."""

from __future__ import annotations

from typing import Annotated

from ninja import Schema
from pydantic import Field

from registry.web.schemas.examples import answered


class VerifiedOut(Schema):
    """Files that were read through. Without `problems` every byte is as recorded."""

    model_config = answered(
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

    model_config = answered(
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

    model_config = answered(
        {"path": "staging/base-0f3c", "size_bytes": 1024, "reason": "left over in staging"}
    )

    path: str
    size_bytes: int
    reason: str


class StorageOut(Schema):
    """What storage holds, by model, and what no row names."""

    models: list[DiskUseOut]
    tokens_bytes: Annotated[
        int,
        Field(description="Data sets as tokens, kept for the next run; made again when missing"),
    ]
    leftovers: list[LeftoverOut]
