"""Whether the hub is alive and ready, with one reason per part.

`failed` in any part makes the hub not ready (503); a `warning` does not. Nothing here imports
MLflow or MLX or waits longer than a second for a part: a probe must stay cheap.
"""

from __future__ import annotations

import datetime
import os
import shutil
from dataclasses import asdict, dataclass
from typing import Any, Literal

from django.db import DatabaseError, connection
from django.http import HttpRequest, JsonResponse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from hub.config import config
from hub.models import SystemSample
from hub.monitoring.samples import WRITE_EVERY_S
from hub.processes import presence
from inference.gateway.client import engine_stats
from registry.errors import HubError
from registry.mlflow import outbox
from registry.storage import paths
from registry.storage.sizes import GB, human

LOW_DISK_BYTES = 5 * GB  # a base model and a few checkpoints
NO_DISK_BYTES = 200 * 10**6
OUTBOX_LATE = datetime.timedelta(minutes=5)


@dataclass(frozen=True)
class Part:
    """One part's status; `reason` is a sentence for a person."""

    status: Literal["ok", "warning", "failed"]
    reason: str


def parts() -> dict[str, Part]:
    """The status of every part."""
    found = {"database": _database()}
    found["engine"] = _engine()
    found["worker"] = _process("worker", "training jobs wait until it restarts")
    found["sampler"] = _sampler(found["database"])
    found["storage"] = _storage()
    found["mlflow"] = _outbox(found["database"])
    return found


@require_safe
@never_cache
def view(request: HttpRequest) -> JsonResponse:
    """GET /health: any response means live; `ready` and the status code say the rest."""
    found = parts()
    ready = all(part.status != "failed" for part in found.values())
    body = {"live": True, "ready": ready, "parts": {n: asdict(p) for n, p in found.items()}}
    return JsonResponse(body, status=200 if ready else 503)


def _database() -> Part:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError as error:
        return Part("failed", f"Cannot connect to the database: {str(error).splitlines()[0]}")
    return Part("ok", f"Connected ({connection.display_name})")


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


def _sampler(database: Part) -> Part:
    part = _process("sampler", "crashed jobs are not recovered and the dashboard is not updated")
    if part.status == "failed" or database.status == "failed":
        return part
    newest = SystemSample.objects.values_list("created_at", flat=True).first()
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


def _outbox(database: Part) -> Part:
    if database.status == "failed":
        return Part("warning", "Unknown, because the database is not available.")
    rejected = outbox.given_up().count()
    if rejected:
        text = f"MLflow rejected {rejected} updates; see the reasons and retry them in the admin."
        return Part("warning", text)
    pending = outbox.waiting()
    oldest = pending.order_by("pk").values_list("created_at", flat=True).first()
    if oldest is None:
        return Part("ok", "MLflow is in sync.")
    text = f"{pending.count()} updates waiting for MLflow, the oldest since {oldest:%H:%M:%S} UTC."
    return Part("warning" if timezone.now() - oldest > OUTBOX_LATE else "ok", text)
