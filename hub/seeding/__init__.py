"""Hundreds of thousands of made-up rows, to benchmark the hub's pages and API. Not for real work.

Every row is consistent with the files: all ready versions share one real folder in
`storage/active`, all archived ones share one in `storage/archive`, and all data sets share one real
snapshot.
"""

from __future__ import annotations

import datetime
import random
from collections.abc import Callable

from django.db import connection, transaction
from django.utils import timezone

from hub.seeding import registered, used
from hub.seeding.bulk import TABLES, own_times, reset_sequences
from hub.seeding.plan import Scale, Seeding

__all__ = ["Scale", "is_empty", "seed"]

_STEPS = (
    registered.bases,
    registered.datasets,
    registered.reports,
    registered.models,
    registered.versions,
    registered.aliases,
    used.jobs,
    used.metrics,
    used.requests,
)


def is_empty() -> bool:
    """Whether this storage folder has no rows yet."""
    return not any(table._default_manager.exists() for table in TABLES)


def seed(scale: Scale, number: int, say: Callable[[str], object]) -> None:
    """Write everything in one transaction. The same `number` gives the same rows, except for times."""
    start = timezone.now() - datetime.timedelta(days=730)
    run = Seeding(scale, random.Random(number), start, registered.real_dataset())  # noqa: S311
    with own_times(), transaction.atomic():
        for step in _STEPS:
            say(f"{step.__name__}…")
            step(run)
        reset_sequences()
    with connection.cursor() as cursor:
        # Both databases plan with statistics, which are now stale. PostgreSQL also needs a vacuum for
        # index-only scans, which autovacuum would do later.
        may_vacuum = connection.vendor == "postgresql" and not connection.in_atomic_block
        cursor.execute("VACUUM ANALYZE" if may_vacuum else "ANALYZE")
