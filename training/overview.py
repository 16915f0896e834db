"""What the pages ask about jobs: the queue's order, a loss curve, the end of a log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from django.db.models import QuerySet

from registry import curves
from registry.models import Model
from training.models import TrainingJob

TAIL_BYTES, TAIL_LINES = 16_384, 80
_LINE_FIELDS = ("timestamp", "level", "event", "process", "logger", "correlation_id", "job")


def find_jobs(status: str = "", model: str = "") -> QuerySet[TrainingJob]:
    """Jobs with their model, data set and version, newest first; `model` is a whole name."""
    jobs = TrainingJob.objects.select_related("model", "dataset", "result_version").only(
        *(field.name for field in TrainingJob._meta.concrete_fields),
        *("model__name", "dataset__name", "result_version__version"),
    )
    if status:
        jobs = jobs.filter(status=status)
    if model:
        named = Model.objects.filter(name__iexact=model).values_list("pk", flat=True)
        jobs = jobs.filter(model__in=list(named))
    return jobs.order_by("-created_at", "-pk")


def queue_positions() -> dict[int, int]:
    """Place of each waiting job by its id; 1 runs next. Same order as the worker's."""
    waiting = TrainingJob.objects.filter(status=TrainingJob.Status.QUEUED)
    order = waiting.order_by("-priority", "created_at", "pk").values_list("pk", flat=True)
    return {pk: place for place, pk in enumerate(order, start=1)}


def curve(job: TrainingJob, after: int = -1) -> dict[str, Any]:
    """Columns for a chart: iterations above `after` with train and validation loss, and whether
    more will come."""
    return {**curves.columns(job.metrics, after), "over": job.is_over}


def tail(path: Path) -> str:
    """The last lines of a log file, for a person to read; empty when there is none."""
    try:
        with path.open("rb") as file:
            length = file.seek(0, 2)
            file.seek(max(0, length - TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(_readable(line) for line in text.splitlines()[-TAIL_LINES:])


def _readable(line: str) -> str:
    """`19:00:45 training iteration=0` of a structured line; any other line as it is."""
    try:
        fields = json.loads(line)
    except ValueError:
        return line
    if not isinstance(fields, dict) or "event" not in fields:
        return line
    clock = str(fields.get("timestamp", ""))[11:19]
    level = fields.get("level", "info")
    rest = [f"{name}={value}" for name, value in fields.items() if name not in _LINE_FIELDS]
    words = [clock, "" if level == "info" else f"[{level}]", str(fields["event"]), *rest]
    return " ".join(word for word in words if word)
