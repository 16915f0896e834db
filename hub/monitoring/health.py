"""Whether the hub is alive and ready, with one reason per part.

`failed` in any part makes the hub not ready (503); a `warning` does not. Nothing here imports
MLflow or MLX, and no part is waited for longer than LIMIT_S, all at the same time: a probe must stay
cheap, and be answered when nothing else is.
"""

from __future__ import annotations

import datetime
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from django.db import Error, connection
from django.http import HttpRequest, JsonResponse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from hub.backups import schedule
from hub.config import config
from hub.models import SystemSample
from hub.monitoring.samples import WRITE_EVERY_S
from hub.processes import presence
from hub.processes.asking import Answer, Question
from inference.gateway.client import engine_stats
from registry.errors import HubError
from registry.mlflow import outbox, tracking
from registry.storage import paths
from registry.storage.sizes import GB, human

LOW_DISK_BYTES = 5 * GB  # a base model and a few checkpoints
NO_DISK_BYTES = 200 * 10**6
LIMIT_S = 1.2
IN_SYNC = "MLflow is in sync."
OUTBOX_LATE = datetime.timedelta(minutes=5)


@dataclass(frozen=True)
class Part:
    """One part's status; `reason` is a sentence for a person."""

    status: Literal["ok", "warning", "failed"]
    reason: str


@dataclass(frozen=True)
class Rows:
    """What the database says about the other parts."""

    database: str
    newest_sample: datetime.datetime | None
    mlflow_rejected: int
    mlflow_pending: int
    mlflow_oldest: datetime.datetime | None
    mlflow_error: str
    """Why the oldest update that waits was not taken; empty when it was not sent yet."""


def _read() -> Rows:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    pending = outbox.waiting().order_by("pk")
    oldest = pending.values_list("created_at", "last_error").first() or (None, "")
    return Rows(
        database=connection.display_name,
        newest_sample=SystemSample.objects.values_list("created_at", flat=True).first(),
        mlflow_rejected=outbox.given_up().count(),
        mlflow_pending=pending.count(),
        mlflow_oldest=oldest[0],
        mlflow_error=oldest[1],
    )


def _mlflow_problem() -> str | None:
    return tracking.ping(limit_s=LIMIT_S)


_rows = Question(_read, LIMIT_S)
_mlflow = Question(_mlflow_problem, LIMIT_S, keep_s=5.0)


def parts() -> dict[str, Part]:
    """The status of every part."""
    asked, mlflow = _rows.put(), _mlflow.put()
    engine = _engine()
    rows, database = _database(asked)
    found = {
        "database": database,
        "engine": engine,
        "worker": _process("worker", "training jobs wait until it restarts"),
        "sampler": _sampler(rows),
        "storage": _storage(),
        "mlflow": _outbox(rows, _said(mlflow)),
    }
    if config.backup_dir is not None:
        found["backup"] = _backup(config.backup_dir)
    return found


def mlflow_problem() -> str | None:
    """What is wrong with MLflow, in a sentence; None while it answers."""
    return _said(_mlflow.put())


def _said(mlflow: Answer[str | None]) -> str | None:
    try:
        return mlflow.get()
    except TimeoutError:
        return f"MLflow does not answer within {LIMIT_S:g} s."


@require_safe
@never_cache
def view(request: HttpRequest) -> JsonResponse:
    """GET /health: any response means live; `ready` and the status code say the rest."""
    found = parts()
    ready = all(part.status != "failed" for part in found.values())
    body = {"live": True, "ready": ready, "parts": {n: asdict(p) for n, p in found.items()}}
    return JsonResponse(body, status=200 if ready else 503)


def _database(asked: Answer[Rows]) -> tuple[Rows | None, Part]:
    try:
        rows = asked.get()
    except TimeoutError:
        return None, Part("failed", f"The database does not answer within {LIMIT_S:g} s.")
    except Error as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        return None, Part("failed", f"Cannot connect to the database: {reason}")
    return rows, Part("ok", f"Connected ({rows.database})")


def running_engine_stats() -> dict[str, Any] | None:
    """The engine's statistics, or None while it is not responding."""
    try:
        return engine_stats(timeout=1.0)
    except (HubError, OSError):
        return None


def _engine() -> Part:
    stats = running_engine_stats()
    if stats is None:
        return Part("failed", "The engine is not responding; no text can be generated.")
    return Part("ok", f"{stats['running']} running, {stats['waiting']} waiting.")


def _process(name: str, consequence: str) -> Part:
    pid = presence.pid(name)
    if pid is None:
        return Part("failed", f"The {name} is not running; {consequence}.")
    return Part("ok", f"Running (process {pid})")


def _sampler(rows: Rows | None) -> Part:
    part = _process("sampler", "crashed jobs are not recovered and the dashboard is not updated")
    if part.status == "failed" or rows is None:
        return part
    newest = rows.newest_sample
    late = datetime.timedelta(seconds=3 * config.sample_every_s + WRITE_EVERY_S + 10)
    if newest and timezone.now() - newest > late:
        return Part("warning", f"No new samples since {newest:%H:%M:%S} UTC.")
    return part


def _storage() -> Part:
    root = paths.root()
    if not os.access(root, os.W_OK):
        return Part("failed", "The storage folder is not writable.")
    free = shutil.disk_usage(root).free
    text = f"{human(free)} free"
    if free < NO_DISK_BYTES:
        return Part("failed", f"The disk is full: {text}.")
    return Part("warning" if free < LOW_DISK_BYTES else "ok", text)


def _backup(place: Path) -> Part:
    try:
        moment = schedule.newest(place)
    except OSError as error:
        return Part("warning", f"{place} cannot be read ({error.strerror}).")
    if moment is None:
        return Part("warning", f"No backup yet in {place}.")
    text = f"Newest backup: {moment:%Y-%m-%d %H:%M} UTC"
    if timezone.now() - moment > 2 * schedule.every():
        return Part(
            "warning", f"{text}; see storage/run/{schedule.LOG} for why there is no newer one."
        )
    return Part("ok", text)


def _outbox(rows: Rows | None, problem: str | None) -> Part:
    if rows is None:
        return Part("warning", "Unknown, because the database is not available.")
    if rows.mlflow_rejected:
        text = f"MLflow rejected {rows.mlflow_rejected} updates; see the reasons and retry them in the admin."
        return Part("warning", text)
    if rows.mlflow_oldest is None:
        return (
            Part("warning", f"{problem} Nothing waits for it.") if problem else Part("ok", IN_SYNC)
        )
    updates = f"{rows.mlflow_pending} update{'' if rows.mlflow_pending == 1 else 's'}"
    text = f"{updates} waiting for MLflow, the oldest since {rows.mlflow_oldest:%H:%M:%S} UTC."
    if reason := problem or rows.mlflow_error:
        return Part("warning", f"{text} {reason} They are sent when it is back.")
    late = timezone.now() - rows.mlflow_oldest > OUTBOX_LATE
    return Part("warning" if late else "ok", text)
