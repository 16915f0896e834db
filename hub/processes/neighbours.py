"""How training and inference, which do not import each other, share one machine.

Training asks the engine what memory it holds, whether requests are waiting, and to evict models.
The engine asks how much of the memory budget a running training job needs.
"""

from __future__ import annotations

import asyncio
from typing import Any

import django
import structlog
from django.apps import apps
from django.db import DatabaseError, InterfaceError

from inference.engine.memory.neighbours import Taken
from inference.gateway import client, database
from inference.protocol import Folder, Unload
from registry.errors import HubError
from registry.storage import paths

_PATIENCE_S = 0.5
_READ_S = 3.0

log = structlog.get_logger(__name__)


class Engine:
    """Asks the engine over its socket; see `training.machine.neighbours.Neighbours`."""

    def held_bytes(self) -> int:
        stats = self._stats()
        return int(stats.get("models_bytes", 0)) + int(stats.get("coming_bytes", 0))

    def busy_bytes(self) -> int:
        models = self._stats().get("models", [])
        return sum(int(m["nbytes"]) for m in models if m["running"] or m["pinned"])

    def someone_waits(self) -> bool:
        stats = self._stats()
        return bool(stats.get("running", 0) or stats.get("waiting", 0))

    def make_room(self, nbytes: int) -> list[str]:
        models = self._stats().get("models", [])
        idle = [model for model in models if not model["running"] and not model["pinned"]]
        evicted: list[str] = []
        for model in sorted(idle, key=lambda model: -model["idle_s"]):
            if nbytes <= 0:
                break
            if _unload(model):
                evicted.append(model["base"])
                nbytes -= model["nbytes"]
        return evicted

    def _stats(self) -> dict[str, Any]:
        try:
            return client.engine_stats(_PATIENCE_S)
        except (HubError, ValueError):  # no engine, or one that is just exiting
            return {}


def _unload(model: dict[str, Any]) -> bool:
    adapter = Folder(path=model["adapter_path"]) if model["adapter_path"] else None
    request = Unload(base=Folder(path=model["base_path"]), adapter=adapter, gently=True)
    try:
        return bool(asyncio.run(client.unload(request)))
    except HubError as error:  # a request started using it, or the engine exited
        log.info("model not evicted", model=model["base"], reason=str(error))
        return False


class Training:
    """Reads the running job's row; see `inference.engine.memory.neighbours.Neighbours`. Django's tables
    are imported with the first job: they are 15 MB of an engine, most of which never see one."""

    def __init__(self) -> None:
        self._last = Taken()

    def taken(self) -> Taken:
        """The running job's expected peak, or its measured peak if that is higher."""
        try:
            if not paths.training_mark().exists():
                self._last = Taken()
                return self._last
            if not apps.ready:
                django.setup()
            found = database.ask(_running_job, _READ_S)
        except (DatabaseError, InterfaceError, OSError) as error:
            log.warning("cannot read the running job", error=str(error))
            return self._last
        self._last = Taken()
        if found is not None:
            job, expected, measured = found
            self._last = Taken(max(expected or 0, measured or 0), f"training job {job}")
        return self._last


def _running_job() -> tuple[int, int | None, int | None] | None:
    from training.models import TrainingJob

    running = TrainingJob.objects.running()
    return running.values_list("pk", "memory_estimate_bytes", "peak_memory_bytes").first()
