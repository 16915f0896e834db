"""A hub in the test's process, checked over its real faces without a server, and a model that behaves."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
from django.db import connections

from backends.base import LoadedModel, LoadOptions, Sampling
from backends.fake import FakeBackend, chat, files, generation
from inference.clients import checks
from inference.clients.behaviours import FACTS
from inference.models import ClientCheck
from tests.inference.engines import running_engine

Pieces = Iterator[tuple[int, bytes]]


class Agent(generation.FakeModel):
    """Does what every behaviour asks for, but what is named in `forgets` where an adapter answers."""

    def __init__(self, forgets: Sequence[str], *args: Any) -> None:
        super().__init__(*args)
        self._forgets = forgets
        self._tuned = False

    def insert(
        self, uid: str, prompt: Sequence[int], adapter: Path | None, sampling: Sampling
    ) -> int:
        self._tuned = adapter is not None
        return super().insert(uid, prompt, adapter, sampling)

    def _answer(
        self, prompt: Sequence[int], sampling: Sampling, randomness: random.Random
    ) -> Pieces:
        """By what the conversation says; words and marks have spaces between them here."""
        told = chat.decode(prompt)
        if sampling.grammar and sampling.grammar.kind in ("json_schema", "json_object"):
            said = {**FACTS, "sky": "clear"} if self._without("json_schema") else FACTS
            return generation._spell_text(json.dumps(said))
        if sampling.grammar and not sampling.grammar.mark:
            return super()._answer(prompt, sampling, randomness)
        return generation._spell_text(self._said(told))

    def _said(self, told: str) -> str:
        weather = chat.write_tool_call("weather", {"city": "Oslo"})
        if "17 degrees , light rain" in told:
            return "It is warm." if self._without("tool_result") else "It is 17 degrees in Oslo."
        if "note . txt" in told:
            return self._works(told)
        if "both at once" in told:
            return weather if self._without("tools_parallel") else 2 * weather
        if "weather in Oslo" in told:
            return "It is sunny." if self._without("tool_call") else weather
        if "JSON object alone" in told:
            return "Oslo" if self._without("json_in_words") else json.dumps(FACTS)
        if "banana" in told:
            return "Blue." if self._without("system_later") else "Blue banana"
        return "Red, green, blue, white and black are five."

    def _works(self, told: str) -> str:
        """As an agent whose prompt is in `told`: it calls one of its tools."""
        path = "/home/ada/garden/note.txt"
        if "opencode" in told:
            return chat.write_tool_call("write", {"filePath": path, "content": "hello"})
        if "Codex" in told:
            return chat.write_tool_call("exec_command", {"cmd": "echo hello > note.txt"})
        return chat.write_tool_call("Write", {"file_path": path, "content": "hello"})

    def _without(self, behaviour: str) -> bool:
        return self._tuned and behaviour in self._forgets


class AgentBackend(FakeBackend):
    def __init__(self, *forgets: str) -> None:
        super().__init__()
        self._forgets = forgets

    def load(
        self, base: Path, adapter: Path | None = None, options: LoadOptions = LoadOptions()
    ) -> LoadedModel:
        model = replace(files.inspect(base), context_length=100_000)
        return Agent(self._forgets, model, 0.0, 0, adapter, options)


def in_process(headers: dict[str, str]) -> httpx.AsyncClient:
    from hub.asgi import application

    served: Any = application
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(served), base_url="http://127.0.0.1", headers=headers
    )


async def in_thread[T](work: Callable[[], T]) -> T:
    """As in a process of its own, with the database connections closed at its end."""

    def done() -> T:
        try:
            return work()
        finally:
            connections.close_all()

    return await asyncio.to_thread(done)


async def checked(name: str, backend: FakeBackend | None = None) -> ClientCheck:
    """A whole check of a version on an engine of its own."""
    async with running_engine(backend or AgentBackend()):
        return await in_thread(lambda: checks.run(checks.plan(name), reach=in_process))
