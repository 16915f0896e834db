"""What a database checks of every named thing."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower

from registry.names import (
    NAME_PATTERN,
)

SHA256_PATTERN = r"^[0-9a-f]{64}\Z"


def named(table: str) -> list[models.BaseConstraint]:
    """A valid name, unique also on a file system that ignores case."""
    return [
        models.UniqueConstraint(Lower("name"), name=f"{table}_name_unique"),
        models.CheckConstraint(condition=Q(name__regex=NAME_PATTERN), name=f"{table}_name_valid"),
    ]
