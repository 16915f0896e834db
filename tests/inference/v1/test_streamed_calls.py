"""Tool calls that stream: the real clients put the pieces together to what the whole answer has."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest
from asgiref.sync import sync_to_async

from backends.fake import FakeBackend
from tests.inference.builders import make_base
from tests.inference.engines import running_engine
from tests.inference.openai_asking import web

pytestmark = [pytest.mark.usefixtures("db_in_threads"), pytest.mark.any_database]
ODD = '{"city": "Oslo } \\" </b> \\u00e9", "days": [1, {"a": 2.50}]}'
CALLS = (
    "I look.\n"
    f'<tool_call>\n{{"name": "weather", "arguments": {ODD}}}\n</tool_call>\n'
    '<tool_call>\n{"name": "clock", "arguments": {"zone":  "CET"}}\n</tool_call>'
)
SAID = [("weather", ODD), ("clock", '{"zone":  "CET"}')]
SCHEMA: Any = {"type": "object", "properties": {}, "additionalProperties": True}
ASKED: Any = [{"role": "user", "content": "Ask weather for Oslo"}]
THINK: Any = {"chat_template_kwargs": {"enable_thinking": True}}


def function(name: str) -> Any:
    return {"type": "function", "function": {"name": name, "parameters": SCHEMA, "strict": True}}


TOOLS: Any = [function("weather"), function("clock")]
FLAT: Any = [{"type": "function", **tool["function"]} for tool in TOOLS]
CLAUDES: Any = [{"name": name, "input_schema": SCHEMA} for name in ("weather", "clock")]


class Clients:
    def __init__(self, http: Any) -> None:
        import anthropic

        self.openai = openai.AsyncOpenAI(
            base_url="http://127.0.0.1/v1", api_key="any", max_retries=0, http_client=http
        )
        self.anthropic = anthropic.AsyncAnthropic(
            base_url="http://127.0.0.1", api_key="any", max_retries=0, http_client=http
        )

    async def chat(self, **more: Any) -> Any:
        asked = {"model": "base:tiny", "messages": ASKED, "tools": TOOLS, **more}
        return await self.openai.chat.completions.create(**asked)

    async def deltas(self, **more: Any) -> tuple[list[tuple[str, list[str]]], str, Any]:
        """(the name and pieces of each call, the text, the finish reason) of a raw stream."""
        calls: list[tuple[str, list[str]]] = []
        text, reason = "", None
        async for chunk in await self.chat(stream=True, **more):
            [choice] = chunk.choices
            for delta in choice.delta.tool_calls or []:
                if delta.id:
                    assert delta.index == len(calls)
                    calls.append((delta.function.name, []))
                calls[delta.index][1].append(delta.function.arguments)
            text, reason = text + (choice.delta.content or ""), choice.finish_reason
        return calls, text, reason

    async def message(self, **more: Any) -> Any:
        return await self.anthropic.messages.create(**claude(**more))


def claude(**more: Any) -> dict[str, Any]:
    """What is asked through Anthropic's API."""
    return {
        "model": "base:tiny",
        "max_tokens": 500,
        "messages": ASKED,
        "tools": CLAUDES,
        **more,
    }


@asynccontextmanager
async def clients(reply: str = CALLS) -> AsyncIterator[Clients]:
    await sync_to_async(make_base)()
    async with running_engine(FakeBackend(reply=reply)), web() as http:
        yield Clients(http)


# --------------------------------------------------------------------------- OpenAI's chats


async def test_a_chat_streams_parallel_calls_piece_by_piece() -> None:
    async with clients() as ask:
        whole = await ask.chat(extra_body=THINK)
        calls, text, reason = await ask.deltas(extra_body=THINK)
        asked = {"model": "base:tiny", "messages": ASKED, "tools": TOOLS, "extra_body": THINK}
        async with ask.openai.chat.completions.stream(**asked) as stream:
            events = [event.type async for event in stream]
            final = await stream.get_final_completion()
    message = whole.choices[0].message
    said = [(one.function.name, one.function.arguments) for one in message.tool_calls]
    assert said == SAID
    assert [(name, "".join(pieces)) for name, pieces in calls] == said
    assert all(len(pieces) > 4 and not pieces[0] for _, pieces in calls)
    assert (text, reason) == (message.content, "tool_calls")
    streamed = final.choices[0].message
    assert [(c.function.name, c.function.arguments) for c in streamed.tool_calls] == said
    assert [c.function.parsed_arguments for c in streamed.tool_calls] == [
        json.loads(arguments) for _, arguments in said
    ]
    assert streamed.model_extra == {"reasoning_content": message.reasoning_content}
    assert events.count("tool_calls.function.arguments.done") == 2


async def test_one_call_alone_streams_where_no_more_may_come() -> None:
    async with clients() as ask:
        calls, _, _ = await ask.deltas(parallel_tool_calls=False)
    assert [name for name, _ in calls] == ["weather"]


async def test_a_forced_call_streams_too() -> None:
    async with clients(reply="") as ask:
        [whole] = (await ask.chat(tool_choice="required")).choices[0].message.tool_calls
        [(name, pieces)], _, reason = await ask.deltas(tool_choice="required")
    assert (name, "".join(pieces)) == (whole.function.name, whole.function.arguments)
    assert reason == "tool_calls"


async def test_a_call_that_is_cut_off_is_text_in_the_end_after_its_pieces() -> None:
    async with clients() as ask:
        [choice] = (await ask.chat(max_tokens=40)).choices
        calls, text, reason = await ask.deltas(max_tokens=40)
    assert choice.finish_reason == reason == "length"
    assert choice.message.tool_calls is None
    assert text.strip() == choice.message.content.strip()
    assert "<tool_call>" in text
    [(name, pieces)] = calls
    assert name == "weather"
    assert ODD.startswith("".join(pieces))
    assert len("".join(pieces)) > 10


async def test_a_stop_within_a_call_ends_the_stream_with_the_error_as_before() -> None:
    pieces = ""

    async def read(stream: Any) -> None:
        nonlocal pieces
        async for chunk in stream:
            for delta in chunk.choices[0].delta.tool_calls or []:
                pieces += delta.function.arguments

    async with clients() as ask:
        with pytest.raises(openai.BadRequestError, match="cut off"):
            await ask.chat(stop="days")
        stream = await ask.chat(stop="days", stream=True)
        with pytest.raises(openai.APIError, match="cut off") as caught:
            await read(stream)
    assert caught.value.code == "tool_use_failed"
    assert pieces
    assert ODD.startswith(pieces)


async def test_a_call_in_an_unusual_form_comes_whole() -> None:
    call = '<tool_call>{"arguments": {"zone": "CET"}, "name": "clock"}</tool_call>'
    async with clients(call) as ask:
        calls, _, reason = await ask.deltas()
    assert calls == [("clock", ["", '{"zone": "CET"}'])]
    assert reason == "tool_calls"


# --------------------------------------------------------------------------- Responses


async def test_a_response_streams_arguments_as_deltas() -> None:
    asked: Any = {"model": "base:tiny", "input": ASKED, "tools": FLAT, "extra_body": THINK}
    async with clients() as ask:
        whole = await ask.openai.responses.create(**asked)
        async with ask.openai.responses.stream(**asked) as stream:
            events = [event async for event in stream]
            final = await stream.get_final_response()
    said = [(i.name, i.arguments) for i in whole.output if i.type == "function_call"]
    assert said == SAID
    assert [item.type for item in final.output] == [item.type for item in whole.output]
    parsed: list[Any] = [i for i in final.output if i.type == "function_call"]
    assert [(i.name, i.arguments, i.status) for i in parsed] == [(*s, "completed") for s in said]
    kinds = [event.type for event in events]
    assert kinds.count("response.function_call_arguments.delta") > 10
    assert kinds.count("response.function_call_arguments.done") == 2
    first_done = kinds.index("response.function_call_arguments.done")
    assert kinds.index("response.function_call_arguments.delta") < first_done
    numbers = [event.sequence_number for event in events if hasattr(event, "sequence_number")]
    assert numbers == sorted(numbers)


async def test_a_response_that_is_cut_off_has_an_incomplete_call() -> None:
    asked: Any = {"model": "base:tiny", "input": ASKED, "tools": FLAT, "max_output_tokens": 40}
    async with clients() as ask:
        events = [e async for e in await ask.openai.responses.create(**asked, stream=True)]
    last = events[-1]
    assert last.type == "response.incomplete"
    items = [(item.type, item.status) for item in last.response.output]
    assert items == [
        ("message", "completed"),
        ("function_call", "incomplete"),
        ("message", "incomplete"),
    ]
    assert "<tool_call>" in last.response.output[2].content[0].text


async def test_a_custom_tool_and_what_follows_it_come_whole_and_in_order() -> None:
    patch = '<tool_call>{"name": "patch", "arguments": {"input": "a\\nb"}}</tool_call>'
    tools: Any = [{"type": "custom", "name": "patch"}, *FLAT]
    asked: Any = {"model": "base:tiny", "input": ASKED, "tools": tools}
    async with clients(patch + CALLS) as ask:
        events = [e async for e in await ask.openai.responses.create(**asked, stream=True)]
    output = events[-1].response.output
    calls = [getattr(item, "name", "") for item in output if item.type != "message"]
    assert calls == ["patch", "weather", "clock"]
    [custom] = [e for e in events if e.type == "response.custom_tool_call_input.delta"]
    assert custom.delta == "a\nb"


# --------------------------------------------------------------------------- Anthropic


async def test_a_message_streams_json_deltas() -> None:
    async with clients() as ask:
        whole = await ask.message()
        pieces: dict[int, list[str]] = {}
        async with ask.anthropic.messages.stream(**claude()) as stream:
            async for event in stream:
                if event.type == "content_block_delta" and event.delta.type == "input_json_delta":
                    pieces.setdefault(event.index, []).append(event.delta.partial_json)
            final = await stream.get_final_message()
    called = [(b.name, b.input) for b in whole.content if b.type == "tool_use"]
    assert called == [(name, json.loads(arguments)) for name, arguments in SAID]
    assert [(b.name, b.input) for b in final.content if b.type == "tool_use"] == called
    assert ["".join(parts) for parts in pieces.values()] == [arguments for _, arguments in SAID]
    assert all(len(parts) > 3 for parts in pieces.values())
    assert final.stop_reason == "tool_use"


async def test_a_message_that_is_cut_off_ends_its_block() -> None:
    async with clients() as ask:
        whole = await ask.message(max_tokens=40)
        async with ask.anthropic.messages.stream(**claude(max_tokens=40)) as stream:
            final = await stream.get_final_message()
    assert [block.type for block in final.content] == ["text", "tool_use", "text"]
    assert final.stop_reason == whole.stop_reason == "max_tokens"
    [text] = whole.content
    said = "".join(block.text for block in final.content if block.type == "text")
    assert said.strip() == text.text.strip()
