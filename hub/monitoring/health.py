"""Is the hub alive, and can it do its work? One reason per part.

`failed` in any part makes the hub not ready (503); a `warning` does not. Nothing here imports
MLflow or MLX or waits longer than a second for any part: a probe must not become a load.
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
    """One part's state and why; `reason` is a sentence for a person."""

    status: Literal["ok", "warning", "failed"]
    reason: str


def parts() -> dict[str, Part]:
    """Every part's state."""
    found = {"database": _database()}
    found["engine"] = _engine()
    found["worker"] = _process("worker", "training jobs wait until it is back")
    found["sampler"] = _sampler(found["database"])
    found["storage"] = _storage()
    found["mlflow"] = _outbox(found["database"])
    return found


@require_safe
@never_cache
def view(request: HttpRequest) -> JsonResponse:
    """GET /health: that it answers says live; `ready` and the status code say the rest."""
    found = parts()
    ready = all(part.status != "failed" for part in found.values())
    body = {"live": True, "ready": ready, "parts": {n: asdict(p) for n, p in found.items()}}
    return JsonResponse(body, status=200 if ready else 503)


def _database() -> Part:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError as error:
        return Part("failed", f"The database does not answer: {str(error).splitlines()[0]}")
    return Part("ok", f"{connection.display_name} answers.")


def running_engine_stats() -> dict[str, Any] | None:
    """The engine's statistics, or None while it does not answer."""
    try:
        return engine_stats(timeout=1.0)
    except (HubError, OSError):
        return None


def _engine() -> Part:
    stats = running_engine_stats()
    if stats is None:
        return Part("failed", "The engine does not answer; nothing can be generated until it does.")
    return Part("ok", f"{stats['running']} running, {stats['waiting']} waiting.")


def _process(name: str, consequence: str) -> Part:
    pid = presence.pid(name)
    if pid is None:
        return Part("failed", f"The {name} is not running; {consequence}.")
    return Part("ok", f"The {name} runs as process {pid}.")


def _sampler(database: Part) -> Part:
    part = _process("sampler", "dead jobs are not noticed and the dashboard stands still")
    if part.status == "failed" or database.status == "failed":
        return part
    newest = SystemSample.objects.values_list("created_at", flat=True).first()
    late = datetime.timedelta(seconds=3 * config.sample_every_s + 10)
    if newest and timezone.now() - newest > late:
        return Part("warning", f"The sampler's last sample is from {newest:%H:%M:%S} UTC.")
    return part


def _storage() -> Part:
    root = paths.root()
    if not os.access(root, os.W_OK):
        return Part("failed", "The storage folder cannot be written.")
    free = shutil.disk_usage(root).free
    text = f"{human(free)} free."
    if free < NO_DISK_BYTES:
        return Part("failed", f"The disk is full: {text}")
    return Part("warning" if free < LOW_DISK_BYTES else "ok", text)


def _outbox(database: Part) -> Part:
    if database.status == "failed":
        return Part("warning", "Unknown without the database.")
    refused = outbox.given_up().count()
    if refused:
        text = f"MLflow refused {refused} entries for good; see why and retry them in the admin."
        return Part("warning", text)
    pending = outbox.waiting()
    oldest = pending.order_by("pk").values_list("created_at", flat=True).first()
    if oldest is None:
        return Part("ok", "MLflow has been told everything.")
    text = f"{pending.count()} entries wait for MLflow, the oldest since {oldest:%H:%M:%S} UTC."
    return Part("warning" if timezone.now() - oldest > OUTBOX_LATE else "ok", text)
