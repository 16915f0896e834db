"""The models in memory, under the names that clients use, and the free memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from channels.db import database_sync_to_async

from inference.engine.requests.places import place
from inference.gateway import client
from inference.gateway.record import correlation_id
from inference.gateway.request import folders
from inference.protocol import Load, Unload
from registry.audit import Action, audit
from registry.models import BaseModel, ModelVersion
from registry.promotion.resolve import Served
from registry.storage import paths


@dataclass(frozen=True)
class Loaded:
    """A model in memory or being loaded. `share` is how much of its weights is loaded.

    `memory_bytes` are weights, adapters, contexts (of what it answers now) and cached prefixes.
    `leaves_in_s` is None for one that stays: pinned, answering, or with no limit of idling.
    """

    name: str
    base_model: str
    version: str | None
    state: str  # "ready", "verifying", "loading" or "failed"
    pinned: bool = False
    memory_bytes: int = 0
    weights_bytes: int = 0
    adapters_bytes: int = 0
    contexts_bytes: int = 0
    cache_bytes: int = 0
    adapters: int = 0
    adapter_names: tuple[str, ...] = ()
    running: int = 0
    idle_s: float = 0.0
    leaves_in_s: float | None = None
    share: float = 1.0
    seconds: float = 0.0
    error: str = ""


def loaded_models(stats: dict[str, Any]) -> list[Loaded]:
    """From the engine's statistics, with names from the registry; loading ones first."""
    rows = [*stats["loading"], *stats["models"]]
    base_paths = {row["base_path"] for row in rows}
    bases = dict(BaseModel.objects.filter(path__in=base_paths).values_list("path", "name"))
    adapters = {path for row in rows for path in _adapter_paths(row)}
    found = ModelVersion.objects.filter(artifact_path__in=adapters).select_related("model")
    versions = {version.artifact_path: str(version) for version in found}
    return [_loaded(row, bases, versions) for row in rows]


def _adapter_paths(row: dict[str, Any]) -> list[str]:
    return [path for path in (row["adapter_path"], *row.get("adapter_paths", ())) if path]


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
            weights_bytes=row["weights_bytes"],
            share=row["share"],
            seconds=row["seconds"],
            error=row["error"],
        )
    memory = row["memory"]
    return Loaded(
        name,
        base,
        version,
        "ready",
        pinned=row["pinned"],
        memory_bytes=row["nbytes"],
        weights_bytes=memory["weights"],
        adapters_bytes=memory["adapters"],
        contexts_bytes=memory["contexts"],
        cache_bytes=memory["prefixes"],
        adapters=row["adapters"],
        adapter_names=tuple(sorted(versions.get(one, one) for one in row["adapter_paths"])),
        running=row["running"],
        idle_s=row["idle_s"],
        leaves_in_s=row["leaves_in_s"],
    )


# --------------------------------------------------------------------------- room


@dataclass(frozen=True)
class Room:
    """The budget and its use, in bytes. `reclaimable_bytes` are prefixes and idle models that are
    not pinned: they are freed when others need the memory. `taken_bytes` belong to a process beside
    the engine, the training job that `taken_by` names."""

    budget_bytes: int
    held_bytes: int
    reclaimable_bytes: int
    taken_bytes: int = 0
    taken_by: str = ""

    @classmethod
    def of(cls, stats: dict[str, Any]) -> Room:
        return cls(
            stats["budget_bytes"],
            stats["models_bytes"],
            stats["reclaimable_bytes"],
            stats["taken_bytes"],
            stats["taken_by"],
        )

    @property
    def used_bytes(self) -> int:
        """By models and by what is beside them."""
        return self.held_bytes + self.taken_bytes

    @property
    def free_bytes(self) -> int:
        return max(0, self.budget_bytes - self.held_bytes - self.taken_bytes)


@dataclass(frozen=True)
class Fit:
    """Whether a model would fit now: it is `loaded`, it `fits`, idle models `leave` for it, `busy` or
    pinned models or training are in its way, or it is larger than the whole budget (`never`)."""

    model: str
    needed_bytes: int
    verdict: Literal["loaded", "fits", "leave", "busy", "never"]


def fit(served: Served, stats: dict[str, Any]) -> Fit:
    """What the engine would answer to loading `served`, by its own rules; see `Residents`."""
    asked = place(served.base_path, served.adapter_path)
    room = Room.of(stats)
    needed = asked.weights_bytes
    key = tuple(paths.relative(path) if path else "" for path in asked.key)
    if key in {(row["base_path"], row["adapter_path"]) for row in stats["models"]}:
        return Fit(served.label, 0, "loaded")
    if needed > room.budget_bytes:
        return Fit(served.label, needed, "never")
    missing = needed + room.held_bytes + room.taken_bytes - room.budget_bytes
    if missing <= 0:
        return Fit(served.label, needed, "fits")
    enough = missing <= room.reclaimable_bytes
    return Fit(served.label, needed, "leave" if enough else "busy")


# --------------------------------------------------------------------------- loading and unloading


async def load(served: Served, *, pin: bool | None = None, wait: bool = True) -> None:
    """Bring what `served` names into the engine's memory, and keep it there when pinned.

    Without `wait` the engine's statistics show the progress. Raises HubError.
    """
    base, adapter = folders(served)
    request = Load(correlation_id=correlation_id(), base=base, adapter=adapter, pin=pin, wait=wait)
    await client.load(request)
    if pin is not None:
        words = "kept in memory" if pin else "no longer kept in memory"
        await database_sync_to_async(audit)(Action.PIN_CHANGED, served.label, words)


async def unload(served: Served) -> list[str]:
    """Free the memory of the idle model that answers as `served`, pinned or not; the names of
    the models unloaded. A LoRA version shares its base's model, which goes with all its adapters; a DoRA or
    full fine-tune is a model of its own, and goes alone.

    Raises Conflict while it answers, and Unavailable.
    """
    base, adapter = folders(served)
    own = place(served.base_path, served.adapter_path).own
    return await client.unload(Unload(base=base, adapter=adapter if own else None))


async def unload_idle() -> list[str]:
    """Unload every model that is idle and not pinned; their names."""
    return await client.unload(Unload())
