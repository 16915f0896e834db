"""How many times a socket is written to for one answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from backends.base import Sampling
from hub.management.commands.run_web import Gathered
from hub.web.inloop import Handler
from inference.gateway.answer import Stream
from inference.gateway.request import GenerationRequest
from inference.gateway.streaming import event_stream
from inference.protocol import Chunk, Done, Started
from inference.v1.openai import bodies
from registry.models import BaseModel
from registry.promotion.resolve import Served

HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


class Socket:
    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def close(self) -> None:
        self.closed = True


def gathered() -> tuple[Any, Socket]:
    socket = Socket()
    transport: Any = socket
    return Gathered(transport), socket


async def test_a_head_goes_out_with_the_piece_that_follows() -> None:
    transport, socket = gathered()
    for piece in (HEAD, b"one", b"two"):
        transport.write(piece)
    assert socket.written == [HEAD + b"one", b"two"]
    await asyncio.sleep(0)
    assert len(socket.written) == 2


async def test_a_head_alone_waits_for_nothing() -> None:
    transport, socket = gathered()
    transport.write(HEAD)
    await asyncio.sleep(0)
    assert socket.written == [HEAD]
    transport.write(HEAD)
    transport.close()
    assert socket.written == [HEAD, HEAD]
    assert socket.closed


async def test_a_stream_is_one_message_for_its_head_each_token_and_its_end() -> None:
    answers: list[Any] = []
    for index in range(2):
        answers += [(index, Chunk(word)) for word in ("one ", "two")]
    ends = [(index, Done("stop", 3, 2, 0.0, 1.0, 2.0, None)) for index in range(2)]
    sent = await _sent([*answers, *ends], 2)
    assert [message["type"] for message in sent] == [
        "http.response.start",
        *["http.response.body"] * 7,  # roles, four words, the first end, the last one with usage
    ]
    assert [message["more_body"] for message in sent[1:]] == [True] * 6 + [False]
    whole = b"".join(message["body"] for message in sent[1:])
    assert whole.count(b'"finish_reason": "stop"') == 2
    assert whole.count(b'"completion_tokens": 4') == 1
    assert whole.endswith(b"data: [DONE]\n\n")


async def _sent(events: list[Any], answers: int) -> list[Any]:
    async def come() -> AsyncGenerator[Any]:
        for event in events:
            yield event

    served = Served("base:tiny", BaseModel(name="tiny", manifest_sha256="ab"), None)
    stream = Stream(served, Started("r1", 3, 0.0), come(), answers)
    request = GenerationRequest("base:tiny", ["Hello"], Sampling(), n=answers)
    response = event_stream(stream, bodies.ChatChunks(stream, request, include_usage=True))
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await Handler().send_response(response, send)
    return sent
