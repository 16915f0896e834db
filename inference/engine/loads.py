"""Models being loaded, and their progress."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any, Literal

import structlog

from backends.base import BackendError
from inference.engine.failures import failure
from inference.engine.memory.pins import MOST_DEATHS, Pins
from inference.engine.memory.verification import Verified
from inference.engine.requests.places import Place, place
from inference.engine.thread import GenerationThread
from inference.protocol import Load
from registry.errors import HubError, Unavailable
from registry.storage import paths

KEPT_S = 300.0  # a failed load is reported for so long
PINNED_AGAIN_S = 30.0  # until a pinned model that found no memory is tried again
log = structlog.get_logger(__name__)


@dataclass
class _Progress:
    name: str
    request: Load
    state: Literal["verifying", "loading", "failed"] = "verifying"
    place: Place | None = None
    started: float = field(default_factory=time.monotonic)
    held: int = 0  # bytes that all models held before
    error: str = ""
    stays: bool = False  # reported until the model is loaded

    def stats(self, nbytes: int) -> dict[str, Any]:
        weights = self.place.weights_bytes if self.place else 0
        grown = max(0, nbytes - self.held) if self.state == "loading" else 0
        return {
            "base": self.name,
            "base_path": self.request.base.path,
            "adapter_path": self.request.adapter.path if self.request.adapter else "",
            "state": self.state,
            "weights_bytes": weights,
            "share": round(min(1.0, grown / weights), 3) if weights else 0.0,
            "seconds": round(time.monotonic() - self.started, 1),
            "error": self.error,
        }


class Loads:
    """Loads that were requested, and of pinned models. All of it runs on the event loop."""

    def __init__(self, thread: GenerationThread, verified: Verified, pins: Pins) -> None:
        self._thread = thread
        self._verified = verified
        self._pins = pins
        self._now: list[_Progress] = []
        self._tasks: set[asyncio.Task[str]] = set()
        self._pinned: list[asyncio.Task[None]] = []
        self._one_at_a_time = asyncio.Lock()

    async def load(self, request: Load) -> str:
        """Bring a model into memory; its name. It continues when its client disconnects.

        Raises what verifying and loading raise.
        """
        return await asyncio.shield(self.start(request))

    def start(self, request: Load) -> asyncio.Task[str]:
        """Load in the background; `stats` has the progress."""
        task = asyncio.create_task(self._load(request))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def start_pinned(self) -> None:
        """Load what was pinned when the engine ended, in the order in which it was pinned."""
        for request in self._pins.read():
            if self._pins.deaths(request) >= MOST_DEATHS:
                self._report_death(request)
            else:
                self._pinned.append(asyncio.create_task(self._load_pinned(request)))

    def stop(self) -> None:
        """Stop trying to load what is pinned."""
        for task in self._pinned:
            task.cancel()

    async def _load_pinned(self, request: Load) -> None:
        """Retry while there is no memory for it."""
        while request in self._pins.read():
            try:
                async with self._one_at_a_time:
                    with self._pins.attempt(request):
                        await self.start(request)
                return
            except Unavailable:
                await asyncio.sleep(PINNED_AGAIN_S)
            except (HubError, BackendError):
                return  # reported by `stats`

    def _report_death(self, request: Load) -> None:
        progress = _Progress(_name(request), request, "failed", stays=True)
        progress.error = (
            f"The engine ended {MOST_DEATHS} times while it loaded this pinned model. Free memory and "
            "load it again, or unload it to remove the pin."
        )
        self._now.append(progress)
        log.error("pinned model skipped", model=progress.name)

    def _ended(self, task: asyncio.Task[str]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # reported by `stats` too, whether or not a client waits for it

    async def _load(self, request: Load) -> str:
        name = _name(request)
        self._now = [p for p in self._now if p.state != "failed" or p.name != name]
        progress = _Progress(name, request)
        self._now.append(progress)
        try:
            progress.place = await self._verified.place(request.base, request.adapter)
            await self._thread.look_around(progress.place)
            progress.state, progress.held = "loading", self._thread.nbytes
            await asyncio.wrap_future(self._thread.load(progress.place, request.pin))
        except Exception as error:
            progress.state = "failed"
            failed = failure(error, correlation_id=request.correlation_id)
            progress.error, progress.started = failed.message, time.monotonic()
            raise
        self._now.remove(progress)
        if request.pin:
            self._pins.add(request)
        elif request.pin is False:
            key = progress.place.key  # every LoRA version that was pinned stands for its base
            self._pins.discard(lambda pin: _place(pin).key == key)
        return progress.place.name

    def forget(self, request: Load) -> None:
        """Remove the pin of a model, also for the next restart."""
        base, adapter = request.base.path, request.adapter

        def meant(pin: Load) -> bool:
            same = adapter is None or (pin.adapter is not None and pin.adapter.path == adapter.path)
            return pin.base.path == base and same

        self._pins.discard(meant)
        self._now = [p for p in self._now if not (p.stays and meant(p.request))]

    def stats(self) -> list[dict[str, Any]]:
        """Every load that is running or failed a short while ago."""
        oldest = time.monotonic() - KEPT_S
        self._now = [p for p in self._now if p.state != "failed" or p.stays or p.started > oldest]
        nbytes = self._thread.nbytes
        first = {p.name: p for p in reversed(self._now)}  # several may wait for the same load
        return [progress.stats(nbytes) for progress in first.values()]


def _place(request: Load) -> Place:
    adapter = paths.absolute(request.adapter.path) if request.adapter else None
    return place(paths.absolute(request.base.path), adapter)


def _name(request: Load) -> str:
    name = request.base.path.rpartition("/")[2]
    return f"{name}+{request.adapter.path}" if request.adapter else name
