"""The generation thread: it alone touches the backend, from loading to closing.

Commands and rows go in under one condition; events come out in one `call_soon_threadsafe` per
turn. MLX binds what it computes to the thread that began it, which is why nothing here may
move to another one.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import asdict
from pathlib import Path
from typing import Any

import structlog

from backends.base import Backend, DeviceInfo, Message
from inference.engine.failures import failing, failure, out_of_budget, stopping
from inference.engine.memory import neighbours
from inference.engine.memory.residents import Key, Limits, Resident, Residents
from inference.engine.rows.places import Place
from inference.engine.rows.rendering import Rendering
from inference.engine.rows.row import Row
from inference.engine.rows.waiting import Waiting
from inference.protocol import Event
from registry.errors import TooManyRequests
from registry.storage import paths

log = structlog.get_logger(__name__)
_MEMORY_EVERY_S = 0.25
_LOOK_EVERY_S = 1.0  # at those who share the budget
_LOOK_PATIENCE_S = 3.0
_BLOCKED_S = 0.1


class GenerationThread:
    """Runs at most `max_rows` rows at once and lets `max_queue` more wait."""

    def __init__(
        self,
        backend: Backend,
        *,
        max_rows: int,
        max_queue: int,
        limits: Limits,
        ended: Callable[[], None],
    ) -> None:
        self._ended = ended  # called on the event loop when the thread ends, for whatever reason
        self._backend = backend
        self._residents = Residents(backend, limits)
        self._max_rows = max_rows
        self._max_queue = max_queue
        self._wake = threading.Condition()
        self._commands: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._waiting = Waiting()
        self._embedding: Counter[str] = Counter()  # requests that run, by key
        self._stopping = False
        self._outbox: list[tuple[Row, Event]] = []
        self._loop: asyncio.AbstractEventLoop
        self._thread = threading.Thread(target=self._run, name="generation", daemon=True)
        self.rendering = Rendering()
        self.failed = False  # it ended by an error of its own
        self._device: DeviceInfo | None = None
        self._memory_checked = 0.0
        self._looked = float("-inf")
        self._seconds = 1.0  # that a request takes, lately
        self._counts: Counter[str] = Counter()

    # ------------------------------------------------------- called on the event loop

    def start(self) -> Future[DeviceInfo]:
        """Start the thread. The future fails when the backend cannot run here."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()
        return self.call(self._find_device)

    def stop(self) -> None:
        """End what still runs with an error, close the models, and end the thread."""
        with self._wake:
            self._stopping = True
            self._wake.notify()

    def join(self, timeout: float) -> bool:
        """Whether the thread ended within `timeout` seconds."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def submit(self, row: Row) -> int:
        """Queue a row and return how many will run before it. Raises TooManyRequests."""
        with self._wake:
            if self._stopping:
                raise stopping()
            waiting = len(self._waiting)
            try:
                if waiting + self.running >= self._max_rows + self._max_queue:
                    raise TooManyRequests(
                        f"{waiting} requests wait already; send this one again in "
                        f"{self.patience} seconds.",
                        self.patience,
                    )
                self._waiting.add(row, self.patience)
            except TooManyRequests:
                self._counts["refused"] += 1
                raise
            self._wake.notify()
            return self._waiting.before(row)

    @property
    def patience(self) -> int:
        """Seconds until what waits now will probably have been begun."""
        rounds = (len(self._waiting) + 1) / self._max_rows
        return max(1, min(60, math.ceil(rounds * self._seconds)))

    async def look_around(self, place: Place | None = None) -> None:
        """Learn what others take of the budget; always for a model that is to be loaded."""
        now = time.monotonic()
        held = place is None or self._residents.holds(place)
        if held and now - self._looked < _LOOK_EVERY_S:
            return
        self._looked = now
        try:
            async with asyncio.timeout(_LOOK_PATIENCE_S):
                self._residents.taken = await asyncio.to_thread(neighbours.present().taken)
        except TimeoutError:
            log.warning("nobody told what training takes of the memory")

    def cancel(self, row: Row) -> None:
        """Drop a row before the next step, wherever it is; it delivers nothing more."""
        self.call(lambda: self._drop(row))

    def call[T](self, function: Callable[[], T]) -> Future[T]:
        """Run `function` on the thread between two steps."""
        future: Future[T] = Future()
        with self._wake:
            if self._stopping:
                future.set_exception(stopping())
            else:
                self._commands.append((future, function))
                self._wake.notify()
        return future

    def load(self, place: Place, pin: bool | None = None) -> Future[Resident]:
        return self.call(lambda: self._load(place, pin))

    def unload(self, key: Key | None, gently: bool = False) -> Future[list[str]]:
        return self.call(lambda: self._residents.unload(key, gently))

    def embed(self, place: Place, texts: Sequence[str]) -> Future[tuple[list[list[float]], int]]:
        """Vectors, and how many tokens the texts have. A few texts at a time: what streams waits."""
        return self.call(lambda: self._embed(place, texts))

    def begin_embedding(self, key: str, most: int | None) -> bool:
        """Count a request for vectors among what `key` runs, unless that are `most` already."""
        with self._wake:
            rows = [row for one in self._residents for row in tuple(one.rows.values())]
            running = sum(row.key == key for row in rows)
            if most is not None and running + self._embedding[key] >= most:
                return False
            self._embedding[key] += 1
            return True

    def end_embedding(self, key: str) -> None:
        with self._wake:
            self._embedding -= Counter({key: 1})
            self._wake.notify()

    def waiting_of(self, key: str) -> int:
        """Rows of `key` that wait."""
        with self._wake:
            return sum(row.key == key for row in self._waiting)

    def count(
        self, place: Place, messages: Sequence[Message], tools: Sequence[dict[str, Any]]
    ) -> Future[int]:
        """How many tokens a chat has."""

        def counted() -> int:
            model = self._residents.get(place).model
            return len(self.rendering.limited(lambda: model.encode(messages, tools or None)))

        return self.call(counted)

    @property
    def running(self) -> int:
        return sum(len(resident.rows) for resident in self._residents)

    @property
    def idle(self) -> bool:
        return not self.running and not len(self._waiting)

    @property
    def nbytes(self) -> int:
        """What the models hold now."""
        return self._residents.nbytes

    def stats(self) -> dict[str, Any]:
        """What the thread holds and has done. Never waits for a step."""
        residents = self._residents
        return {
            "device": asdict(self._device) if self._device else None,
            "models": [
                {
                    "base": resident.name,
                    "base_path": paths.relative(resident.place.base),
                    "adapter_path": _relative(resident.place.key[1]),
                    "nbytes": resident.nbytes,
                    "memory": asdict(resident.memory),
                    "cache_bytes": resident.cache_bytes,
                    "adapters": len(resident.adapters),
                    "adapter_paths": [_relative(path) for path in tuple(resident.adapters)],
                    "running": len(resident.rows),
                    "idle_s": round(time.monotonic() - resident.last_used, 1),
                    "leaves_in_s": residents.leaves_in_s(resident),
                    "pinned": resident.place.key in residents.pinned,
                }
                for resident in residents
            ],
            "models_bytes": residents.nbytes,
            "coming_bytes": residents.coming_bytes,
            "budget_bytes": residents.budget_bytes,
            "reclaimable_bytes": residents.reclaimable_bytes,
            "taken_bytes": residents.taken.nbytes,
            "taken_by": residents.taken.by,
            "cache_bytes": residents.cache_bytes,
            "running": self.running,
            "waiting": len(self._waiting),
            "max_rows": self._max_rows,
            "max_queue": self._max_queue,
            "steps": self._counts["steps"],
            "tokens_generated": self._counts["tokens"],
            "requests": self._counts["requests"],
            "prompt_tokens": self._counts["prompt_tokens"],
            "cached_tokens": self._counts["cached_tokens"],
            "cache_hits": self._counts["cache_hits"],
            "evictions": residents.evictions,
            "refused": self._counts["refused"],
        }

    # ------------------------------------------------------------- called on the thread

    def _run(self) -> None:
        try:
            while self._wait_for_work():
                self._run_commands()
                self._admit()
                self._flush()  # the first step of a long prompt takes seconds
                for resident in self._residents:
                    if resident.rows:
                        self._step(resident)
                self._keep_within_budget()
                self._flush()
        except Exception:
            self.failed = True
            log.exception("generation thread ended")
        finally:
            try:
                self._close()
            except Exception:  # whatever the device says to a model's end, the engine's must come
                self.failed = True
                log.exception("models not closed")
            self._loop.call_soon_threadsafe(self._ended)

    def _wait_for_work(self) -> bool:
        """Block until there is something to do; False when the thread is to end."""
        while True:
            with self._wake:
                if not self.running and len(self._waiting):
                    # A key's only row may have to wait for embeddings of the same key.
                    self._wake.wait_for(self._may_go_on, timeout=_BLOCKED_S)
                if self._stopping or self._commands or not self.idle:
                    return not self._stopping
            rest = self._residents.evict_unused()
            with self._wake:
                if not (self._stopping or self._commands or not self.idle):
                    self._wake.wait(rest)

    def _may_go_on(self) -> bool:
        first = self._waiting.first(self._embedding)
        return bool(self._stopping or self._commands or first is not None)

    def _run_commands(self) -> None:
        while self._commands and not self._stopping:
            future, function = self._commands.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(function())
            except Exception as error:
                future.set_exception(error)

    def _admit(self) -> None:
        running = Counter(row.key for one in self._residents for row in one.rows.values())
        while running.total() < self._max_rows:
            with self._wake:
                row = self._waiting.first(running + self._embedding)
            # Left in the queue while it is inserted, so that it is counted all the time.
            if row is None or not self._admit_one(row, may_wait=running.total() > 0):
                return
            running[row.key] += 1
            with self._wake:
                self._waiting.turn_over(row)
                self._waiting.remove(row)

    def _admit_one(self, row: Row, may_wait: bool) -> bool:
        """Insert a row, or end it with an error; False when it has to wait for memory."""
        try:
            resident = self._residents.get(row.place)
            prompt = self.rendering.limited(lambda: row.encode(resident.model))
            tokens = len(prompt) + row.growth
            fits_context = len(prompt) < resident.model.context_length  # else `insert` says why
            if fits_context and not self._residents.has_room_for(resident, tokens):
                if may_wait:
                    return False
                raise out_of_budget(tokens, self._residents.taken)
            self._insert(row, resident)
        except Exception as error:
            self._fail(row, error)
        return True

    def _insert(self, row: Row, resident: Resident) -> None:
        adapter = None if row.place.own else row.place.adapter
        prompt = row.encode(resident.model)
        cached = resident.model.insert(row.uid, prompt, adapter, row.sampling(resident.model))
        resident.rows[row.uid] = row
        self._send(row, row.started(cached))
        self._counts["requests"] += 1
        self._counts["prompt_tokens"] += len(prompt)
        self._counts["cached_tokens"] += cached
        self._counts["cache_hits"] += cached > 0

    def _load(self, place: Place, pin: bool | None) -> Resident:
        resident = self._residents.get(place)
        if pin is not None:
            (self._residents.pinned.add if pin else self._residents.pinned.discard)(place.key)
        return resident

    def _embed(self, place: Place, texts: Sequence[str]) -> tuple[list[list[float]], int]:
        resident = self._residents.get(place)
        prompts = [resident.model.encode_text(text) for text in texts]
        adapter = None if place.own else place.adapter
        vectors = resident.model.embed(prompts, adapter)
        self._counts["requests"] += 1
        self._counts["prompt_tokens"] += (tokens := sum(map(len, prompts)))
        return vectors, tokens

    def _step(self, resident: Resident) -> None:
        try:
            deltas = resident.model.step()
        except Exception as error:
            self._give_up(resident, error)
            return
        self._counts["steps"] += 1
        resident.touch()
        for delta in deltas:
            row = resident.rows.get(delta.uid)
            if row is None:
                continue
            self._counts["tokens"] += 1
            if (chunk := row.take(delta)) is not None:
                self._send(row, chunk)
            if delta.finish_reason is not None:
                del resident.rows[row.uid]
                resident.measure()  # its context is gone, or a prefix in the cache now
                self._seconds += (row.seconds - self._seconds) / 8
                try:
                    for event in row.finish(delta.finish_reason, resident.model):
                        self._send(row, event)
                except Exception as error:
                    self._fail(row, error)

    def _keep_within_budget(self) -> None:
        """Rows grow: give back prefixes and idle models, and at last the newest rows; those not
        for what others take, who began when there was room."""
        now = time.monotonic()
        if now - self._memory_checked < _MEMORY_EVERY_S:
            return
        self._memory_checked = now
        while (
            not self._residents.make_room(0)
            and self._residents.nbytes > self._residents.budget_bytes
            and self.running
        ):
            resident, row = max(
                ((one, row) for one in self._residents for row in one.rows.values()),
                key=lambda pair: -pair[1].seconds,
            )
            resident.model.remove(row.uid)
            del resident.rows[row.uid]
            resident.measure()
            tokens = row.prompt_tokens + row.completion_tokens
            self._fail(row, out_of_budget(tokens, self._residents.taken))

    def _give_up(self, resident: Resident, error: Exception) -> None:
        """The batch is in an unknown state: its rows end, and the next request loads anew."""
        for row in resident.rows.values():
            self._fail(row, error)
        resident.rows.clear()
        self._residents.evict(resident)

    def _drop(self, row: Row) -> None:
        with self._wake:
            self._waiting.remove(row)
        for resident in self._residents:
            if resident.rows.get(row.uid) is row:
                resident.model.remove(row.uid)
                del resident.rows[row.uid]

    def _fail(self, row: Row, error: Exception) -> None:
        self._send(row, failure(error, row))

    def _send(self, row: Row, event: Event) -> None:
        self._outbox.append((row, event))

    def _flush(self) -> None:
        if self._outbox:
            self._loop.call_soon_threadsafe(_deliver, self._outbox)
            self._outbox = []

    def _find_device(self) -> DeviceInfo:
        self._device = self._backend.device()
        return self._device

    def _close(self) -> None:
        with self._wake:
            self._stopping = True  # nothing comes in from here on
        end = stopping if not self.failed else failing
        for future, _ in self._commands:
            if future.set_running_or_notify_cancel():  # else its client has gone
                future.set_exception(end())
        for row in (*self._waiting, *(row for one in self._residents for row in one.rows.values())):
            self._fail(row, end())
        self._flush()  # before the models: a device in a bad state may not let them go
        for resident in self._residents:
            self._residents.evict(resident)


def _relative(path: Path | None) -> str:
    return paths.relative(path) if path else ""


def _deliver(events: list[tuple[Row, Event]]) -> None:
    for row, event in events:
        row.deliver(event)
