"""The models in memory under the names by which they are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from inference import client
from inference.protocol import Load, Unload
from inference.record import correlation_id, folders
from registry.models import BaseModel, ModelVersion
from registry.resolve import Served


@dataclass(frozen=True)
class Loaded:
    """A model in memory or on its way there. `share` is how much of its weights has come."""

    name: str
    base_model: str
    version: str | None
    state: str  # "ready", "verifying", "loading" or "failed"
    pinned: bool = False
    memory_bytes: int = 0
    cache_bytes: int = 0
    adapters: int = 0
    running: int = 0
    idle_s: float = 0.0
    share: float = 1.0
    seconds: float = 0.0
    error: str = ""


def loaded_models(stats: dict[str, Any]) -> list[Loaded]:
    """What the engine's statistics tell, with names from the registry; first what comes."""
    told = [*stats["loading"], *stats["models"]]
    paths = {row["base_path"] for row in told}
    bases = dict(BaseModel.objects.filter(path__in=paths).values_list("path", "name"))
    adapters = {row["adapter_path"] for row in told if row["adapter_path"]}
    found = ModelVersion.objects.filter(artifact_path__in=adapters).select_related("model")
    versions = {version.artifact_path: str(version) for version in found}
    return [_loaded(row, bases, versions) for row in told]


def _loaded(row: dict[str, Any], bases: dict[str, str], versions: dict[str, str]) -> Loaded:
    base = bases.get(row["base_path"], row["base"])
    path = row["adapter_path"]
    version = versions.get(path, path) or None
    name = version or f"base:{base}"
    if "state" in row:
        return Loaded(
            name,
            base,
            version,
            row["state"],
            share=row["share"],
            seconds=row["seconds"],
            error=row["error"],
        )
    return Loaded(
        name,
        base,
        version,
        "ready",
        pinned=row["pinned"],
        memory_bytes=row["nbytes"],
        cache_bytes=row["cache_bytes"],
        adapters=row["adapters"],
        running=row["running"],
        idle_s=row["idle_s"],
    )


async def load(served: Served, *, pin: bool | None = None, wait: bool = True) -> None:
    """Bring what `served` names into the engine's memory, and keep it there when pinned.

    Without `wait` the engine's statistics tell how far it is. Raises HubError.
    """
    base, adapter = folders(served)
    request = Load(correlation_id=correlation_id(), base=base, adapter=adapter, pin=pin, wait=wait)
    await client.load(request)


async def unload(served: Served) -> list[str]:
    """Give back the memory of the idle model that answers as `served`, pinned or not; the names of
    what went. A LoRA version shares its base's model, which goes with all its adapters.

    Raises Conflict while it answers, and Unavailable.
    """
    base, adapter = folders(served)
    gone: list[str] = []
    if adapter is not None:
        gone = await client.unload(Unload(base=base, adapter=adapter))
    return gone or await client.unload(Unload(base=base))
