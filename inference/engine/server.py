"""The engine's socket: how requests come in, and what happens when a client disconnects."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import structlog
from pydantic import ValidationError

from backends.base import Backend
from backends.mac.memory import footprint
from backends.mac.power import Awake
from inference.engine.embedding import Embedding
from inference.engine.failures import failure, stopping, too_late
from inference.engine.listening import listening
from inference.engine.loads import Loads
from inference.engine.memory.pins import Pins
from inference.engine.memory.residents import Limits
from inference.engine.memory.verification import Verified
from inference.engine.outbound import LAST_EVENT_S, Outbound, write
from inference.engine.requests import rendering
from inference.engine.requests.places import Place
from inference.engine.requests.row import Row
from inference.engine.thread import GenerationThread
from inference.protocol import (
    MAX_LINE,
    Count,
    Embed,
    EngineFailure,
    Failed,
    Generate,
    Load,
    Ping,
    Reply,
    Request,
    Stats,
    Unload,
    decode_request,
)
from registry import traces
from registry.storage import paths

log = structlog.get_logger(__name__)
FIRST_LINE_S = 10.0  # a silent client is disconnected after so long
DRAIN_S = 5.0  # for running requests when the engine stops
CLOSE_S = 5.0  # for a step to end and the models to be closed
SEND_BUFFER = 64 * 1024  # bytes the kernel keeps for a reader
WRITE_BUFFER = 8 * 1024  # bytes asyncio keeps beyond that


class Engine:
    """One generation thread behind one Unix socket."""

    def __init__(
        self,
        backend: Backend,
        *,
        max_rows: int,
        max_queue: int,
        limits: Limits,
        drain_s: float = DRAIN_S,
    ) -> None:
        self._stop = asyncio.Event()
        self._thread = GenerationThread(
            backend,
            max_rows=max_rows,
            max_queue=max_queue,
            limits=limits,
            ended=self._stop.set,
        )
        self._drain_s = drain_s
        self._verified = Verified()
        self._pins = Pins(paths.run_dir() / "pinned.json")
        self._loads = Loads(self._thread, self._verified, self._pins)
        self._started = time.monotonic()
        self._connections: set[asyncio.Task[None]] = set()
        self._refusing = False
        self._embedding = Embedding(self._thread, self._place)
        self._late = 0
        self._awake = Awake()

    async def run(self, path: Path) -> None:
        """Serve at `path` until `stop`, then give running requests time to finish.

        Raises Conflict when another engine listens there, EngineFailure when the generation
        thread ended by itself.
        """
        with listening(path) as sock:
            try:
                device = await asyncio.wrap_future(self._thread.start())
                server = await asyncio.start_unix_server(self._accept, sock=sock, limit=MAX_LINE)
                log.info("engine ready", socket=str(path), device=device.name, pid=os.getpid())
                # While the web process starts: the first answer after a start waits for less.
                self._thread.import_serving()
                self._loads.start_pinned()
                watching = asyncio.create_task(self._watch())
                await self._stop.wait()
                await self._drain()
                server.close()
                watching.cancel()
            finally:
                await self._finish()
        if self._thread.failed:
            raise EngineFailure("The engine failed and stops. Details are in its log.")

    def stop(self) -> None:
        """Refuse new requests, give running ones time to finish, and return from `run`."""
        self._stop.set()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(rendering.LOOK_EVERY_S)
            self._thread.rendering.look()
            self._awake.look(self._busy)

    async def _drain(self) -> None:
        """Answer new requests with 503 while running and waiting ones continue for a while."""
        self._refusing = True
        log.info("engine stopping", running=self._thread.running)
        deadline = time.monotonic() + self._drain_s
        while self._busy and not self._thread.failed and time.monotonic() < deadline:
            await asyncio.sleep(0.02)

    @property
    def _busy(self) -> bool:
        return self._embedding.busy or not self._thread.idle

    async def _finish(self) -> None:
        self._refusing = True
        self._awake.release()
        self._loads.stop()
        self._thread.stop()
        await asyncio.to_thread(self._thread.join, CLOSE_S)
        if self._connections:  # the last events are on their way
            await asyncio.wait(self._connections, timeout=1)

    # ------------------------------------------------------------------ one connection

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # What the kernel and asyncio keep by default would hide a reader that does not read.
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        writer.transport.set_write_buffer_limits(high=WRITE_BUFFER)
        task = asyncio.create_task(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._answer(reader, writer)
        except (ConnectionError, TimeoutError):
            pass  # the client is gone, and its request cancelled
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await asyncio.wait_for(reader.readline(), FIRST_LINE_S)
            if not line:
                return
            request = decode_request(line)
        except (ValidationError, ValueError) as error:
            await write(writer, Failed("bad_request", f"Not a request: {error}", 400))
            return
        span = traces.begin(f"engine {request.op}", parent=request.traceparent, kind="server")
        with (
            structlog.contextvars.bound_contextvars(correlation_id=request.correlation_id),
            span.current(),
        ):
            try:
                if self._refusing and not isinstance(request, Ping | Stats):
                    raise stopping()
                if isinstance(request, Generate):
                    await self._generate(request, reader, writer, span)
                elif (reply := await _unless_gone(self._reply(request), reader)) is not None:
                    await write(writer, Reply(reply))
            except ConnectionError:
                span.set({"hub.outcome": "cancelled"})
                raise
            except Exception as error:
                failed = failure(error, correlation_id=request.correlation_id)
                span.fail(failed.code, failed.message)
                await write(writer, failed)
            finally:
                span.end()

    async def _reply(self, request: Request) -> dict[str, Any]:
        if isinstance(request, Ping):
            return {"pid": os.getpid()}
        if isinstance(request, Stats):
            await self._thread.look_around()  # for the next request that asks what would fit
            return self.stats()
        if isinstance(request, Load):
            if request.wait:
                return {"loaded": await self._loads.load(request)}
            self._loads.start(request)
            return {"loading": request.base.path}
        if isinstance(request, Embed):
            return await self._embedding.answer(request)
        if isinstance(request, Count):
            place = await self._place(request)
            counting = self._thread.count(place, request)
            return {"tokens": await asyncio.wrap_future(counting)}
        assert isinstance(request, Unload)
        return {"unloaded": await self._unload(request)}

    async def _place(self, request: Generate | Embed | Count) -> Place:
        place = await self._verified.place(request.base, request.adapter)
        await self._thread.look_around(place)
        return place

    async def _unload(self, request: Unload) -> list[str]:
        if request.base is None:
            return await asyncio.wrap_future(self._thread.unload(None))
        base = paths.absolute(request.base.path)
        adapter = paths.absolute(request.adapter.path) if request.adapter else None
        gone = await asyncio.wrap_future(self._thread.unload((base, adapter), request.gently))
        if not request.gently:
            self._loads.forget(Load(base=request.base, adapter=request.adapter))
        return gone

    def stats(self) -> dict[str, Any]:
        """Everything the pages, the sampler and `doctor` show about this process."""
        return {
            "pid": os.getpid(),
            "uptime_s": round(time.monotonic() - self._started, 1),
            "memory_bytes": footprint(),
            "stopping": self._refusing,
            **self._thread.stats(),
            "late": self._late,
            "loading": self._loads.stats(),
        }

    async def _generate(
        self,
        request: Generate,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        span: traces.Traced,
    ) -> None:
        outbound = Outbound(writer)
        received = time.perf_counter()
        place = await self._place(request)
        row = Row(request, place, outbound.put)
        self._thread.submit(row)
        # The client writes nothing more: when this read ends, it has closed the connection.
        gone = asyncio.create_task(reader.read(1))
        sending = asyncio.create_task(outbound.send())
        overflow = asyncio.create_task(outbound.overflow.wait())
        try:
            done, _ = await asyncio.wait(
                (gone, sending, overflow),
                timeout=request.deadline_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if not done and not outbound.complete:
                self._late += 1
                if request.cut_late:
                    self._thread.cancel_late(row)
                    await asyncio.wait(
                        (gone, sending), timeout=LAST_EVENT_S, return_when=asyncio.FIRST_COMPLETED
                    )
                if not outbound.complete:
                    self._thread.cancel(row)
                    outbound.put(too_late(row))
            if not done:
                await asyncio.wait(
                    (gone, sending), timeout=LAST_EVENT_S, return_when=asyncio.FIRST_COMPLETED
                )
        finally:
            for task in (gone, sending, overflow):
                task.cancel()
            if not outbound.complete:
                self._thread.cancel(row)
            if request.traceparent:
                _trace(span, row, received, outbound)
        if overflow.done() and not overflow.cancelled():
            await outbound.refuse_slow_reader()


def _trace(span: traces.Traced, row: Row, received: float, outbound: Outbound) -> None:
    """What the request waited for and how long, once it has ended: nothing is traced while it runs."""
    phases = list(row.phases())
    span.part("verify", traces.moment(received), traces.moment(phases[0][1]))
    for name, began, ended, counted in phases:
        span.part(name, traces.moment(began), traces.moment(ended), counted)
    if outbound.failed is not None:
        span.fail(outbound.failed.code, outbound.failed.message)
    elif not outbound.complete:
        span.set({"hub.outcome": "cancelled"})


async def _unless_gone(
    answer: Coroutine[Any, Any, dict[str, Any]], reader: asyncio.StreamReader
) -> dict[str, Any] | None:
    """The result of `answer`; None, and it is cancelled, when the client disconnects before. Raises
    what it raises."""
    answering = asyncio.ensure_future(answer)
    gone = asyncio.create_task(reader.read(1))
    try:
        await asyncio.wait((answering, gone), return_when=asyncio.FIRST_COMPLETED)
        return answering.result() if answering.done() else None
    finally:
        answering.cancel()
        gone.cancel()
