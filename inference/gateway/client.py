"""The web side of the engine's socket. One connection per request; closing it cancels."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator
from functools import lru_cache
from pathlib import Path
from typing import Any

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


async def generate(request: Generate) -> AsyncGenerator[Started | Read | Chunk | Done]:
    """The engine's events until Done. Close the generator to cancel the request.

    Raises the HubError that the engine answered with, Unavailable when there is no engine, and
    EngineStopped when it stops on the way.
    """
    reader, writer = await _connect()
    try:
        writer.write(encode_request(request))
        event: Event | None = None
        while not isinstance(event, Done):
            line = await reader.readline()
            if not line.endswith(b"\n"):
                raise EngineStopped
            event = decode_event(line)
            if isinstance(event, Failed):
                raise to_error(event)
            if isinstance(event, Reply):
                raise EngineStopped
            yield event
    except ConnectionError as error:
        raise EngineStopped from error
    finally:
        writer.close()


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
    reader, writer = await _connect()
    try:
        async with asyncio.timeout(timeout):
            writer.write(encode_request(request))
            return _data(await reader.readline())
    except TimeoutError as error:
        raise Unavailable(f"The engine did not answer within {timeout:.0f} s.") from error
    except ConnectionError as error:
        raise engine_absent() from error
    finally:
        writer.close()


def _data(line: bytes) -> dict[str, Any]:
    if not line:
        raise engine_absent()
    event = decode_event(line)
    if isinstance(event, Failed):
        raise to_error(event)
    assert isinstance(event, Reply)
    return event.data


async def _connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        async with asyncio.timeout(CONNECT_S):
            return await asyncio.open_unix_connection(_socket_of(paths.root()), limit=MAX_LINE)
    except (OSError, TimeoutError) as error:
        _socket_of.cache_clear()
        raise engine_absent() from error


@lru_cache(maxsize=1)
def _socket_of(storage: Path) -> str:
    """The engine's socket in that storage, as long as somebody answers there."""
    return str(paths.engine_socket())
