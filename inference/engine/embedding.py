"""Requests for vectors: bounded in total, and for each key together with its generations."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from backends.base import Question
from inference.engine.requests.places import Place
from inference.engine.thread import GenerationThread
from inference.protocol import Embed
from registry.errors import TooManyRequests

AT_ONCE = 4  # texts between two steps of the streams
UNDISTURBED = 32  # where nothing runs, of so many characters: who comes next waits for them
UNDISTURBED_CHARACTERS = 8000
CLIENTS = 16
_CHECK_S = 0.01  # between two checks whether a key may continue


class Embedding:
    """Lives on the event loop."""

    def __init__(self, thread: GenerationThread, find: Callable[[Embed], Awaitable[Place]]) -> None:
        self._thread = thread
        self._find = find
        self._requests = 0
        self._waiting: Counter[str] = Counter()

    @property
    def busy(self) -> bool:
        return self._requests > 0

    async def answer(self, request: Embed) -> dict[str, Any]:
        """Vectors and tokens; a few texts between two steps, so that long lists delay no stream.
        Raises TooManyRequests and what loading raises."""
        if self._requests >= CLIENTS:
            raise TooManyRequests(
                f"{self._requests} requests for embeddings are already running; try again soon.", 2
            )
        self._requests += 1
        try:
            place = await self._find(request)
            asked = None
            if request.query is not None:
                asked = Question(request.query, request.instruction)
            async with self._turn(request):
                vectors: list[list[float]] = []
                tokens = 0
                while len(vectors) < len(request.texts):
                    left = request.texts[len(vectors) :]
                    texts = next_texts(left, self._thread.idle, len(request.query or ""))
                    more, read = await asyncio.wrap_future(self._thread.embed(place, texts, asked))
                    vectors, tokens = vectors + more, tokens + read
            return {"vectors": vectors, "prompt_tokens": tokens}
        finally:
            self._requests -= 1

    @asynccontextmanager
    async def _turn(self, request: Embed) -> AsyncGenerator[None]:
        """A place among what the request's key may run at once."""
        key = request.key
        if not self._thread.begin_embedding(key, request.key_running):
            await self._wait(request)
        try:
            yield
        finally:
            self._thread.end_embedding(key)

    async def _wait(self, request: Embed) -> None:
        key, most = request.key, request.key_waiting
        waiting = self._waiting[key] + self._thread.waiting_of(key)
        if most is not None and waiting >= most:
            raise TooManyRequests(
                f"This key already runs {request.key_running} requests, and {waiting} are already "
                "waiting; try again when some are answered.",
                self._thread.patience,
            )
        self._waiting[key] += 1
        try:
            while not self._thread.begin_embedding(key, request.key_running):
                await asyncio.sleep(_CHECK_S)
        finally:
            self._waiting[key] -= 1


def next_texts(texts: Sequence[str], undisturbed: bool, beside: int = 0) -> list[str]:
    """The first of `texts`, as many as may be read at once, each with so many characters `beside` it."""
    chosen = list(texts[:AT_ONCE])
    characters = sum(map(len, chosen)) + beside * len(chosen)
    for text in texts[AT_ONCE:UNDISTURBED] if undisturbed else ():
        characters += len(text) + beside
        if characters > UNDISTURBED_CHARACTERS:
            break
        chosen.append(text)
    return chosen
