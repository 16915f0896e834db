"""Inserting many rows at once, with chosen IDs and times."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.color import no_style
from django.db import connection, models
from django.db.models import Max

from inference.models import InferenceRequest
from registry.models import (
    Alias,
    AliasMove,
    BaseModel,
    Dataset,
    DatasetReport,
    Model,
    ModelVersion,
    PromotionRule,
)
from training.models import TrainingJob, TrainingMetric

BATCH = 2_000
TABLES: tuple[type[models.Model], ...] = (
    BaseModel,
    Dataset,
    DatasetReport,
    Model,
    ModelVersion,
    Alias,
    AliasMove,
    PromotionRule,
    TrainingJob,
    TrainingMetric,
    InferenceRequest,
)


@contextmanager
def own_times() -> Iterator[None]:
    """Let rows keep their given creation times, which `auto_now_add` would overwrite."""
    fields: list[Any] = [
        each
        for table in TABLES
        for each in table._meta.fields
        if isinstance(each, models.DateTimeField) and (each.auto_now_add or each.auto_now)
    ]
    before = [(each, each.auto_now_add, each.auto_now) for each in fields]
    for each in fields:
        each.auto_now_add = each.auto_now = False
    try:
        yield
    finally:
        for each, added, changed in before:
            each.auto_now_add, each.auto_now = added, changed


def insert[T: models.Model](table: type[T], rows: Iterable[T]) -> None:
    for batch in itertools.batched(rows, BATCH):
        table._default_manager.bulk_create(batch)


def first_pk(table: type[models.Model]) -> int:
    """The first free ID: IDs are chosen here, so that rows can refer to rows not yet written."""
    return (table._default_manager.aggregate(last=Max("pk"))["last"] or 0) + 1


def reset_sequences() -> None:
    with connection.cursor() as cursor:
        for statement in connection.ops.sequence_reset_sql(no_style(), list(TABLES)):
            cursor.execute(statement)
