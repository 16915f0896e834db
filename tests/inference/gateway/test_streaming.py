"""What a stream's frames look like, whatever the model writes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from backends.base import Sampling
from inference.gateway.answer import Stream
from inference.gateway.request import GenerationRequest
from inference.gateway.streaming import frame
from inference.native import bodies as native
from inference.protocol import Chunk, Done, Event, Reply, Started, decode_event, encode_event
from inference.v1.anthropic import bodies as anthropic
from inference.v1.openai import bodies as openai
from inference.v1.responses import events as responses
from inference.v1.responses.schemas import ResponseIn
from registry.promotion.resolve import Served
from tests.inference.builders import make_base

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]
TEXT = "one\u2028two\u2029three\u0085four\x0bfive\x1c日本"


def frames_of(kind: str) -> Any:
    served = Served("base:tiny", make_base(), None)

    async def nothing() -> Any:
        return
        yield

    stream = Stream(served, Started("r1", 3, 0.0), nothing())
    request: Any = GenerationRequest("base:tiny", [TEXT], Sampling())
    if kind == "chat":
        return openai.ChatChunks(stream, request, include_usage=True)
    if kind == "text":
        return openai.TextChunks(stream, request, include_usage=False, echo=True)
    if kind == "responses":
        return responses.Events(
            stream, ResponseIn(model="base:tiny", input=TEXT), lambda items: None
        )
    return anthropic.Events(stream) if kind == "anthropic" else native.Events(stream)


def done() -> Done:
    call: Any = {"name": "say", "arguments": json.dumps({"a": TEXT}, ensure_ascii=False)}
    return Done("tool_calls", 3, 4, 0.0, 1.0, 2.0, None, tool_calls=[call])


@pytest.mark.parametrize("kind", ["chat", "text", "anthropic", "native", "responses"])
def test_no_frame_has_a_line_that_only_unicode_ends(kind: str) -> None:
    frames = frames_of(kind)
    data = list(TEXT.encode())
    token: Any = {"text": TEXT, "bytes": data, "logprob": -0.5, "top": [(TEXT, -0.5, data)]}
    sent = b"".join(
        (
            *frames.start(),
            frames.chunk(0, Chunk(TEXT)),
            frames.chunk(0, Chunk(TEXT, [token], TEXT)),
            *frames.end(0, done()),
            *frames.finish(),
        )
    ).decode()
    assert sent.splitlines() == sent.split("\n")[:-1]
    assert TEXT in "".join(map(str, _texts(sent)))


def _texts(sent: str) -> list[object]:
    lines = [line.removeprefix("data: ") for line in sent.split("\n") if line.startswith("data: {")]
    found: list[object] = []

    def walk(value: object) -> None:
        if isinstance(value, dict):
            for inner in value.values():
                walk(inner)
        elif isinstance(value, list):
            for inner in value:
                walk(inner)
        else:
            found.append(value)

    for line in lines:
        walk(json.loads(line))
    return found


def test_an_error_is_one_line_too() -> None:
    assert len(frame({"message": TEXT}, event="error").decode().splitlines()) == 3


@pytest.mark.parametrize(
    "event",
    [
        Chunk(TEXT),
        Chunk('"}, {"'),
        Chunk("", thoughts=TEXT),
        Chunk("a", [{"text": "a", "bytes": [97], "logprob": -float("inf"), "top": []}]),
        Chunk("", calls=[{"number": 0, "name": "add", "arguments": ""}]),
        Done("stop", 3, 5, 0.1, 2.0, 9.5, None, tool_calls=[{"name": "add", "arguments": "{}"}]),
        Reply({"models": [], "share": 0.5}),
    ],
    ids=lambda event: event.event,
)
def test_an_event_reaches_the_web_process_in_one_line(event: Event) -> None:
    line = encode_event(event)
    assert line.count(b"\n") == 1
    assert decode_event(line) == event
