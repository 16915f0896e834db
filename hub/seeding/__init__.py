"""Rows by the hundred thousand, to measure the hub's pages and API against. Not for real work.

Every status tells the truth: all ready versions share one real folder in `storage/active`, all
archived ones one in `storage/archive`, and all data sets one real snapshot.
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
    """Whether nothing has been registered in this storage yet."""
    return not any(table._default_manager.exists() for table in TABLES)


def seed(scale: Scale, number: int, say: Callable[[str], object]) -> None:
    """Write everything in one transaction; the same `number` makes the same rows but for times."""
    start = timezone.now() - datetime.timedelta(days=730)
    run = Seeding(scale, random.Random(number), start, registered.real_dataset())  # noqa: S311
    with own_times(), transaction.atomic():
        for step in _STEPS:
            say(f"{step.__name__}…")
            step(run)
        reset_sequences()
    with connection.cursor() as cursor:
        # Both databases plan with statistics, which are stale by now; PostgreSQL also needs to know
        # which pages it can answer from an index alone, as its autovacuum finds out in time.
        may_vacuum = connection.vendor == "postgresql" and not connection.in_atomic_block
        cursor.execute("VACUUM ANALYZE" if may_vacuum else "ANALYZE")
