"""The engine and the models in its memory, over JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from asgiref.sync import sync_to_async
from django.http import HttpRequest
from ninja import Field, Query, Router, Schema, Status

from inference.gateway.client import aengine_stats
from inference.gateway.generation import aresolve
from inference.loaded import Loaded, Room, fit, load, loaded_models, unload, unload_idle

router = Router(tags=["inference"])
_NAME = Field(min_length=1, max_length=250, description="NAME, NAME@1.2.0, NAME@alias, base:NAME")


class LoadedOut(Schema):
    """A model in memory (`ready`) or being loaded. `share` of its weights is loaded, 0 to 1."""

    name: str
    base_model: str
    version: Annotated[str | None, Field(description="Of a fine-tune that does not share its base")]
    state: str
    pinned: bool
    memory_bytes: Annotated[int, Field(description="The sum of the next four")]
    weights_bytes: Annotated[int, Field(description="While it loads: the final size")]
    adapters_bytes: int
    contexts_bytes: Annotated[int, Field(description="Keys and values of running requests")]
    cache_bytes: Annotated[int, Field(description="Prefixes, which can be freed")]
    adapters: int
    adapter_names: Annotated[list[str], Field(description="Versions that share it")]
    running: int
    idle_s: float
    leaves_in_s: Annotated[
        float | None, Field(description="Seconds until it is unloaded; null if it stays")
    ]
    share: float
    seconds: Annotated[float, Field(description="Since loading started")]
    error: str


class LoadIn(Schema):
    """`pinned` keeps it in memory, also over a restart (true), or no longer (false)."""

    model: Annotated[str, _NAME]
    pinned: bool | None = None
    wait: Annotated[bool, Field(description="Answer only when it is loaded or has failed")] = False


class FitOut(Schema):
    """Whether a model would fit: it is `loaded`, it `fits`, idle ones `leave` for it, `busy` or pinned
    ones are in its way, or it is larger than the whole budget (`never`)."""

    model: str
    needed_bytes: int
    verdict: str


class RoomOut(Schema):
    """The memory budget. Reclaimable memory (prefixes, idle models) is freed when others need it;
    taken memory belongs to a running training job."""

    budget_bytes: int
    held_bytes: int
    free_bytes: int
    reclaimable_bytes: int
    taken_bytes: int
    taken_by: str
    fit: FitOut | None = None


class UnloadedOut(Schema):
    unloaded: list[str]


@router.get("/inference/engine", summary="What the engine holds and does")
async def engine(request: HttpRequest) -> dict[str, Any]:
    """Models in memory, running and waiting requests, tokens generated, memory and device."""
    return await aengine_stats()


@router.get("/inference/models", response=list[LoadedOut], summary="Models in memory")
async def models(request: HttpRequest) -> list[Loaded]:
    """Loaded models, loading ones with their progress, and loads that failed in the last minutes."""
    return await sync_to_async(loaded_models)(await aengine_stats())


@router.get("/inference/memory", response=RoomOut, summary="The memory budget, and what is free")
async def memory(
    request: HttpRequest,
    model: Annotated[
        str | None, Query(description="Also check whether this model would fit")
    ] = None,
) -> dict[str, Any]:
    """With `model` also whether it would fit now."""
    stats = await aengine_stats()
    room = Room.of(stats)
    found = await sync_to_async(fit)(await aresolve(model), stats) if model else None
    return {**asdict(room), "free_bytes": room.free_bytes, "fit": found}


@router.post(
    "/inference/models",
    response={200: list[LoadedOut], 202: list[LoadedOut]},
    summary="Bring a model into memory",
)
async def load_model(request: HttpRequest, payload: LoadIn) -> Status[list[Loaded]]:
    """202 at once, and GET shows the progress; with `wait` 200 when it is loaded."""
    served = await aresolve(payload.model)
    await load(served, pin=payload.pinned, wait=payload.wait)
    return Status(200 if payload.wait else 202, await models(request))


@router.delete(
    "/inference/models", response=UnloadedOut, summary="Give back what is idle and not pinned"
)
async def unload_models(request: HttpRequest) -> dict[str, list[str]]:
    return {"unloaded": await unload_idle()}


@router.delete(
    "/inference/models/{path:name}", response=UnloadedOut, summary="Give a model's memory back"
)
async def unload_model(request: HttpRequest, name: str) -> dict[str, list[str]]:
    """Pinned or not; 409 while it answers requests. A LoRA version shares its base's memory, which
    is freed with all adapters."""
    return {"unloaded": await unload(await aresolve(name))}
