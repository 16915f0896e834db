"""Loss curves, thinned to what a screen can show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db.models import Manager, Max, Q

from registry.models import ModelVersion

LOSSES = ("train_loss", "val_loss")
MAX_POINTS = 600  # of a chart; more cannot be distinguished on a screen


def columns(
    metrics: Manager[Any], after: int = -1, series: Sequence[str] = LOSSES
) -> dict[str, list[Any]]:
    """`iteration` and each of `series` of a job's metrics above iteration `after`.

    A long run is thinned to about MAX_POINTS; measured validation losses are all kept.
    """
    found = metrics.filter(iteration__gt=after)
    last = metrics.aggregate(last=Max("iteration"))["last"] or 0
    if after < 0 and last > MAX_POINTS:
        stride = -(-last // MAX_POINTS)
        kept = [*range(0, last + 1, stride), last]
        found = found.filter(Q(iteration__in=kept) | Q(val_loss__isnull=False))
    names = ("iteration", *series)
    rows = list(found.order_by("iteration").values_list(*names))
    return {name: [row[place] for row in rows] for place, name in enumerate(names)}


def of_version(version: ModelVersion) -> dict[str, list[Any]] | None:
    """The curve of the job that made the version; None when that job is not in this hub."""
    job = getattr(version, "job", None)
    return columns(job.metrics) if job else None
