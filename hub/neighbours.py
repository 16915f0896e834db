"""The engine as training's neighbour: what it holds, who waits for it, and what may go."""

from __future__ import annotations

import asyncio
from typing import Any

import structlog

from inference import client
from inference.protocol import Folder, Unload
from registry import paths
from registry.errors import HubError

_PATIENCE_S = 0.5

log = structlog.get_logger(__name__)


class Engine:
    """Asks the engine over its socket; see `training.neighbours.Neighbours`."""

    def held_bytes(self) -> int:
        return int(self._stats().get("models_bytes", 0))

    def busy_bytes(self) -> int:
        models = self._stats().get("models", [])
        return sum(int(model["nbytes"]) for model in models if model["running"])

    def someone_waits(self) -> bool:
        stats = self._stats()
        return bool(stats.get("running", 0) or stats.get("waiting", 0))

    def make_room(self, nbytes: int) -> list[str]:
        idle = [model for model in self._stats().get("models", []) if not model["running"]]
        gone: list[str] = []
        for model in sorted(idle, key=lambda model: -model["idle_s"]):
            if nbytes <= 0:
                break
            if _unload(model["base"]):
                gone.append(model["base"])
                nbytes -= model["nbytes"]
        return gone

    def _stats(self) -> dict[str, Any]:
        try:
            return client.engine_stats(_PATIENCE_S)
        except (HubError, ValueError):  # none there, or one that ends just now
            return {}


def _unload(base: str) -> bool:
    folder = Folder(path=paths.relative(paths.base_dir(base)))
    try:
        return bool(asyncio.run(client.unload(Unload(base=folder))))
    except HubError as error:  # somebody began to use it in the meantime, or the engine went
        log.info("model stays", base=base, reason=str(error))
        return False
