"""A client of OpenAI-compatible servers that reads raw sockets, so that reading costs little."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from backends.base import Message

LIMIT_S = 600.0  # of one answer
_TOKEN = re.compile(rb'"content": ?"[^"]')


class NoAnswer(Exception):
    """A server sent no text, or did not end its stream."""


@dataclass(frozen=True)
class Server:
    """Where to send requests, and the name of the model there."""

    name: str
    url: str
    model: str


@dataclass
class Answer:
    """Moments are of `time.perf_counter`; `first` and `last` are those of text."""

    began: float
    first: float = 0.0
    last: float = 0.0
    ended: float = 0.0
    prompt_tokens: int = 0
    tokens: int = 0
    text: str = ""
    cached_tokens: int = 0

    @property
    def first_ms(self) -> float:
        return (self.first - self.began) * 1000

    @property
    def rate(self) -> float:
        """Tokens a second after the first."""
        return (self.tokens - 1) / (self.last - self.first)


def request(server: Server, messages: Sequence[Message], **body: Any) -> bytes:
    """The bytes of a chat request."""
    content = json.dumps({"model": server.model, "messages": list(messages), **body}).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {urlsplit(server.url).netloc}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode() + content


@asynccontextmanager
async def connected(
    server: Server, messages: Sequence[Message], **body: Any
) -> AsyncIterator[asyncio.StreamReader]:
    """A connection with the request sent. Leaving the block closes it."""
    address = urlsplit(server.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        writer.write(request(server, messages, **body))
        yield reader
    finally:
        writer.transport.abort()


async def ask(
    server: Server, messages: Sequence[Message], max_tokens: int, **sampling: Any
) -> Answer:
    """One streamed answer, read to its end. Raises NoAnswer when the server sends none."""
    usage = {"stream_options": {"include_usage": True}}
    body = {"stream": True, "max_tokens": max_tokens, "temperature": 0.0, **usage, **sampling}
    answer, parts = Answer(time.perf_counter()), []
    try:
        async with asyncio.timeout(LIMIT_S), connected(server, messages, **body) as reader:
            while data := await reader.read(65536):
                if _TOKEN.search(data):
                    answer.last = time.perf_counter()
                    answer.first = answer.first or answer.last
                parts.append(data)
    except TimeoutError:
        raise NoAnswer(f"{server.name} did not answer within {LIMIT_S:.0f} s") from None
    answer.ended = time.perf_counter()
    _read(answer, server, b"".join(parts))
    return answer


def _read(answer: Answer, server: Server, whole: bytes) -> None:
    if b"data: [DONE]" not in whole or not answer.first:
        raise NoAnswer(f"{server.name} did not answer: {whole[:600].decode(errors='replace')}")
    for line in whole.split(b"\n"):
        if line.startswith(b"data: {"):
            event = json.loads(line[6:])
            for choice in event["choices"]:
                answer.text += choice["delta"].get("content") or ""
            if counted := event.get("usage"):
                answer.prompt_tokens = counted["prompt_tokens"]
                answer.tokens = counted["completion_tokens"]
                details = counted.get("prompt_tokens_details") or {}
                answer.cached_tokens = details.get("cached_tokens") or 0


@dataclass(frozen=True)
class Together:
    """Several answers generated at the same time."""

    tokens: int
    seconds: float
    first_ms: float  # the median

    @property
    def rate(self) -> float:
        """Tokens a second of all answers, from the first request to the end of the last answer."""
        return self.tokens / self.seconds


async def ask_all(
    servers: Sequence[Server],
    chats: Sequence[Sequence[Message]],
    max_tokens: int,
    **sampling: Any,
) -> Together:
    """Send all `chats` at once, spread over `servers`."""
    began = time.perf_counter()
    answers = await asyncio.gather(
        *(
            ask(servers[i % len(servers)], chat, max_tokens, **sampling)
            for i, chat in enumerate(chats)
        )
    )
    seconds = max(answer.ended for answer in answers) - began
    firsts = sorted(answer.first - began for answer in answers)
    tokens = sum(answer.tokens for answer in answers)
    return Together(tokens, seconds, firsts[len(firsts) // 2] * 1000)
