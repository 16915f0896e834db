"""An engine inside the test process, on the test's own storage."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from backends.base import Backend, LoadOptions, Message, Sampling
from backends.fake import FakeBackend
from inference.engine.memory.residents import Limits
from inference.engine.server import Engine
from inference.gateway import client
from inference.protocol import Chunk, Folder, Generate
from registry.errors import Unavailable
from registry.storage import paths

HELLO: list[Message] = [Message(role="user", content="Lunch with Ana next Friday at noon")]


@asynccontextmanager
async def running_engine(
    backend: Backend | None = None,
    max_rows: int = 8,
    max_queue: int = 8,
    budget_bytes: int = 2**30,
    idle_s: float = 0.0,
    cache_bytes: int = 0,
    drain_s: float = 5.0,
    options: LoadOptions | None = None,
) -> AsyncIterator[Engine]:
    engine = Engine(
        backend or FakeBackend(),
        max_rows=max_rows,
        max_queue=max_queue,
        limits=Limits(budget_bytes, idle_s, options or LoadOptions(cache_bytes=cache_bytes)),
        drain_s=drain_s,
    )
    task = asyncio.create_task(engine.run(paths.engine_socket()))
    try:
        await until_ready(task)
        yield engine
    finally:
        engine.stop()
        await task


async def until_ready(task: "asyncio.Task[None]") -> None:
    async with asyncio.timeout(10):
        while not task.done():
            try:
                await client.ping()
            except Unavailable:
                await asyncio.sleep(0.01)
            else:
                return
    await task


async def until(condition: Any, timeout: float = 10) -> None:
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.005)


def ask(
    base: Folder, adapter: Folder | None = None, request_id: str = "one", **sampling: Any
) -> Generate:
    return Generate(
        request_id=request_id,
        correlation_id="c-1",
        base=base,
        adapter=adapter,
        messages=HELLO,
        sampling=Sampling(**sampling),
    )


async def text_of(request: Generate) -> str:
    events = [event async for event in client.generate(request)]
    return joined(events)


def joined(events: Sequence[object]) -> str:
    return "".join(event.text for event in events if isinstance(event, Chunk))
