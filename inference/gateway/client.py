"""The web side of the engine's socket. One connection per request; closing it cancels."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from inference.protocol import (
    MAX_LINE,
    Chunk,
    Count,
    Done,
    Embed,
    Event,
    Failed,
    Generate,
    Load,
    Ping,
    Read,
    Reply,
    Request,
    Started,
    Stats,
    Unload,
    decode_event,
    encode_request,
    to_error,
)
from registry.commands import typed
from registry.errors import Unavailable
from registry.storage import paths

CONNECT_S = 2.0
CONNECT_AGAIN_S = 0.01
MOST_HELD = 2 * MAX_LINE  # bytes for a client that reads slowly; then the engine's own limit counts
REPLY_S = 5.0  # for statistics; loading a model may take minutes and has its own limit
LOAD_S = 600.0
EMBED_S = 600.0  # the model may have to be loaded first


class EngineStopped(Unavailable):
    """The engine stopped while it was answering."""

    code = "engine_stopped"

    def __init__(self) -> None:
        super().__init__(
            "The engine stopped while answering; it is being restarted. Send the request again.", 2
        )


def engine_absent() -> Unavailable:
    return Unavailable(
        f"The engine is not running; `{typed('up')}` restarts it, so try again in a few seconds.", 5
    )


async def generate(
    request: Generate, take: Callable[[Chunk], bool] | None = None
) -> AsyncGenerator[Started | Read | Chunk | Done]:
    """The engine's events until Done. Close the generator to cancel the request. While it waits for the
    next one, a piece of text goes to `take` instead, which says whether it took it: to wake a task
    for each token takes longer than all that is done with it.

    Raises the HubError that the engine answered with, Unavailable when there is no engine, and
    EngineStopped when it stops on the way.
    """
    engine = await _connect()
    engine.take = take
    try:
        engine.send(request)
        event: Event | None = None
        while not isinstance(event, Done):
            line = engine.next() or await engine.line()
            if not line:
                raise EngineStopped
            event = decode_event(line)
            if isinstance(event, Failed):
                raise to_error(event)
            if isinstance(event, Reply):
                raise EngineStopped
            yield event
    finally:
        engine.close()


async def load(request: Load) -> dict[str, Any]:
    """Bring a model into memory. Raises what `generate` raises."""
    return await _reply(request, LOAD_S)


async def embed(request: Embed) -> dict[str, Any]:
    """`vectors` and `prompt_tokens`. Raises what `generate` raises."""
    return await _reply(request, EMBED_S)


async def count(request: Count) -> int:
    """Tokens of a chat. Raises what `generate` raises."""
    return int((await _reply(request, LOAD_S))["tokens"])


async def unload(request: Unload) -> list[str]:
    """Free memory; the names of the models that were unloaded."""
    return list((await _reply(request, REPLY_S))["unloaded"])


async def ping() -> int:
    """The engine's process id. Raises Unavailable."""
    return int((await _reply(Ping(), REPLY_S))["pid"])


async def aengine_stats() -> dict[str, Any]:
    """What the engine holds and does. Raises Unavailable."""
    return await _reply(Stats(), REPLY_S)


def engine_stats(timeout: float = CONNECT_S) -> dict[str, Any]:
    """`aengine_stats` for synchronous callers, `timeout` seconds at most per step."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout)
        try:
            sock.connect(str(paths.engine_socket()))
            sock.sendall(encode_request(Stats()))
            with sock.makefile("rb") as file:
                return _data(file.readline(MAX_LINE))
        except OSError as error:
            raise engine_absent() from error


async def _reply(request: Request, timeout: float) -> dict[str, Any]:
    engine = await _connect()
    try:
        async with asyncio.timeout(timeout):
            engine.send(request)
            return _data(await engine.line())
    except TimeoutError as error:
        raise Unavailable(f"The engine did not answer within {timeout:.0f} s.") from error
    finally:
        engine.close()


def _data(line: bytes) -> dict[str, Any]:
    if not line:
        raise engine_absent()
    event = decode_event(line)
    if isinstance(event, Failed):
        raise to_error(event)
    assert isinstance(event, Reply)
    return event.data


class Connection(asyncio.Protocol):
    """Lines of the engine as they come, with fewer calls for each than `asyncio.StreamReader` makes."""

    def __init__(self) -> None:
        self.take: Callable[[Chunk], bool] | None = None
        self._transport: asyncio.Transport
        self._lines: deque[bytes] = deque()
        self._parts: list[bytes] = []  # of a line whose end has not come
        self._held = 0  # bytes
        self._ended = False
        self._waiting: asyncio.Future[None] | None = None

    def send(self, request: Request) -> None:
        self._transport.write(encode_request(request))

    def next(self) -> bytes:
        """The next line, where it is here already."""
        if not self._lines:
            return b""
        line = self._lines.popleft()
        was, self._held = self._held, self._held - len(line) - 1
        if was > MOST_HELD >= self._held:
            self._transport.resume_reading()
        return line

    async def line(self) -> bytes:
        """The next line; empty once the engine has closed the connection."""
        while not self._lines and not self._ended:
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        return self.next()

    def close(self) -> None:
        self._transport.close()

    # ------------------------------------------------------------- called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has another class

    def data_received(self, data: bytes) -> None:
        was, self._held = self._held, self._held + len(data)
        *lines, rest = data.split(b"\n")
        if lines and self._parts:
            lines[0], self._parts = b"".join([*self._parts, lines[0]]), []
        if rest:
            self._parts.append(rest)
        for line in lines:
            if self._taken(line):
                self._held -= len(line) + 1
            else:
                self._lines.append(line)
        if self._lines:
            self._wake()
        if self._held > MOST_HELD >= was:
            if self._lines:
                self._transport.pause_reading()
            else:  # no engine writes such a line
                self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        self._wake()

    def _taken(self, line: bytes) -> bool:
        """Whether it is a piece of text that was taken, after all that came before it."""
        if self.take is None or self._lines or not line.startswith(b'"'):
            return False
        if self._waiting is None or self._waiting.done():
            return False
        chunk = decode_event(line)
        return isinstance(chunk, Chunk) and self.take(chunk)

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


async def _connect() -> Connection:
    """A Unix socket connects at once or not at all, so nothing is waited for but a full queue."""
    deadline = time.monotonic() + CONNECT_S
    while True:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.connect(_socket_of(paths.root()))
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_unix_connection(Connection, sock=sock)
            return connection
        except BlockingIOError as error:
            sock.close()
            if time.monotonic() > deadline:
                raise engine_absent() from error
            await asyncio.sleep(CONNECT_AGAIN_S)
        except OSError as error:
            sock.close()
            _socket_of.cache_clear()
            raise engine_absent() from error


@lru_cache(maxsize=1)
def _socket_of(storage: Path) -> str:
    """The engine's socket in that storage, as long as somebody answers there."""
    return str(paths.engine_socket())
