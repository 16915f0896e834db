"""Samples of the machine on their way: a minute of them in a small file, which every process can read,
then one statement for all of them into the database, where they become fewer as they age.

To write each at once cost 280 MB a day on SQLite, whose smallest write is some pages and a sync.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import time
from collections import deque
from dataclasses import dataclass, field
from itertools import batched
from pathlib import Path
from typing import Any

from django.db import transaction
from django.db.models import Avg, Count, Max, Min
from django.db.models.functions import Trunc
from django.utils import timezone

from hub.models import SystemSample
from registry.storage import paths

WRITE_EVERY_S = 60.0
THINNED = ((datetime.timedelta(days=7), "minute"), (datetime.timedelta(days=30), "hour"))
"""From which age on one is kept of each minute, and of each hour."""
_MOST_KEPT = 720  # while the database is away
_MEANS = ("cpu_percent", "gpu_percent")
_PEAKS = (
    *("memory_used_bytes", "memory_total_bytes", "swap_used_bytes"),
    *("engine_memory_bytes", "training_memory_bytes"),
)
_LEAST = ("disk_free_bytes",)
COLUMNS = (*_MEANS, *_PEAKS, *_LEAST)


@dataclass
class Samples:
    """The sampler's side."""

    _kept: deque[SystemSample] = field(default_factory=lambda: deque(unwritten(), _MOST_KEPT))
    _written_at: float = float("-inf")

    def add(self, sample: SystemSample) -> None:
        """Keep it; all that are kept are written when a minute has passed. Raises DatabaseError, and
        keeps them for the next time."""
        self._kept.append(sample)
        values = [sample.created_at.isoformat(), *(getattr(sample, name) for name in COLUMNS)]
        with _file().open("a") as file:
            file.write(json.dumps(values) + "\n")
        if time.monotonic() - self._written_at >= WRITE_EVERY_S:
            self._written_at = time.monotonic()
            self.write()

    def write(self) -> None:
        """Write what is kept. Raises DatabaseError."""
        SystemSample.objects.bulk_create(self._kept)
        self._kept.clear()
        _file().write_text("")


def unwritten() -> list[SystemSample]:
    """What the sampler has not written to the database yet, oldest first; of one that was killed, too."""
    samples = []
    with contextlib.suppress(OSError):
        for line in _file().read_text().splitlines()[-_MOST_KEPT:]:
            with contextlib.suppress(ValueError, TypeError):  # half a line, which is being written
                moment, *values = json.loads(line)
                at = datetime.datetime.fromisoformat(moment)
                columns: dict[str, Any] = dict(zip(COLUMNS, values, strict=True))
                samples.append(SystemSample(created_at=at, **columns))
    return samples


def newest() -> SystemSample | None:
    """The newest sample, written or not."""
    waiting = unwritten()
    return waiting[-1] if waiting else SystemSample.objects.first()


def since(moment: datetime.datetime, *columns: str) -> list[tuple[Any, ...]]:
    """Time and `columns` of those after that `moment`, oldest first."""
    waiting = unwritten()  # first: what is written between the two is then read once, not missed
    rows = SystemSample.objects.filter(created_at__gt=moment).order_by("created_at")
    found = list(rows.values_list("created_at", *columns))
    last = found[-1][0] if found else moment
    new = (sample for sample in waiting if sample.created_at > last)
    return found + [(s.created_at, *(getattr(s, name) for name in columns)) for s in new]


def fewer(
    rows: list[tuple[Any, ...]], columns: tuple[str, ...], most: int
) -> list[tuple[Any, ...]]:
    """At most about `most` rows in the place of those of `since`, each of some successive ones, merged as
    old ones are: the mean load, the most memory, the least free disk, at the time of the first."""
    size = -(-len(rows) // most)
    if size <= 1:
        return rows

    def merged(name: str, values: tuple[Any, ...]) -> Any:
        known = [value for value in values if value is not None]
        if not known:
            return None
        if name in _MEANS:
            return round(sum(known) / len(known), 2)
        return min(known) if name in _LEAST else max(known)

    found = []
    for some in batched(rows, size):
        moments, *values = zip(*some, strict=True)
        found.append((moments[0], *map(merged, columns, values)))
    return found


def thin() -> int:
    """Put one sample in the place of those of a minute, and later of an hour: the mean load, the most
    memory, the least free disk. Returns by how many they became fewer."""
    now = timezone.now()
    return sum(_thin(now - age, unit) for age, unit in THINNED)


def _thin(before: datetime.datetime, unit: str) -> int:
    rows = SystemSample.objects.filter(created_at__lt=before).order_by()
    spans = rows.annotate(span=Trunc("created_at", unit)).values("span").annotate(n=Count("pk"))
    several = spans.filter(n__gt=1).order_by("span").values_list("span", flat=True)
    if not (found := list(several)):
        return 0
    length = datetime.timedelta(**{f"{unit}s": 1})
    first, end = found[0], min(found[-1] + length, before)
    old = SystemSample.objects.filter(created_at__gte=first, created_at__lt=end).order_by()
    merged: Any = (
        old.annotate(span=Trunc("created_at", unit))
        .values("span")
        .annotate(
            at=Min("created_at"),
            **{f"{name}_": Avg(name) for name in _MEANS},
            **{f"{name}_": Max(name) for name in _PEAKS},
            **{f"{name}_": Min(name) for name in _LEAST},
        )
    )
    with transaction.atomic():
        new = [
            SystemSample(created_at=row["at"], **{name: row[f"{name}_"] for name in COLUMNS})
            for row in merged
        ]
        gone, _ = old.delete()
        SystemSample.objects.bulk_create(new)
    return gone - len(new)


def _file() -> Path:
    return paths.run_dir() / "samples.jsonl"
