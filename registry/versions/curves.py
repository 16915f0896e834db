"""A job's measurements as columns for charts, thinned to what a screen can show.

A long range becomes about MAX_POINTS buckets of equal length, each with the mean of every series, and
with the least and the most of those that are noisy, so that no outlier is lost. The database makes
them: of up to RAW_STEPS rows from the rows themselves, of more from MetricSpan, which has one row for
every WIDTH steps. A million steps so cost about as much to read as twenty thousand.

A job is a row of `training`, which this app does not know: it has `metrics` and `spans`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db.models import Avg, F, Max, Min, QuerySet

from registry.models import ModelVersion

LOSSES = ("train_loss", "val_loss")
SERIES = (
    "train_loss",
    "val_loss",
    "learning_rate",
    "grad_norm",
    "tokens_per_second",
    "peak_memory_bytes",
)
NOISY = ("train_loss", "grad_norm", "tokens_per_second")
"""Those whose least and most are shown too."""
MAX_POINTS = 600  # of a chart; more cannot be distinguished on a screen
RAW_STEPS = 40_000  # are still grouped within some 50 ms
SUMMARIZE_EVERY = 4096  # steps
WIDTH = 64  # iterations of a span
_PIECE = 512  # spans written at once

type Columns = dict[str, list[Any]]


def curve(
    job: Any, first: int = 0, last: int | None = None, series: Sequence[str] = SERIES
) -> dict[str, Any]:
    """`iteration` and each of `series` from iteration `first` to `last`, in columns of equal length;
    null where nothing was measured. Of a `thinned` range `iteration` is the last of each bucket, and
    `low` and `high` have columns of the noisy series; else both are empty.

    Up to MAX_POINTS validations keep their own iterations.
    """
    newest = job.metrics.aggregate(last=Max("iteration"))["last"] or 0
    last = newest if last is None else min(last, newest)
    if last - first < MAX_POINTS:
        rows = _between(job.metrics.all(), "iteration", first, last)
        names = ("iteration", *series)
        found = list(rows.order_by("iteration").values_list(*names))
        columns: Columns = {name: [row[at] for row in found] for at, name in enumerate(names)}
        return {**columns, "low": {}, "high": {}, "thinned": False}
    buckets = _rounded(_buckets(job, first, last))
    return _in_columns(_with_validations(job, first, last, buckets), series)


def of_version(version: ModelVersion) -> dict[str, Any] | None:
    """The losses of the job that made the version; None when that job is not in this hub."""
    job = getattr(version, "job", None)
    return curve(job, series=LOSSES) if job else None


def best(job: Any) -> dict[str, Any] | None:
    """`iteration` and `val_loss` of the lowest validation loss."""
    validated = job.metrics.filter(val_loss__isnull=False)
    found: dict[str, Any] | None = (
        validated.order_by("val_loss", "iteration").values("iteration", "val_loss").first()
    )
    return found


def summarize(job: Any) -> None:
    """Write the spans that the rows before the newest fill and that are not there yet."""
    newest = job.metrics.aggregate(last=Max("iteration"))["last"] or 0
    for start in range(_spanned(job), newest // WIDTH, _PIECE):
        end = min(start + _PIECE, newest // WIDTH)
        rows = _between(job.metrics.all(), "iteration", start * WIDTH, end * WIDTH - 1)
        grouped = rows.annotate(number=F("iteration") / WIDTH).values("number").order_by("number")
        found = grouped.annotate(**_figures(stored=False))
        job.spans.bulk_create(
            (
                job.spans.model(
                    job=job, **{name.removesuffix("_mean"): value for name, value in row.items()}
                )
                for row in found
            ),
            ignore_conflicts=True,  # another page asked for the same at the same time
        )


def forget(job: Any, iteration: int) -> None:
    """Delete the spans that have iterations after `iteration`."""
    job.spans.filter(number__gte=iteration // WIDTH).delete()


def _spanned(job: Any) -> int:
    """How many spans are there; they have no gaps."""
    last = job.spans.aggregate(last=Max("number"))["last"]
    return 0 if last is None else int(last) + 1


def _buckets(job: Any, first: int, last: int) -> list[dict[str, Any]]:
    """The means, least and most of equal stretches of `first` to `last`, in order."""
    size = -(-(last - first + 1) // MAX_POINTS)
    if last - first < RAW_STEPS:
        return _grouped(job, first, last, size)
    if job.is_over:  # of a running job its own process writes them
        summarize(job)
    size = -(-size // WIDTH) * WIDTH
    start, end = first // WIDTH, min(_spanned(job), (last + 1) // WIDTH)
    spans = _between(job.spans.all(), "number", start, end - 1)
    grouped = spans.annotate(bucket=F("number") / (size // WIDTH)).values("bucket")
    found = grouped.order_by("bucket").annotate(last=Max("number"), **_figures(stored=True))
    whole = [{**row, "iteration": (row.pop("last") + 1) * WIDTH - 1} for row in found]
    return whole + _grouped(job, max(first, end * WIDTH), last, size)


def _rounded(buckets: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A last bucket of a few steps as a part of the one before: alone it would be noise at the end."""
    if len(buckets) < 3:
        return buckets
    *rest, before, last = buckets
    weight = before["iteration"] - rest[-1]["iteration"], last["iteration"] - before["iteration"]
    if weight[1] * 2 > weight[0]:
        return buckets

    def joined(name: str) -> float | None:
        pair = (before[name], last[name])
        known = [(value, w) for value, w in zip(pair, weight, strict=True) if value is not None]
        if not known:
            return None
        if name.endswith("_low"):
            return float(min(value for value, _ in known))
        if name.endswith("_high") or name.startswith("peak"):
            return float(max(value for value, _ in known))
        return float(sum(value * w for value, w in known) / sum(w for _, w in known))

    return [*rest, {name: joined(name) for name in last} | {"iteration": last["iteration"]}]


def _grouped(job: Any, first: int, last: int, size: int) -> list[dict[str, Any]]:
    rows = _between(job.metrics.all(), "iteration", first, last)
    grouped = rows.annotate(bucket=(F("iteration") - first) / size).values("bucket")
    found = grouped.order_by("bucket").annotate(last=Max("iteration"), **_figures(stored=False))
    return [{**row, "iteration": row.pop("last")} for row in found]


def _between[Q: QuerySet[Any]](rows: Q, name: str, first: int, last: int) -> Q:
    return rows.filter(**{f"{name}__gte": first, f"{name}__lte": last})


def _figures(*, stored: bool) -> dict[str, Any]:
    """What is asked of the rows of a bucket, or of its `stored` spans."""
    low, high = ("_low", "_high") if stored else ("", "")
    return {
        **{f"{name}_mean": Avg(name) for name in SERIES if name != "peak_memory_bytes"},
        "peak_memory_bytes_mean": Max("peak_memory_bytes"),
        **{f"{name}_low": Min(f"{name}{low}") for name in NOISY},
        **{f"{name}_high": Max(f"{name}{high}") for name in NOISY},
    }


def _with_validations(
    job: Any, first: int, last: int, buckets: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The buckets, with the validations at their own iterations in the place of their means."""
    validated = _between(job.metrics.filter(val_loss__isnull=False), "iteration", first, last)
    found = dict(validated.order_by().values_list("iteration", "val_loss")[: MAX_POINTS + 1])
    if len(found) > MAX_POINTS:
        return buckets
    rows = {row["iteration"]: {**row, "val_loss_mean": None} for row in buckets}
    for iteration, loss in found.items():
        rows.setdefault(iteration, {"iteration": iteration})["val_loss_mean"] = loss
    return [rows[iteration] for iteration in sorted(rows)]


def _in_columns(rows: list[dict[str, Any]], series: Sequence[str]) -> dict[str, Any]:
    def column(name: str) -> list[Any]:
        return [_short(row.get(name)) for row in rows]

    noisy = [name for name in NOISY if name in series]
    return {
        "iteration": [row["iteration"] for row in rows],
        **{name: column(f"{name}_mean") for name in series},
        "low": {name: column(f"{name}_low") for name in noisy},
        "high": {name: column(f"{name}_high") for name in noisy},
        "thinned": True,
    }


def _short(value: float | None) -> float | None:
    """Of six digits: more of a mean cannot be seen, but would be sent."""
    return float(f"{value:.6g}") if isinstance(value, float) else value
