"""The engine as training's neighbour: what it holds, who waits for it, and what may go."""

from __future__ import annotations

import asyncio
from typing import Any

import structlog

from inference import client
from inference.protocol import Folder, Unload
from registry.errors import HubError

_PATIENCE_S = 0.5

log = structlog.get_logger(__name__)


class Engine:
    """Asks the engine over its socket; see `training.neighbours.Neighbours`."""

    def held_bytes(self) -> int:
        return int(self._stats().get("models_bytes", 0))

    def busy_bytes(self) -> int:
        models = self._stats().get("models", [])
        return sum(int(m["nbytes"]) for m in models if m["running"] or m["pinned"])

    def someone_waits(self) -> bool:
        stats = self._stats()
        return bool(stats.get("running", 0) or stats.get("waiting", 0))

    def make_room(self, nbytes: int) -> list[str]:
        models = self._stats().get("models", [])
        idle = [model for model in models if not model["running"] and not model["pinned"]]
        gone: list[str] = []
        for model in sorted(idle, key=lambda model: -model["idle_s"]):
            if nbytes <= 0:
                break
            if _unload(model):
                gone.append(model["base"])
                nbytes -= model["nbytes"]
        return gone

    def _stats(self) -> dict[str, Any]:
        try:
            return client.engine_stats(_PATIENCE_S)
        except (HubError, ValueError):  # none there, or one that ends just now
            return {}


def _unload(model: dict[str, Any]) -> bool:
    adapter = Folder(path=model["adapter_path"]) if model["adapter_path"] else None
    request = Unload(base=Folder(path=model["base_path"]), adapter=adapter, gently=True)
    try:
        return bool(asyncio.run(client.unload(request)))
    except HubError as error:  # somebody began to use it in the meantime, or the engine went
        log.info("model stays", model=model["base"], reason=str(error))
        return False
