"""The base models in memory: loading on demand, and eviction of the least recently used.

Everything here runs on the generation thread.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import structlog

from backends.base import Backend, LoadedModel, OutOfMemory
from inference.engine.row import Row
from registry.errors import Conflict, Unavailable

log = structlog.get_logger(__name__)
_NBYTES_EVERY_S = 1.0


class Resident:
    """One base model in memory and the rows that run on it."""

    def __init__(self, path: Path, model: LoadedModel) -> None:
        self.path = path
        self.model = model
        self.rows: dict[str, Row] = {}
        self.adapters: set[Path] = set()
        self.last_used = time.monotonic()
        self.nbytes = model.nbytes
        self._measured = self.last_used

    def touch(self) -> None:
        """Note that it is in use, and measure it when the last measure is old."""
        self.last_used = time.monotonic()
        if self.last_used - self._measured >= _NBYTES_EVERY_S:
            self.measure()

    def measure(self) -> None:
        self.nbytes = self.model.nbytes
        self._measured = time.monotonic()

    def add_adapter(self, path: Path) -> None:
        if path not in self.adapters:
            self.model.add_adapter(path)
            self.adapters.add(path)
            self.measure()


class Residents:
    """All base models in memory, within `budget_bytes`."""

    def __init__(self, backend: Backend, budget_bytes: int) -> None:
        self._backend = backend
        self._loaded: dict[Path, Resident] = {}
        self.budget_bytes = budget_bytes

    def __iter__(self) -> Iterator[Resident]:
        # A copy in one step, so that another thread may read while this one loads.
        return iter(tuple(self._loaded.values()))

    @property
    def nbytes(self) -> int:
        return sum(resident.nbytes for resident in self)

    def get(self, path: Path) -> Resident:
        """The model at `path`, loaded now when it is not yet.

        Raises Unavailable when it does not fit, and whatever the backend's `load` raises.
        """
        resident = self._loaded.get(path) or self._load(path)
        resident.last_used = time.monotonic()
        return resident

    def _load(self, path: Path) -> Resident:
        self._make_room(_weights_bytes(path), path.name)
        began = time.perf_counter()
        try:
            resident = Resident(path, self._backend.load(path))
        except OutOfMemory as error:
            raise Unavailable(
                f"There is not enough memory for {path.name} now; try again soon.", 10
            ) from error
        self._loaded[path] = resident
        seconds = round(time.perf_counter() - began, 2)
        log.info("model loaded", base=path.name, nbytes=resident.nbytes, seconds=seconds)
        return resident

    def _make_room(self, needed: int, name: str) -> None:
        if needed > self.budget_bytes:
            raise Unavailable(
                f"{name} needs {_gib(needed)} and the memory budget is {_gib(self.budget_bytes)}: "
                "raise HUB_MEMORY_BUDGET_GB or use a smaller model.",
                60,
            )
        idle = sorted((r for r in self if not r.rows), key=lambda r: r.last_used)
        for resident in idle:
            if self.nbytes + needed <= self.budget_bytes:
                return
            self.evict(resident)
        if self.nbytes + needed > self.budget_bytes:
            raise Unavailable(f"{name} does not fit beside the models that answer now.", 10)

    def evict(self, resident: Resident) -> None:
        """Close a model; its rows, if any, are the caller's to end."""
        self._loaded.pop(resident.path, None)
        resident.model.close()
        log.info("model unloaded", base=resident.path.name)

    def unload(self, path: Path | None) -> list[str]:
        """Evict the idle model at `path`, or all idle ones; return their folders' names."""
        chosen = [r for r in self if path is None or r.path == path]
        if path is not None and any(r.rows for r in chosen):
            raise Conflict(f"{path.name} answers requests now; unload it when they are done.")
        gone = [r for r in chosen if not r.rows]
        for resident in gone:
            self.evict(resident)
        return [resident.path.name for resident in gone]


def _weights_bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.glob("*.safetensors"))


def _gib(nbytes: int) -> str:
    return f"{nbytes / 2**30:.1f} GiB"
