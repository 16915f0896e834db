"""The models in memory: loaded on demand, unloaded when memory is needed or they are unused.

Everything here runs on the generation thread.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import structlog

from backends.base import Backend, Context, LoadedModel, LoadOptions, OutOfMemory
from inference.engine.memory.neighbours import Taken
from inference.engine.requests.places import Place, same_tokenizer
from inference.engine.requests.row import Row
from registry.errors import Conflict, Unavailable
from registry.storage import paths
from registry.storage.sizes import human

BUFFERS_S = 30.0  # without a request, until unused buffers are given back
SETTLED_S = 2.0  # until a model prepares what later requests need
SOON = 64  # tokens that a row may write between two looks at the memory

log = structlog.get_logger(__name__)
_NBYTES_EVERY_S = 1.0
Key = tuple[Path, Path | None]


@dataclass(frozen=True)
class Limits:
    """What the models may hold, and how they are loaded. `idle_s` 0 is no limit."""

    budget_bytes: int
    idle_s: float = 0.0
    options: LoadOptions = field(default_factory=LoadOptions)


class Resident:
    """One model in memory and the rows that run on it."""

    def __init__(self, place: Place, model: LoadedModel) -> None:
        self.place = place
        self.name = place.name
        self.model = model
        self.rows: dict[str, Row] = {}
        self.adapters: set[Path] = set()
        self.last_used = time.monotonic()
        self.guesses = model.guesses  # that were counted
        self.settled = False
        self.measure()

    def touch(self) -> None:
        """Note that it is in use, and measure it when the last measure is old."""
        self.last_used = time.monotonic()
        if self.last_used - self._measured >= _NBYTES_EVERY_S:
            self.measure()

    def measure(self) -> None:
        """What it holds now; other threads read the figures."""
        self.memory = self.model.memory
        self._measured = time.monotonic()

    @property
    def nbytes(self) -> int:
        return self.memory.total

    @property
    def cache_bytes(self) -> int:
        return self.memory.prefixes

    def shrink_cache(self, most_bytes: int) -> None:
        self.model.shrink_cache(max(0, most_bytes))
        self.measure()

    def limit_cache(self, most_bytes: int) -> None:
        self.model.limit_cache(max(0, most_bytes))
        self.measure()

    def add_adapter(self, path: Path) -> None:
        if path not in self.adapters:
            self.model.add_adapter(path)
            self.adapters.add(path)
            self.measure()

    def growth_bytes(self, *added: Context) -> int:
        """What its rows will probably still take, and with them rows to come."""
        contexts = [row.context for row in self.rows.values()]
        contexts += added
        if not contexts:
            return 0
        self.measure()  # or what its rows took since the last measure would count nowhere
        return max(0, self.model.needed_for(contexts) - self.memory.contexts)

    @property
    def soon_bytes(self) -> int:
        """What its rows will take at most before the memory is looked at again."""
        return self.model.growth(max((row.soon(SOON) for row in self.rows.values()), default=0))


class Residents:
    """All models in memory, within the budget as far as anything can be given back."""

    def __init__(self, backend: Backend, limits: Limits) -> None:
        self._backend = backend
        self._loaded: dict[Key, Resident] = {}
        self._limits = limits
        self.budget_bytes = limits.budget_bytes
        self.taken = Taken()  # of the budget, by others; written by another thread
        self.coming_bytes = 0  # of the model that is being loaded
        self.pinned: set[Key] = set()
        self.evictions = 0

    def __iter__(self) -> Iterator[Resident]:
        # A copy in one step, so that another thread may read while this one loads.
        return iter(tuple(self._loaded.values()))

    @property
    def nbytes(self) -> int:
        """What the models report, or what the device reports when that is more."""
        return max(self._reported, self._backend.memory_bytes() or 0)

    @property
    def soon_bytes(self) -> int:
        """What the running rows will take at most before the memory is looked at again."""
        return sum(one.soon_bytes for one in self)

    @property
    def _reported(self) -> int:
        return sum(resident.nbytes for resident in self)

    @property
    def cache_bytes(self) -> int:
        return sum(resident.cache_bytes for resident in self)

    @property
    def reclaimable_bytes(self) -> int:
        """What `make_room` could free: unused buffers, prefixes, and idle models that are not
        pinned."""
        models = sum(r.nbytes if self._may_go(r) else r.cache_bytes for r in self)
        return models + self._backend.unused_bytes()

    def leaves_in_s(self, resident: Resident) -> float | None:
        """Seconds until a model is unloaded for being idle; None when it stays."""
        if not self._limits.idle_s or not self._may_go(resident):
            return None
        return max(0.0, self._limits.idle_s - (time.monotonic() - resident.last_used))

    def holds(self, place: Place) -> bool:
        return place.key in self._loaded

    def get(self, place: Place) -> Resident:
        """The model at `place`, loaded now when it is not yet.

        Raises Unavailable when it does not fit, and what the backend's `load` raises.
        """
        resident = self._loaded.get(place.key) or self._load(place)
        resident.last_used = time.monotonic()
        if place.shared_adapter is not None:
            resident.add_adapter(place.shared_adapter)
        return resident

    def _load(self, place: Place) -> Resident:
        needed = place.weights_bytes
        if needed > self.budget_bytes:
            raise Unavailable(
                f"{place.name} needs {human(needed)} and the memory budget is "
                f"{human(self.budget_bytes)}: raise HUB_MEMORY_BUDGET_GB or use a smaller model.",
                60,
            )
        if not self.make_room(needed):
            raise self._beside_others(place, needed) or Unavailable(
                f"{place.name} does not fit beside the busy and pinned models; unload one or try again soon.",
                10,
            )
        started = time.perf_counter()
        own = place.adapter if place.own else None
        self.coming_bytes = needed
        try:
            model = self._backend.load(place.base, own, self._options(place))
        except OutOfMemory as error:
            raise Unavailable(
                f"There is not enough memory for {place.name} now; try again soon.", 10
            ) from error
        finally:
            self.coming_bytes = 0
        resident = self._loaded[place.key] = Resident(place, model)
        self._limit_caches(self._still_needed())
        seconds = round(time.perf_counter() - started, 2)
        log.info("model loaded", model=place.name, nbytes=resident.nbytes, seconds=seconds)
        return resident

    def _beside_others(self, place: Place, needed: int) -> Unavailable | None:
        """The error when the model would fit but for other processes that use the budget."""
        taken = self.taken
        if not taken.nbytes or self._missing(needed) > taken.nbytes:
            return None
        return Unavailable(
            f"{place.name} needs {human(needed)}, and {taken.by} takes {human(taken.nbytes)} of the "
            f"memory budget of {human(self.budget_bytes)}: wait until it ends, or pause it.",
            30,
        )

    def _options(self, place: Place) -> LoadOptions:
        """A cache on disk serves only these bytes of the base; a draft needs the same tokenizer."""
        options = self._limits.options
        folder, draft = options.cache_dir, options.draft
        if folder is not None:
            folder = folder / f"{place.name}-{place.identity[:16] or 'unknown'}"
        if draft is not None and (draft == place.base or not same_tokenizer(draft, place.base)):
            draft = None
        return replace(options, cache_dir=folder, draft=draft)

    def has_room_for(self, resident: Resident, context: Context) -> bool:
        """Whether a row fits beside what runs, after freeing what is unused now."""
        return self._promise(resident, self._still_needed(resident, context))

    def has_room_aside(self, resident: Resident, nbytes: int) -> bool:
        """Whether `resident` may take so many bytes for a while, between two steps, beside what runs."""
        return self._promise(resident, self._still_needed() + nbytes)

    def _promise(self, resident: Resident, needed: int) -> bool:
        found = self.make_room(needed, keep=resident)
        if found:
            self._limit_caches(needed, resident)
        return found

    def _limit_caches(self, promised: int, *coming: Resident) -> None:
        """Let prefixes take what is left of the budget beside what is `promised`, and no more: between
        two looks at the memory they grow by whole prompts. `coming` get a row now."""
        # Buffers that are kept now are among those that were promised.
        kept = self._backend.unused_bytes() if self._limits.options.unused_bytes else 0
        held = max(self._reported, (self._backend.memory_bytes() or 0) - kept)
        left = self.budget_bytes - self.taken.nbytes - held - promised
        growing = [one for one in self if one.rows or one in coming]
        for one in self:
            share = left // len(growing) if one in growing else 0
            one.limit_cache(one.cache_bytes + share)

    def keep_room(self) -> None:
        """Give back the prefixes and idle models that have come in the way of what the running rows were
        promised: the beginning of a row is kept for others while the row itself still grows."""
        if any(one.rows for one in self):
            needed = self._still_needed()
            self.make_room(needed)
            self._limit_caches(needed)

    def _still_needed(self, resident: Resident | None = None, *added: Context) -> int:
        """Bytes for the running rows to end, and for those `added` on `resident`; freed buffers that may
        be kept included, which the next steps fill again."""
        growth = sum(one.growth_bytes(*added if one is resident else ()) for one in self)
        return growth + (self._limits.options.unused_bytes or 0)

    def make_room(self, needed: int, keep: Resident | None = None) -> bool:
        """Free memory until `needed` bytes are available: unused buffers first, then prefixes, then the
        idle models that were used longest ago. Whether that was enough."""
        if self._missing(needed) <= 0:
            return True
        self._backend.free_unused()
        oldest = sorted(self, key=lambda r: r.last_used)
        for resident in oldest:
            resident.measure()
        for resident in oldest:
            if (missing := self._missing(needed)) > 0 and resident.cache_bytes:
                resident.shrink_cache(resident.cache_bytes - missing)
        for resident in oldest:
            if self._missing(needed) > 0 and resident is not keep and self._may_go(resident):
                self.evict(resident)
        return self._missing(needed) <= 0

    def _missing(self, needed: int) -> int:
        return self.nbytes + needed + self.taken.nbytes - self.budget_bytes

    def _may_go(self, resident: Resident) -> bool:
        return not resident.rows and resident.place.key not in self.pinned

    def evict(self, resident: Resident) -> None:
        """Close a model; its rows, if any, are the caller's to end."""
        if self._loaded.pop(resident.place.key, None) is not None:
            resident.model.close()
            self.evictions += 1
            log.info("model unloaded", model=resident.name)

    def stats(self) -> dict[str, Any]:
        """For any thread."""
        return {
            "models": [
                {
                    "base": one.name,
                    "base_path": paths.relative(one.place.base),
                    "adapter_path": _relative(one.place.key[1]),
                    "nbytes": one.nbytes,
                    "memory": asdict(one.memory),
                    "cache_bytes": one.cache_bytes,
                    "adapters": len(one.adapters),
                    "adapter_paths": [_relative(path) for path in tuple(one.adapters)],
                    "running": len(one.rows),
                    "idle_s": round(time.monotonic() - one.last_used, 1),
                    "leaves_in_s": self.leaves_in_s(one),
                    "pinned": one.place.key in self.pinned,
                }
                for one in self
            ],
            "models_bytes": self.nbytes,
            "coming_bytes": self.coming_bytes,
            "budget_bytes": self.budget_bytes,
            "reclaimable_bytes": self.reclaimable_bytes,
            "taken_bytes": self.taken.nbytes,
            "taken_by": self.taken.by,
            "cache_bytes": self.cache_bytes,
            "evictions": self.evictions,
        }

    def evict_unused(self) -> float | None:
        """Evict what has been idle for too long, and give back buffers that no request has needed for a
        while; seconds until there will be something more. For an engine without work."""
        left = []
        if self._backend.unused_bytes():
            used = max((resident.last_used for resident in self), default=0.0)
            if (until := used + BUFFERS_S - time.monotonic()) > 0:
                left.append(until)
            else:
                self._backend.free_unused()
        for resident in self:
            rest = self.leaves_in_s(resident)
            if rest == 0:
                self.evict(resident)
            elif rest is not None:
                left.append(rest)
        return min(left, default=None)

    def settle(self) -> float | None:
        """The same for models that have never been at rest: they prepare what later requests need. One that
        cannot is loaded again by the next request."""
        left = []
        for resident in self:
            if resident.settled:
                continue
            if (until := resident.last_used + SETTLED_S - time.monotonic()) > 0:
                left.append(until)
                continue
            resident.settled = True
            try:
                resident.model.settle()
            except Exception:
                log.exception("model not prepared", model=resident.name)
                self.evict(resident)
        return min(left, default=None)

    def unload(self, key: Key | None, gently: bool = False) -> list[str]:
        """Evict the idle model `key` names, pinned or not, or all idle ones that are not pinned;
        return their names. A base named alone takes the fine-tunes loaded from it along; `gently`
        it does not, and pinned ones stay. Raises Conflict."""
        if gently:
            chosen = [r for r in self if r.place.key == key]
        else:
            chosen = [r for r in self if key is None or _meant(key, r)]
        if key is not None and any(r.rows for r in chosen):
            name = next(r.name for r in chosen if r.rows)
            raise Conflict(f"{name} is answering requests; unload it when they are done.")
        if key is not None and not gently:
            self.pinned -= {r.place.key for r in chosen} | {key}
        gone = [r for r in chosen if self._may_go(r)]
        for resident in gone:
            self.evict(resident)
        return [resident.name for resident in gone]


def _meant(key: Key, resident: Resident) -> bool:
    base, own = key
    return resident.place.key == key if own else resident.place.base == base


def _relative(path: Path | None) -> str:
    return paths.relative(path) if path else ""
