"""The WebSocket, spoken to with an engine in this process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from backends.fake import FakeBackend
from inference.engine.server import Engine
from inference.models import InferenceRequest
from inference.web.consumers import MAX_AT_ONCE, InferenceConsumer
from tests.inference.builders import make_base, make_version
from tests.inference.engines import running_engine, until
from tests.inference.sockets import Socket

pytestmark = pytest.mark.usefixtures("db_in_threads")
SLOW: dict[str, Any] = {"tokens_per_second": 50, "reply_words": 500}


@asynccontextmanager
async def connected(**pace: Any) -> AsyncIterator[tuple[Socket, Engine]]:
    await sync_to_async(lambda: make_version(make_base()))()
    async with running_engine(FakeBackend(**pace)) as engine:
        socket = Socket(InferenceConsumer.as_asgi(), "/ws/inference")
        assert await socket.connect()
        yield socket, engine
        if not socket.gone:
            await socket.disconnect()


async def generate(socket: Socket, name: str, **fields: Any) -> None:
    body = {"model": "calendar", "prompt": f"Meeting {name}", **fields}
    await socket.send({"type": "generate", "id": name, **body})


async def until_event(socket: Socket, event: str) -> list[dict[str, Any]]:
    received: list[dict[str, Any]] = []
    while not received or received[-1]["event"] != event:
        received.append(await socket.receive())
    return received


async def test_a_generation_starts_goes_on_and_ends() -> None:
    async with connected() as (socket, _):
        await generate(socket, "a")
        events = await until_event(socket, "done")
    assert events[0]["event"] == "started"
    assert events[0]["answered_by"] == "calendar@0.1.0"
    assert {event["event"] for event in events[1:-1]} == {"delta"}
    assert {event["id"] for event in events} == {"a"}
    assert events[-1]["timings"]["total_ms"] > 0
    row = await InferenceRequest.objects.aget()
    assert (row.api, row.status) == ("websocket", "completed")
    assert row.correlation_id


async def test_two_generations_share_one_socket() -> None:
    async with connected(tokens_per_second=100) as (socket, _):
        await generate(socket, "a")
        await generate(socket, "b", model="base:tiny")
        events = await until_event(socket, "done") + await until_event(socket, "done")
    places: dict[str, list[int]] = {}
    for name, answered_by in (("a", "calendar@0.1.0"), ("b", "base:tiny")):
        places[name] = [at for at, event in enumerate(events) if event["id"] == name]
        first, last = events[places[name][0]], events[places[name][-1]]
        assert first["answered_by"] == last["answered_by"] == answered_by
    # They ran together: neither was over before the other had begun.
    assert places["b"][0] < places["a"][-1]
    assert places["a"][0] < places["b"][-1]


async def test_four_columns_share_one_batch() -> None:
    async with connected(**SLOW) as (socket, engine):
        for name in "abcd":
            model = "base:tiny" if name == "a" else "calendar"
            await generate(socket, name, model=model, temperature=0.7, seed=7)
        await until(lambda: engine.stats()["running"] == 4)
        [loaded] = engine.stats()["models"]
        assert loaded["running"] == 4  # of one copy of the base


async def test_stopping_one_leaves_the_other() -> None:
    async with connected(**SLOW) as (socket, engine):
        await generate(socket, "a")
        await generate(socket, "b")
        await until(lambda: engine.stats()["running"] == 2)
        await socket.send({"type": "stop", "id": "a"})
        events = await until_event(socket, "stopped")
        assert events[-1]["id"] == "a"
        await until(lambda: engine.stats()["running"] == 1)
    assert await InferenceRequest.objects.filter(status="cancelled").acount() == 2


async def test_disconnecting_stops_everything() -> None:
    async with connected(**SLOW) as (socket, engine):
        await generate(socket, "a")
        await generate(socket, "b")
        await until(lambda: engine.stats()["running"] == 2)
        await socket.disconnect()
        await until(lambda: engine.stats()["running"] == 0)


async def test_an_unknown_model_is_an_error_of_its_own_request() -> None:
    async with connected() as (socket, _):
        await generate(socket, "a", model="nobody")
        answer = await socket.receive()
        await generate(socket, "b")
        assert (await until_event(socket, "done"))[-1]["id"] == "b"
    assert answer["id"] == "a"
    assert answer["error"]["code"] == "not_found"


@pytest.mark.parametrize(
    "message",
    [
        "not json",
        "[]",
        '{"type": "dance", "id": "a"}',
        '{"type": "generate", "model": "calendar", "prompt": "x"}',
        '{"type": "generate", "id": "a", "model": "calendar"}',
        '{"type": "generate", "id": "a", "model": "calendar", "prompt": "x", "top_p": 7}',
    ],
)
@pytest.mark.any_database
async def test_nonsense_is_answered_with_an_error(message: str) -> None:
    async with connected() as (socket, _):
        await socket.send(message)
        answer = await socket.receive()
    assert answer["event"] == "error"
    assert answer["error"]["code"] == "invalid"


async def test_what_goes_wrong_is_one_sentence_under_its_own_id() -> None:
    async with connected() as (socket, _):
        await generate(socket, "long", prompt="word " * 20_000)
        too_long = (await until_event(socket, "error"))[-1]
    assert too_long["id"] == "long"
    assert too_long["error"]["code"] == "context_length_exceeded"
    assert "20" in too_long["error"]["message"]  # names the length

    socket = Socket(InferenceConsumer.as_asgi(), "/ws/inference")
    assert await socket.connect()
    await generate(socket, "alone")  # the engine has gone
    gone = (await until_event(socket, "error"))[-1]
    assert (gone["id"], gone["error"]["code"]) == ("alone", "unavailable")
    assert "engine" in gone["error"]["message"]
    await socket.disconnect()


async def test_a_full_queue_says_so() -> None:
    await sync_to_async(lambda: make_version(make_base()))()
    async with running_engine(FakeBackend(**SLOW), max_rows=1, max_queue=1) as engine:
        socket = Socket(InferenceConsumer.as_asgi(), "/ws/inference")
        assert await socket.connect()
        await generate(socket, "a")
        await until(lambda: engine.stats()["running"] == 1)
        for name in "bc":
            await generate(socket, name)
        refused = (await until_event(socket, "error"))[-1]
        await socket.disconnect()
    assert refused["id"] == "c"
    assert refused["error"]["code"] == "too_many_requests"


async def test_an_id_is_not_used_twice_at_once() -> None:
    async with connected(**SLOW) as (socket, _):
        await generate(socket, "a")
        await generate(socket, "a")
        events = await until_event(socket, "error")
    assert events[-1]["error"]["code"] == "conflict"


async def test_one_socket_has_its_limit() -> None:
    async with connected(**SLOW) as (socket, _):
        for number in range(MAX_AT_ONCE + 1):
            await generate(socket, str(number))
        events = await until_event(socket, "error")
    assert events[-1]["id"] == str(MAX_AT_ONCE)


async def test_regenerating_asks_again_with_what_changes() -> None:
    async with connected() as (socket, _):
        await generate(socket, "a", temperature=0.7, seed=1)
        first = await until_event(socket, "done")
        await socket.send({"type": "regenerate", "id": "a", "seed": 2})
        other = await until_event(socket, "done")
        await socket.send({"type": "regenerate", "id": "a", "seed": 1})
        again = await until_event(socket, "done")

    def text(events: list[dict[str, Any]]) -> str:
        return "".join(event.get("text", "") for event in events)

    assert text(first) == text(again) != text(other)


async def test_regenerating_stops_what_still_runs() -> None:
    async with connected(**SLOW) as (socket, engine):
        await generate(socket, "a")
        await until(lambda: engine.stats()["running"] == 1)
        await socket.send({"type": "regenerate", "id": "a"})
        before = await until_event(socket, "stopped")
        assert (await until_event(socket, "started"))[-1]["id"] == before[-1]["id"] == "a"
        await until(lambda: engine.stats()["running"] == 1)
    assert await InferenceRequest.objects.filter(status="cancelled").acount() == 2


async def test_only_what_was_asked_can_be_asked_again() -> None:
    async with connected() as (socket, _):
        await socket.send({"type": "regenerate", "id": "a"})
        assert (await socket.receive())["error"]["code"] == "invalid"
