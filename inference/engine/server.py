"""The engine's socket: who may listen, how requests come in, and what a client's leaving does."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from pathlib import Path
from typing import Any

import psutil
import structlog
from pydantic import ValidationError

from backends.base import Backend
from inference.engine.listening import listening
from inference.engine.outbound import Outbound, write
from inference.engine.row import Row
from inference.engine.thread import GenerationThread, failure, stopping
from inference.engine.verification import Verified
from inference.protocol import (
    MAX_LINE,
    EngineFailure,
    Failed,
    Generate,
    Load,
    Ping,
    Reply,
    Request,
    Stats,
    decode_request,
)
from registry import paths

log = structlog.get_logger(__name__)
FIRST_LINE_S = 10.0  # a client that says nothing for so long is sent away
FINISH_S = 5.0  # what runs when the engine is told to stop gets this long
SEND_BUFFER = 64 * 1024  # bytes the kernel keeps for a reader
WRITE_BUFFER = 8 * 1024  # bytes asyncio keeps beyond that


class Engine:
    """One generation thread behind one Unix socket."""

    def __init__(
        self, backend: Backend, *, max_rows: int, max_queue: int, budget_bytes: int
    ) -> None:
        self._stop = asyncio.Event()
        self._thread = GenerationThread(
            backend,
            max_rows=max_rows,
            max_queue=max_queue,
            budget_bytes=budget_bytes,
            ended=self._stop.set,
        )
        self._verified = Verified()
        self._began = time.monotonic()
        self._connections: set[asyncio.Task[None]] = set()
        self._refusing = False

    async def run(self, path: Path) -> None:
        """Serve at `path` until `stop`, then let what runs finish for a while.

        Raises Conflict when another engine listens there, EngineFailure when the generation
        thread ended by itself.
        """
        with listening(path) as sock:
            try:
                device = await asyncio.wrap_future(self._thread.start())
                server = await asyncio.start_unix_server(self._accept, sock=sock, limit=MAX_LINE)
                log.info("engine ready", socket=str(path), device=device.name, pid=os.getpid())
                await self._stop.wait()
                server.close()
            finally:
                await self._finish()
        if self._thread.failed:
            raise EngineFailure("The engine failed and ends; its log says why.")

    def stop(self) -> None:
        """Refuse new requests, let what runs finish for a while, and return from `run`."""
        self._stop.set()

    async def _finish(self) -> None:
        self._refusing = True
        log.info("engine stopping", running=self._thread.running)
        deadline = time.monotonic() + FINISH_S
        while not self._thread.idle and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        self._thread.stop()
        await asyncio.to_thread(self._thread.join, FINISH_S)
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
            pass  # the client is gone; whatever it asked for has been cancelled
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
        with structlog.contextvars.bound_contextvars(correlation_id=request.correlation_id):
            try:
                if self._refusing:
                    raise stopping()
                if isinstance(request, Generate):
                    await self._generate(request, reader, writer)
                else:
                    await write(writer, Reply(await self._reply(request)))
            except ConnectionError:
                raise
            except Exception as error:
                await write(writer, failure(error, request.correlation_id))

    async def _reply(self, request: Request) -> dict[str, Any]:
        if isinstance(request, Ping):
            return {"pid": os.getpid()}
        if isinstance(request, Stats):
            return self.stats()
        if isinstance(request, Load):
            base, adapter = await self._verified.folders(request.base, request.adapter)
            await asyncio.wrap_future(self._thread.load(base, adapter))
            return {"loaded": base.name}
        assert not isinstance(request, Generate)
        path = paths.absolute(request.base.path) if request.base else None
        return {"unloaded": await asyncio.wrap_future(self._thread.unload(path))}

    def stats(self) -> dict[str, Any]:
        """Everything the pages, the sampler and `doctor` want to know about this process."""
        return {
            "pid": os.getpid(),
            "uptime_s": round(time.monotonic() - self._began, 1),
            "memory_bytes": psutil.Process().memory_info().rss,
            "stopping": self._refusing,
            **self._thread.stats(),
        }

    async def _generate(
        self, request: Generate, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        outbound = Outbound(writer)
        base, adapter = await self._verified.folders(request.base, request.adapter)
        row = Row(request, base, adapter, outbound.put)
        outbound.queued(self._thread.submit(row))
        # The client writes nothing more: whatever ends this read, it has closed the connection.
        gone = asyncio.create_task(reader.read(1))
        sending = asyncio.create_task(outbound.send())
        overflow = asyncio.create_task(outbound.overflow.wait())
        try:
            await asyncio.wait((gone, sending, overflow), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (gone, sending, overflow):
                task.cancel()
            if not outbound.complete:
                self._thread.cancel(row)
        if overflow.done() and not overflow.cancelled():
            await outbound.refuse_slow_reader()
