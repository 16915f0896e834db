"""What the tests of the OpenAI-compatible API ask with the real `openai` client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx2

from tests.inference.processes import Hub

if TYPE_CHECKING:
    from openai import AsyncOpenAI

ASK: Any = [{"role": "user", "content": "Lunch with Ana next Friday at noon"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
CLOCK: Any = {"type": "function", "function": {"name": "clock"}}
TOOLS = [CLOCK, WEATHER]
CALL: Any = [{"role": "user", "content": "Ask weather for Oslo"}]


def chat(hub: Hub, **more: Any) -> Any:
    asked: dict[str, Any] = {"model": "calendar", "messages": ASK, **more}
    return hub.openai.chat.completions.create(**asked)


def complete(hub: Hub, **more: Any) -> Any:
    asked: dict[str, Any] = {"model": "calendar", "prompt": "Once upon a time", **more}
    return hub.openai.completions.create(**asked)


@asynccontextmanager
async def in_process() -> AsyncIterator[AsyncOpenAI]:
    """The client of a hub in the test process, whose web side needs no server."""
    from openai import AsyncOpenAI

    async with web() as http:
        yield AsyncOpenAI(
            base_url="http://127.0.0.1/v1", api_key="any", max_retries=0, http_client=http
        )


@asynccontextmanager
async def web() -> AsyncIterator[httpx2.AsyncClient]:
    from hub.asgi import application

    served: Any = application
    transport = httpx2.ASGITransport(served)
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
        yield http
