"""The generation thread: it alone touches the backend, from loading to closing.

Commands and rows go in under one condition; events come out in one `call_soon_threadsafe` per
turn. MLX binds what it computes to the thread that began it, which is why nothing here may
move to another one.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict
from pathlib import Path
from typing import Any

import structlog

from backends.base import Backend, BackendError, DeviceInfo, OutOfMemory, PromptTooLong
from inference.engine.residents import Resident, Residents
from inference.engine.row import Row
from inference.protocol import Chunk, EngineFailure, Event, Failed, to_failed
from registry.errors import HubError, TooManyRequests, Unavailable

log = structlog.get_logger(__name__)


class GenerationThread:
    """Runs at most `max_rows` rows at once and lets `max_queue` more wait."""

    def __init__(
        self,
        backend: Backend,
        *,
        max_rows: int,
        max_queue: int,
        budget_bytes: int,
        ended: Callable[[], None],
    ) -> None:
        self._ended = ended  # called on the event loop when the thread ends, for whatever reason
        self._backend = backend
        self._residents = Residents(backend, budget_bytes)
        self._max_rows = max_rows
        self._max_queue = max_queue
        self._wake = threading.Condition()
        self._commands: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._waiting: deque[Row] = deque()
        self._stopping = False
        self._outbox: list[tuple[Row, Event]] = []
        self._loop: asyncio.AbstractEventLoop
        self._thread = threading.Thread(target=self._run, name="generation", daemon=True)
        self.failed = False  # it ended by an error of its own
        self._device: DeviceInfo | None = None
        self._tokens = 0
        self._requests = 0

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
        """Queue a row and return how many wait before it. Raises TooManyRequests."""
        with self._wake:
            if self._stopping:
                raise stopping()
            waiting = len(self._waiting)
            if waiting + self.running >= self._max_rows + self._max_queue:
                raise TooManyRequests(
                    f"{waiting} requests wait already; send this one again in a few seconds."
                )
            self._waiting.append(row)
            self._wake.notify()
        return waiting

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

    def load(self, base: Path, adapter: Path | None) -> Future[Resident]:
        return self.call(lambda: self._load(base, adapter))

    def unload(self, base: Path | None) -> Future[list[str]]:
        return self.call(lambda: self._residents.unload(base))

    @property
    def running(self) -> int:
        return sum(len(resident.rows) for resident in self._residents)

    @property
    def idle(self) -> bool:
        return not self.running and not self._waiting

    def stats(self) -> dict[str, Any]:
        """What the thread holds and has done. Never waits for a step."""
        return {
            "device": asdict(self._device) if self._device else None,
            "models": [
                {
                    "base": resident.path.name,
                    "nbytes": resident.nbytes,
                    "adapters": len(resident.adapters),
                    "running": len(resident.rows),
                    "idle_s": round(time.monotonic() - resident.last_used, 1),
                }
                for resident in self._residents
            ],
            "models_bytes": self._residents.nbytes,
            "budget_bytes": self._residents.budget_bytes,
            "running": self.running,
            "waiting": len(self._waiting),
            "max_rows": self._max_rows,
            "max_queue": self._max_queue,
            "tokens_generated": self._tokens,
            "requests": self._requests,
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
                self._flush()
        except Exception:
            self.failed = True
            log.exception("generation thread ended")
        finally:
            self._close()
            self._loop.call_soon_threadsafe(self._ended)

    def _wait_for_work(self) -> bool:
        """Block until there is something to do; False when the thread is to end."""
        with self._wake:
            while not (self._stopping or self._commands or not self.idle):
                self._wake.wait()
            return not self._stopping

    def _run_commands(self) -> None:
        while self._commands:
            future, function = self._commands.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(function())
            except Exception as error:
                future.set_exception(error)

    def _admit(self) -> None:
        while self._waiting and self.running < self._max_rows:
            # Left in the queue while it is inserted, so that it is counted all the time.
            row = self._waiting[0]
            try:
                self._insert(row)
            except Exception as error:
                self._fail(row, error)
            finally:
                self._waiting.popleft()

    def _insert(self, row: Row) -> None:
        self._requests += 1
        resident = self._load(row.base, row.adapter)
        prompt = resident.model.encode(row.request.messages)
        resident.model.insert(row.uid, prompt, row.adapter, row.request.sampling)
        resident.rows[row.uid] = row
        self._send(row, row.started(len(prompt)))

    def _load(self, base: Path, adapter: Path | None) -> Resident:
        resident = self._residents.get(base)
        if adapter is not None:
            resident.add_adapter(adapter)
        return resident

    def _step(self, resident: Resident) -> None:
        try:
            deltas = resident.model.step()
        except Exception as error:
            self._give_up(resident, error)
            return
        resident.touch()
        for delta in deltas:
            row = resident.rows.get(delta.uid)
            if row is None:
                continue
            self._tokens += 1
            row.count(delta)
            if delta.text:
                self._send(row, Chunk(delta.text))
            if delta.finish_reason is not None:
                del resident.rows[row.uid]
                self._send(row, row.done(delta.finish_reason))

    def _give_up(self, resident: Resident, error: Exception) -> None:
        """The batch is in an unknown state: its rows end, and the next request loads anew."""
        for row in resident.rows.values():
            self._fail(row, error)
        resident.rows.clear()
        self._residents.evict(resident)

    def _drop(self, row: Row) -> None:
        if row in self._waiting:
            self._waiting.remove(row)
        for resident in self._residents:
            if resident.rows.get(row.uid) is row:
                resident.model.remove(row.uid)
                del resident.rows[row.uid]

    def _fail(self, row: Row, error: Exception) -> None:
        self._send(row, failure(error, row.request.correlation_id))

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
        for future, _ in self._commands:
            future.set_exception(stopping())
        for waiting in self._waiting:
            self._fail(waiting, stopping())
        for resident in self._residents:
            for row in resident.rows.values():
                self._fail(row, stopping())
            self._residents.evict(resident)
        self._flush()


def _deliver(events: list[tuple[Row, Event]]) -> None:
    for row, event in events:
        row.deliver(event)


def stopping() -> Unavailable:
    return Unavailable("The engine is stopping; send the request again in a few seconds.")


def failure(error: Exception, correlation_id: str) -> Failed:
    """What a client is told about `error`; anything unforeseen goes to the log with its trace."""
    if isinstance(error, HubError):
        return to_failed(error)
    if isinstance(error, PromptTooLong):
        return Failed("context_length_exceeded", str(error), 400)
    if isinstance(error, OutOfMemory):
        return to_failed(Unavailable(f"The device ran out of memory: {error}", 10))
    if isinstance(error, BackendError):
        return Failed("unsupported_model", str(error), 422)
    log.error("generation failed", correlation_id=correlation_id, exc_info=error)
    unforeseen = EngineFailure(
        "The engine failed on this request; its log says why "
        f"({type(error).__name__}, correlation id {correlation_id or 'unknown'})."
    )
    unforeseen.code, unforeseen.status = "engine_failed", 500
    return to_failed(unforeseen)
