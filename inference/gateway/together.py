"""Several answers to one request: started together, read as one stream."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing

from inference.gateway.answer import Events
from inference.protocol import Chunk, Done, Read, Started

_BUFFERED = 64  # events kept for a slow reader; then the engine's own limit counts
_Queue = asyncio.Queue[tuple[int, Started | Read | Chunk | Done] | Exception]


async def together(answers: Sequence[Events], n: int, at_once: int) -> Events:
    """The events of all `answers` as they come; `n` in a row answer the same prompt. At most
    `at_once` of them are with the engine.

    The first of them leads: the others start when it has its first token, so that they find the
    prompt in the prefix cache. The first error of any answer ends them all.
    """
    queue: _Queue = asyncio.Queue(_BUFFERED)
    tasks: list[asyncio.Task[None]] = []
    prompt_cached = asyncio.Event()
    places = asyncio.Semaphore(at_once)
    for index, events in enumerate(answers):
        if leads := index % n == 0:
            prompt_cached = asyncio.Event()
        forwarding = _forward(events, queue, prompt_cached, places, leads=leads)
        tasks.append(asyncio.create_task(forwarding))
    try:
        running = len(tasks)
        while running:
            came = await queue.get()
            if isinstance(came, Exception):
                raise came
            running -= isinstance(came[1], Done)
            yield came
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _forward(
    events: Events,
    queue: _Queue,
    prompt_cached: asyncio.Event,
    places: asyncio.Semaphore,
    *,
    leads: bool,
) -> None:
    try:
        if not leads:
            await prompt_cached.wait()
        async with places, aclosing(events):
            async for event in events:
                if not isinstance(event[1], Started | Read):
                    prompt_cached.set()
                await queue.put(event)
    except Exception as error:
        await queue.put(error)
