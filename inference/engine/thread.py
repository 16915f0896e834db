"""The generation thread: it alone touches the backend, from loading to closing.

Commands and rows go in under one condition; events come out in one `call_soon_threadsafe` per
turn. MLX binds what it computes to the thread that started it, which is why nothing in `Batches`
may move to another one.
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
from typing import Any

import structlog

from backends.base import Backend, DeviceInfo, Question
from inference.engine.batches import Batches
from inference.engine.failures import failing, stopping
from inference.engine.memory import neighbours
from inference.engine.memory.residents import Key, Limits, Resident, Residents
from inference.engine.requests.places import Place
from inference.engine.requests.row import Row
from inference.engine.requests.waiting import Waiting
from inference.protocol import Count, Event
from registry.errors import TooManyRequests

log = structlog.get_logger(__name__)
_LOOK_EVERY_S = 1.0  # at the processes that share the budget
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
        self._ended = ended  # called on the event loop when the thread ends, for any reason
        self._backend = backend
        self._residents = Residents(backend, limits)
        self._batches = Batches(self._residents, self._send)
        self.rendering = self._batches.rendering
        self._max_rows = max_rows
        self._max_queue = max_queue
        self._wake = threading.Condition()  # guards what follows, up to _stopping
        self._commands: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._waiting = Waiting()
        self._embedding: Counter[str] = Counter()  # requests that run, by key
        self._stopping = False
        self._outbox: list[tuple[Row, Event]] = []
        self._loop: asyncio.AbstractEventLoop
        self._thread = threading.Thread(target=self._run, name="generation", daemon=True)
        self.failed = False  # it ended by an error of its own
        self._device: DeviceInfo | None = None
        self._looked = float("-inf")
        self._looking: asyncio.Task[None] | None = None
        self._refused = 0

    # --------------------------------------------------- called on the event loop: its life

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

    # ------------------------------------------------------- called on the event loop: rows

    def submit(self, row: Row) -> None:
        """Queue a row. Raises TooManyRequests."""
        with self._wake:
            if self._stopping:
                raise stopping()
            waiting = len(self._waiting)
            try:
                if waiting + self.running >= self._max_rows + self._max_queue:
                    raise TooManyRequests(
                        f"{waiting} requests are already waiting; try again in "
                        f"{self.patience} seconds.",
                        self.patience,
                    )
                self._waiting.add(row, self.patience)
            except TooManyRequests:
                self._refused += 1
                raise
            self._wake.notify()

    def cancel(self, row: Row) -> None:
        """Drop a row before the next step, wherever it is; it delivers nothing more."""

        def drop() -> None:
            with self._wake:
                self._waiting.remove(row)
            self._batches.drop(row)

        self.call(drop)

    def cancel_late(self, row: Row) -> None:
        """The same for a row that missed its deadline, which it delivers."""

        def drop() -> None:
            with self._wake:
                self._waiting.remove(row)
            self._batches.drop_late(row)

        self.call(drop)

    @property
    def patience(self) -> int:
        """Seconds until what waits now will probably have started."""
        rounds = (len(self._waiting) + 1) / self._max_rows
        return max(1, min(60, math.ceil(rounds * self._batches.row_seconds)))

    @property
    def running(self) -> int:
        return len(self._batches)

    @property
    def idle(self) -> bool:
        return not self.running and not len(self._waiting)

    def waiting_of(self, key: str) -> int:
        """Rows of `key` that wait."""
        with self._wake:
            return sum(row.key == key for row in self._waiting)

    def begin_embedding(self, key: str, most: int | None) -> bool:
        """Count a request for vectors among what `key` runs, unless that are `most` already."""
        with self._wake:
            running = self._batches.keys()[key] + self._embedding[key]
            if most is not None and running >= most:
                return False
            self._embedding[key] += 1
            return True

    def end_embedding(self, key: str) -> None:
        with self._wake:
            self._embedding -= Counter({key: 1})
            self._wake.notify()

    # --------------------------------------------------- called on the event loop: commands

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

    def import_serving(self) -> Future[None]:
        """Have the first load find its libraries imported."""
        return self.call(self._backend.import_serving)

    def load(self, place: Place, pin: bool | None = None) -> Future[Resident]:
        return self.call(lambda: self._batches.load(place, pin))

    def unload(self, key: Key | None, gently: bool = False) -> Future[list[str]]:
        return self.call(lambda: self._residents.unload(key, gently))

    def embed(
        self, place: Place, texts: Sequence[str], question: Question | None = None
    ) -> Future[tuple[list[list[float]], int]]:
        """Vectors, or with a question one number for each text, and how many tokens were read. Send a
        few texts at a time: the streams wait for them."""
        return self.call(lambda: self._batches.embed(place, texts, question))

    def count(self, place: Place, chat: Count) -> Future[int]:
        """How many tokens a chat has."""
        return self.call(lambda: self._batches.count(place, chat))

    # ----------------------------------------------------- called on the event loop: memory

    async def look_around(self, place: Place | None = None) -> None:
        """Learn what other processes take of the budget, and wait for that with a model that is to be
        loaded; one in memory begins with what is known."""
        now = time.monotonic()
        held = place is None or self._residents.holds(place)
        if held and now - self._looked < _LOOK_EVERY_S:
            return
        self._looked = now
        self._looking = looking = asyncio.create_task(self._look())
        if not held:
            await looking

    async def _look(self) -> None:
        try:
            async with asyncio.timeout(_LOOK_PATIENCE_S):
                self._residents.taken = await asyncio.to_thread(neighbours.present().taken)
        except TimeoutError:
            log.warning("memory taken by training is unknown")

    @property
    def nbytes(self) -> int:
        """What the models hold now."""
        return self._residents.nbytes

    def stats(self) -> dict[str, Any]:
        """What the thread holds and has done. Never waits for a step."""
        counts = self._batches.counts
        return {
            "device": asdict(self._device) if self._device else None,
            **self._residents.stats(),
            "running": self.running,
            "waiting": len(self._waiting),
            "max_rows": self._max_rows,
            "max_queue": self._max_queue,
            "steps": counts["steps"],
            "tokens_generated": counts["tokens"],
            "requests": counts["requests"],
            "prompt_tokens": counts["prompt_tokens"],
            "cached_tokens": counts["cached_tokens"],
            "cache_hits": counts["cache_hits"],
            "drafted_tokens": counts["drafted_tokens"],
            "accepted_tokens": counts["accepted_tokens"],
            "forced_tokens": counts["forced_tokens"],
            "refused": self._refused,
        }

    # ------------------------------------------------------------- called on the thread

    def _run(self) -> None:
        try:
            while self._wait_for_work():
                self._run_commands()
                self._admit()
                self._flush()  # the first step of a long prompt takes seconds
                self._batches.step()
                self._batches.keep_within_budget()
                self._flush()
        except Exception:
            self.failed = True
            log.exception("generation thread ended")
        finally:
            try:
                self._close()
            except Exception:  # the engine must end even if the device cannot close its models
                self.failed = True
                log.exception("models not closed")
            self._loop.call_soon_threadsafe(self._ended)

    def _wait_for_work(self) -> bool:
        """Block until there is something to do; False when the thread is to end."""
        while True:
            with self._wake:
                if not self.running and len(self._waiting):
                    # A key's only row may have to wait for embeddings of the same key.
                    self._wake.wait_for(self._may_continue, timeout=_BLOCKED_S)
                if self._stopping or self._commands or not self.idle:
                    return not self._stopping
            rests = self._residents.evict_unused(), self._residents.settle()
            rest = min((one for one in rests if one is not None), default=None)
            with self._wake:
                if not (self._stopping or self._commands or not self.idle):
                    self._wake.wait(rest)

    def _may_continue(self) -> bool:
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
        running = self._batches.keys()
        while running.total() < self._max_rows:
            with self._wake:
                row = self._waiting.first(running + self._embedding)
            # Left in the queue while it is inserted, so that it is counted all the time.
            if row is None or not self._batches.insert(row, may_wait=running.total() > 0):
                return
            running[row.key] += 1
            with self._wake:
                self._waiting.turn_over(row)
                self._waiting.remove(row)
            if row.request.labels:
                return  # it is answered already; the next such waits for a step of the others

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
        for row in (*self._waiting, *(row for _, row in self._batches)):
            self._batches.fail(row, end())
        self._flush()  # before the models: a device in a bad state may not let them go
        for resident in self._residents:
            self._residents.evict(resident)


def _deliver(events: list[tuple[Row, Event]]) -> None:
    for row, event in events:
        row.deliver(event)
