"""A hub that does not keep its contract is distinguished from a model that does not behave."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from inference.clients.asking import Broken, Failed, Skipped
from inference.clients.behaviours import (
    json_schema,
    stop,
    streaming,
    system_later,
    thinking,
    tool_call,
    tool_forced,
    usage,
)
from inference.clients.client import Client
from inference.clients.faces import FACES, Face
from registry.errors import Unavailable

pytestmark = pytest.mark.any_database
Answer = Callable[[dict[str, Any]], httpx.Response]


def client(answer: Answer, face: str = "chat", thinks: bool = True) -> Client:
    def handle(request: httpx.Request) -> httpx.Response:
        return answer(json.loads(request.content))

    [speaks] = [one for one in FACES if one.name == face]
    http = httpx.AsyncClient(transport=httpx.MockTransport(handle), base_url="http://hub")
    return Client(speaks, "calendar", http, thinks)


def chat(
    text: str = "Red and green.", finish: str = "stop", tokens: int = 5, **message: Any
) -> dict[str, Any]:
    """A whole chat completion."""
    return {
        "choices": [
            {
                "message": {"role": "assistant", "content": text, **message},
                "finish_reason": finish,
            }
        ],
        "usage": {
            "prompt_tokens": 7,
            "completion_tokens": tokens,
            "total_tokens": 7 + tokens,
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
    }


def call(name: str = "weather", arguments: str = '{"city": "Oslo"}') -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    called = [{"id": "call_1", "type": "function", "function": function}]
    return chat("", "tool_calls", tool_calls=called)


def streamed(body: dict[str, Any], end: str = "data: [DONE]\n\n") -> httpx.Response:
    [choice] = body["choices"]
    chunks = [
        {"choices": [{"delta": choice["message"], "finish_reason": choice["finish_reason"]}]},
        {"choices": [], "usage": body["usage"]},
    ]
    text = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks)
    return httpx.Response(200, text=text + end)


def always(body: dict[str, Any], status: int = 200) -> Answer:
    return lambda asked: httpx.Response(status, json=body)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (chat("It is sunny."), "It called no tool and answered: 'It is sunny.'"),
        (chat("<tool_call>{", "length"), "It called no tool and was cut off"),
        (call("forecast"), "'forecast', which is not one of the tools"),
        (call("clock"), "It called clock where weather was asked for"),
        (call(arguments='{"town": "Oslo"}'), "do not fit: "),
        (call(arguments='{"city": 7}'), "7 is not of type 'string'"),
    ],
)
async def test_a_call_is_the_models_doing(answer: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Failed, match=re.escape(sentence)):
        await tool_call(client(always(answer)))


async def test_a_call_that_cannot_be_read_is_the_models_doing() -> None:
    error = {"message": "…", "code": "tool_use_failed", "failed_generation": "<tool_call>{nope"}
    with pytest.raises(Failed, match="It wrote a call that cannot be read"):
        await tool_call(client(always({"error": error}, 400)))


async def test_a_forced_call_is_the_hubs() -> None:
    with pytest.raises(Broken, match="was not enforced"):
        await tool_forced(client(always(chat("Good morning!"))))
    with pytest.raises(Broken, match="was not enforced"):
        await tool_forced(client(always(call(arguments="{}"))))
    error = {"message": "The way the chat template writes tool calls cannot be enforced; …"}
    with pytest.raises(Skipped, match="cannot be enforced"):
        await tool_forced(client(always({"error": error}, 400)))


async def test_a_schema_is_the_hubs_and_what_is_filled_in_the_models() -> None:
    with pytest.raises(Broken, match="no JSON"):
        await json_schema(client(always(chat("Oslo"))))
    with pytest.raises(Broken, match="was not kept"):
        await json_schema(client(always(chat('{"city": "Oslo"}'))))
    with pytest.raises(Failed, match="did not end"):
        await json_schema(client(always(chat('{"city"', "length"))))
    wrong = '{"city": "Oslo", "degrees": 5, "sky": "rain"}'
    with pytest.raises(Failed, match="it wrote"):
        await json_schema(client(always(chat(wrong))))


async def test_a_stream_says_what_an_answer_says() -> None:
    def other(asked: dict[str, Any]) -> httpx.Response:
        if asked.get("stream"):
            return streamed(chat("Red and grey."))
        return httpx.Response(200, json=chat())

    with pytest.raises(Broken, match="A stream says"):
        await streaming(client(other))


async def test_answers_that_differ_by_themselves_are_not_held_against_streams() -> None:
    words = iter(f"Colour {number}." for number in range(100))

    def other(asked: dict[str, Any]) -> httpx.Response:
        body = chat(next(words))
        return streamed(body) if asked.get("stream") else httpx.Response(200, json=body)

    with pytest.raises(Skipped, match="Asked twice"):
        await streaming(client(other))


async def test_a_stream_that_ends_early_is_the_hubs() -> None:
    def early(asked: dict[str, Any]) -> httpx.Response:
        return streamed(chat(), end="") if asked.get("stream") else httpx.Response(200, json=chat())

    with pytest.raises(Broken, match="DONE"):
        await streaming(client(early))


async def test_a_stop_sequence_ends_the_answer_before_it() -> None:
    with pytest.raises(Broken, match="Stopped at 'and'"):
        await stop(client(always(chat())))
    with pytest.raises(Skipped, match="too short"):
        await stop(client(always(chat("Red."))))


async def test_counts_and_limits_are_the_hubs() -> None:
    wrong = chat()
    wrong["usage"]["total_tokens"] = 3
    with pytest.raises(Broken, match="wrong sum"):
        await usage(client(always(wrong)))
    with pytest.raises(Broken, match="Of 48 tokens at most it counts 49"):
        await usage(client(always(chat(tokens=49))))
    with pytest.raises(Broken, match="unknown reason 'eos'"):
        await usage(client(always(chat(finish="eos"))))


async def test_thoughts_stay_out_of_the_answer_and_within_their_budget() -> None:
    with pytest.raises(Broken, match="Thoughts are in the answer"):
        await thinking(client(always(chat("<think>Hm</think>42"))))
    with pytest.raises(Failed, match="did not think"):
        await thinking(client(always(chat("42"))))
    with pytest.raises(Failed, match="answered nothing"):
        await thinking(client(always(chat("", reasoning_content="Hm"))))
    with pytest.raises(Broken, match="did not begin"):
        await thinking(client(always(chat("", "length", reasoning_content="Hm"))))
    with pytest.raises(Skipped, match="no thoughts"):
        await thinking(client(always(chat("42")), thinks=False))
    long = chat("42", reasoning_content="Hm", tokens=200)
    long["usage"]["completion_tokens_details"]["reasoning_tokens"] = 150
    with pytest.raises(Broken, match="it thought 150"):
        await thinking(client(always(long)))


@pytest.mark.parametrize("face", FACES, ids=lambda face: face.name)
async def test_a_refusal_and_a_broken_form_are_the_hubs(face: Face) -> None:
    def body(message: str) -> dict[str, Any]:
        return {"error": message} if face.name == "ollama" else {"error": {"message": message}}

    refused = client(always(body("No system turns here."), 400), face.name)
    with pytest.raises(Broken, match="400: No system turns here"):
        await system_later(refused)
    long = client(
        always(body("The prompt has 9 tokens and the context of m holds 5"), 400), face.name
    )
    with pytest.raises(Skipped, match="holds 5"):
        await system_later(long)
    with pytest.raises(Broken, match="not its API's form"):
        await system_later(client(always({"hello": "you"}), face.name))
    with pytest.raises(Unavailable, match="key"):
        await system_later(client(always(body("This needs a valid API key"), 401), face.name))


async def test_a_template_that_refuses_is_the_models_and_none_is_not_judged() -> None:
    def refusal(message: str) -> Client:
        return client(always({"error": {"message": message}}, 422))

    with pytest.raises(Failed, match="roles must alternate"):
        await system_later(
            refusal("The chat template of m refuses these messages: roles must alternate")
        )
    with pytest.raises(Skipped, match="no chat template"):
        await system_later(refusal("The model m has no chat template; choose another."))


async def test_a_full_queue_is_waited_for() -> None:
    answers = iter(
        [
            httpx.Response(429, headers={"Retry-After": "0"}),
            httpx.Response(200, json=chat("banana")),
        ]
    )
    await system_later(client(lambda asked: next(answers)))
