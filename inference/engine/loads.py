"""Models on their way into memory, and how far they are."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any, Literal

from inference.engine.failures import failure
from inference.engine.pins import Pins
from inference.engine.places import Place
from inference.engine.thread import GenerationThread
from inference.engine.verification import Verified
from inference.protocol import Load

KEPT_S = 300.0  # a failed load is told for so long


@dataclass
class _Progress:
    name: str
    request: Load
    state: Literal["verifying", "loading", "failed"] = "verifying"
    place: Place | None = None
    began: float = field(default_factory=time.monotonic)
    held: int = 0  # bytes that all models held before
    error: str = ""

    def told(self, nbytes: int) -> dict[str, Any]:
        weights = self.place.weights_bytes if self.place else 0
        grown = max(0, nbytes - self.held) if self.state == "loading" else 0
        return {
            "base": self.name,
            "base_path": self.request.base.path,
            "adapter_path": self.request.adapter.path if self.request.adapter else "",
            "state": self.state,
            "weights_bytes": weights,
            "share": round(min(1.0, grown / weights), 3) if weights else 0.0,
            "seconds": round(time.monotonic() - self.began, 1),
            "error": self.error,
        }


class Loads:
    """Loads by hand and of what is pinned. All of it runs on the event loop."""

    def __init__(self, thread: GenerationThread, verified: Verified, pins: Pins) -> None:
        self._thread = thread
        self._verified = verified
        self._pins = pins
        self._now: list[_Progress] = []
        self._tasks: set[asyncio.Task[str]] = set()

    async def load(self, request: Load) -> str:
        """Bring a model into memory; its name. Its client may leave: it goes on.

        Raises what verifying and loading raise.
        """
        return await asyncio.shield(self.begin(request))

    def begin(self, request: Load) -> asyncio.Task[str]:
        """Load in the background; `stats` tells how far it is."""
        task = asyncio.create_task(self._load(request))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def begin_pinned(self) -> None:
        """Load what was pinned when the engine ended, in the order in which it was pinned."""
        for request in self._pins.read():
            self.begin(request)

    def _ended(self, task: asyncio.Task[str]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # told by `stats` as well, whether or not somebody waits for it

    async def _load(self, request: Load) -> str:
        name = request.base.path.rpartition("/")[2]
        if request.adapter:
            name += f"+{request.adapter.path}"
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
            progress.error, progress.began = failed.message, time.monotonic()
            raise
        self._now.remove(progress)
        if request.pin:
            self._pins.add(request)
        elif request.pin is False:
            own = request.adapter.path if request.adapter and progress.place.own else None
            self._pins.discard(request.base.path, own)
        return progress.place.name

    def forget(self, request: Load) -> None:
        """Take the pin of a model away, also over the next restart."""
        adapter = request.adapter.path if request.adapter else None
        self._pins.discard(request.base.path, adapter)

    def stats(self) -> list[dict[str, Any]]:
        """Every load that goes on or failed a short while ago."""
        oldest = time.monotonic() - KEPT_S
        self._now = [p for p in self._now if p.state != "failed" or p.began > oldest]
        nbytes = self._thread.nbytes
        first = {p.name: p for p in reversed(self._now)}  # several may wait for the same load
        return [progress.told(nbytes) for progress in first.values()]
