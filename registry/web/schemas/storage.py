"""What storage holds, whether it is as it was recorded, and who changed it."""

from __future__ import annotations

import datetime
from typing import Annotated

from ninja import Schema
from pydantic import Field

from registry.web.schemas.examples import TIME, answered


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


class AuditEntryOut(Schema):
    """A change, and who made it."""

    model_config = answered(
        {
            "id": 7,
            "created_at": TIME,
            "actor_kind": "key",
            "actor": "laptop",
            "action": "alias.moved",
            "subject": "calendar@production",
            "detail": "0.1.0 → 0.2.0: Better exact match",
            "correlation_id": "0f3c",
        }
    )

    id: int
    created_at: datetime.datetime
    actor_kind: Annotated[str, Field(description="key, session, command, machine or hub")]
    actor: Annotated[str, Field(description="Name of the key, the user or the command")]
    action: str
    subject: Annotated[str, Field(description="What it was done to")]
    detail: str
    correlation_id: Annotated[str, Field(description="As log lines have it")]
