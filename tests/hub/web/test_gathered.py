"""How many times a socket is written to for one answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from django.http import StreamingHttpResponse

from backends.base import Sampling
from hub.management.commands.run_web import Gathered
from hub.web.inloop import Handler
from inference.gateway.answer import Direct, Stream
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


async def test_texts_are_sent_as_they_come_and_none_before_another() -> None:
    direct, room = Direct(), asyncio.Event()
    sent: list[Any] = []

    async def send(message: Any) -> None:
        if b"two" in message.get("body", b""):
            await room.wait()  # the client reads slowly
        sent.append(message)

    async def come() -> AsyncGenerator[Any]:
        assert direct.take is not None
        assert direct.take(Chunk("one "))
        assert b"one" in sent[-1]["body"]
        assert direct.take(Chunk("two "))
        assert not direct.take(Chunk("three"))
        asyncio.get_running_loop().call_soon(room.set)
        yield 0, Chunk("three")
        yield 0, Done("stop", 3, 3, 0.0, 1.0, 2.0, None)

    await Handler().send_response(_response(come(), 1, direct), send)
    words = (b"one", b"two", b"three")
    assert tuple(word for one in sent[1:] for word in words if word in one["body"]) == words
    assert sent[-1]["body"].endswith(b"data: [DONE]\n\n")


async def test_texts_of_several_answers_keep_their_numbers() -> None:
    direct = Direct()

    async def come() -> AsyncGenerator[Any]:
        assert direct.take is None
        for index in range(2):
            yield index, Done("stop", 3, 0, 0.0, 1.0, 2.0, None)

    async def send(message: Any) -> None:
        pass

    await Handler().send_response(_response(come(), 2, direct), send)


async def _sent(events: list[Any], answers: int) -> list[Any]:
    async def come() -> AsyncGenerator[Any]:
        for event in events:
            yield event

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await Handler().send_response(_response(come(), answers, Direct()), send)
    return sent


def _response(events: AsyncGenerator[Any], answers: int, direct: Direct) -> StreamingHttpResponse:
    served = Served("base:tiny", BaseModel(name="tiny", manifest_sha256="ab"), None)
    stream = Stream(served, Started("r1", 3, 0.0), events, answers, direct)
    request = GenerationRequest("base:tiny", ["Hello"], Sampling(), n=answers)
    return event_stream(stream, bodies.ChatChunks(stream, request, include_usage=True))
