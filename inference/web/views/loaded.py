"""Models in memory: what each holds, what is free; loading, pinning and unloading them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from asgiref.sync import async_to_sync
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from inference.gateway.client import engine_stats
from inference.loaded import Room, fit, load, loaded_models, unload, unload_idle
from inference.playground.offered import grouped
from registry.errors import HubError
from registry.promotion.resolve import Served, resolve, served_names
from registry.web.htmx import HtmxRequest

NAMES_OFFERED = 50
_TEMPLATE = "inference/loaded.html"


@dataclass(frozen=True)
class Part:
    """A piece of the bar that shows the budget; `start` and `share` are percent."""

    label: str
    nbytes: int
    start: float
    share: float


@never_cache
@require_GET
def loaded(request: HtmxRequest) -> HttpResponse:
    """The page; for htmx what is in memory, or whether the chosen model would fit."""
    model = request.GET.get("model", "").strip()
    if request.htmx and request.htmx.target == "fit":
        return render(request, f"{_TEMPLATE}#fit", _room_for(model, _stats()))
    if request.htmx and not request.htmx.history_restore_request:
        return render(request, f"{_TEMPLATE}#live", _now(_stats()))
    stats = _stats()
    names = served_names(request.GET.get("q", "").strip(), NAMES_OFFERED)
    context = {**_now(stats), **_room_for(model, stats), "groups": grouped(names), "model": model}
    return render(request, _TEMPLATE, context)


@require_POST
def load_model(request: HtmxRequest) -> HttpResponse:
    """Start loading; the page shows the progress."""
    pin = True if request.POST.get("pinned") else None
    return _change(request, lambda served: load(served, pin=pin, wait=False))


@require_POST
def pin_model(request: HtmxRequest) -> HttpResponse:
    pin = request.POST.get("pinned") == "1"
    return _change(request, lambda served: load(served, pin=pin))


@require_POST
def unload_model(request: HtmxRequest) -> HttpResponse:
    return _change(request, unload)


@require_POST
def unload_idle_models(request: HtmxRequest) -> HttpResponse:
    try:
        async_to_sync(unload_idle)()
    except HubError as error:
        return _answer(request, str(error))
    return _answer(request)


def _change(
    request: HtmxRequest, act: Callable[[Served], Coroutine[Any, Any, object]]
) -> HttpResponse:
    """Change the named model; then show what is in memory, and the problem if there was one."""

    async def acting(served: Served) -> None:
        await act(served)

    try:
        async_to_sync(acting)(resolve(request.POST.get("model", "").strip()))
    except HubError as error:
        return _answer(request, str(error))
    return _answer(request)


def _answer(request: HtmxRequest, problem: str = "") -> HttpResponse:
    if request.htmx:
        context = {**_now(_stats()), "answers": True, "problem": problem}
        return render(request, f"{_TEMPLATE}#live", context)
    if problem:
        messages.error(request, problem)
    return redirect("loaded")


def _stats() -> dict[str, Any] | None:
    try:
        return engine_stats(timeout=1.0)
    except (HubError, OSError):
        return None


def _now(stats: dict[str, Any] | None) -> dict[str, Any]:
    if stats is None:
        return {"engine": None}
    rows = loaded_models(stats)
    return {
        "engine": stats,
        "rows": rows,
        "busy": any(row.state in ("verifying", "loading") for row in rows),
        "room": Room.of(stats),
        "parts": _parts(stats),
    }


def _parts(stats: dict[str, Any]) -> list[Part]:
    """What the budget is used for. The device may hold more than the models report."""
    held = [model["memory"] for model in stats["models"]]
    sizes = {
        "Weights": sum(memory["weights"] for memory in held),
        "Adapters": sum(memory["adapters"] for memory in held),
        "Contexts of running requests": sum(memory["contexts"] for memory in held),
        "Cached prefixes": sum(memory["prefixes"] for memory in held),
    }
    computing, training = "In use for computing", stats["taken_by"].capitalize()
    sizes[computing] = max(0, stats["models_bytes"] - sum(sizes.values()))
    sizes[training] = stats["taken_bytes"]
    whole = max(stats["budget_bytes"], stats["models_bytes"] + stats["taken_bytes"]) or 1
    parts, start = [], 0.0
    for label, nbytes in sizes.items():
        if not nbytes and label in (computing, training):
            continue
        parts.append(Part(label, nbytes, start, share := 100 * nbytes / whole))
        start += share
    return parts


def _room_for(model: str, stats: dict[str, Any] | None) -> dict[str, Any]:
    if not model or stats is None:
        return {"fit": None}
    try:
        return {"fit": fit(resolve(model), stats), "room": Room.of(stats)}
    except HubError as error:
        return {"fit": None, "unfit": str(error)}
