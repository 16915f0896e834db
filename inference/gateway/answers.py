"""Several generations that answer one request: started together, read as one stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from inference.protocol import Chunk, Done, Started, TokenInfo

Event = Started | Chunk | Done
Events = AsyncGenerator[Event]
_BUFFERED = 64  # events kept for a slow reader; then the engine's own limit counts


async def together(prompts: Sequence[Sequence[Events]]) -> AsyncGenerator[tuple[int, Event]]:
    """The events of all rows with each row's number, as they come.

    `prompts` has the rows of each prompt. The first of them leads: the others begin when it has
    its first token, so that they find the prompt in the prefix cache. The first error of any row
    ends them all. Close the generator to stop (use `aclosing`).
    """
    if len(prompts) == 1 and len(prompts[0]) == 1:
        async with aclosing(prompts[0][0]) as events:
            async for event in events:
                yield 0, event
        return
    queue: asyncio.Queue[tuple[int, Event | Exception]] = asyncio.Queue(_BUFFERED)
    tasks = _pumps(prompts, queue)
    try:
        running = len(tasks)
        while running:
            row, came = await queue.get()
            if isinstance(came, Exception):
                raise came
            running -= isinstance(came, Done)
            yield row, came
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _pumps(
    prompts: Sequence[Sequence[Events]], queue: asyncio.Queue[tuple[int, Event | Exception]]
) -> list[asyncio.Task[None]]:
    tasks: list[asyncio.Task[None]] = []
    for rows in prompts:
        begun = asyncio.Event()
        for position, events in enumerate(rows):
            pump = _pump(len(tasks), events, queue, begun, leads=position == 0)
            tasks.append(asyncio.create_task(pump))
    return tasks


async def _pump(
    row: int,
    events: Events,
    queue: asyncio.Queue[tuple[int, Event | Exception]],
    begun: asyncio.Event,
    *,
    leads: bool,
) -> None:
    try:
        if not leads:
            await begun.wait()
        async with aclosing(events):
            async for event in events:
                if not isinstance(event, Started):
                    begun.set()
                await queue.put((row, event))
    except Exception as error:
        await queue.put((row, error))


@dataclass
class Answer:
    """A whole answer."""

    texts: list[str] = field(default_factory=list)
    logprobs: list[TokenInfo] = field(default_factory=list)
    started: Started | None = None
    done: Done | None = None

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def take(self, event: Event) -> None:
        if isinstance(event, Chunk):
            self.texts.append(event.text)
            self.logprobs += event.logprobs or []
        elif isinstance(event, Started):
            self.started = event
        else:
            self.done = event

    @property
    def ended(self) -> Done:
        assert self.done is not None, "a generation ends with Done or an exception"
        return self.done


async def answers(prompts: Sequence[Sequence[Events]]) -> list[Answer]:
    """All rows' answers, in order, once the last is there. Raises HubError."""
    whole = [Answer() for rows in prompts for _ in rows]
    async with aclosing(together(prompts)) as events:
        async for row, event in events:
            whole[row].take(event)
    return whole
