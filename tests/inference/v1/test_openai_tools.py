"""Tool calls with the real `openai` client against real processes."""

import json
import re
from typing import Any

import openai
import pytest

from tests.inference.openai_asking import CALL, TOOLS, chat
from tests.inference.processes import Hub

pytestmark = pytest.mark.any_database


@pytest.mark.both_databases
def test_a_tool_is_called_and_its_result_read(hub: Hub) -> None:
    answer = chat(hub, messages=CALL, tools=TOOLS)
    assert answer.choices[0].finish_reason == "tool_calls"
    message = answer.choices[0].message
    assert message.content is None
    [call] = message.tool_calls
    assert call.function.name == "weather"
    assert set(json.loads(call.function.arguments)) == {"city"}
    result = {"role": "tool", "tool_call_id": call.id, "content": "4 degrees"}
    final = chat(hub, messages=[*CALL, message, result], tools=TOOLS)
    assert final.choices[0].finish_reason == "stop"
    assert final.choices[0].message.content


def test_a_call_streams_in_deltas(hub: Hub) -> None:
    whole = chat(hub, messages=CALL, tools=TOOLS).choices[0].message.tool_calls[0].function
    name, arguments, ids = "", "", set()
    for chunk in chat(hub, messages=CALL, tools=TOOLS, stream=True):
        for delta in chunk.choices[0].delta.tool_calls or []:
            assert delta.index == 0
            ids |= {delta.id} - {None}
            name += delta.function.name or ""
            arguments += delta.function.arguments or ""
        last = chunk.choices[0].finish_reason
    assert (name, arguments, last) == (whole.name, whole.arguments, "tool_calls")
    assert len(ids) == 1


def test_the_clients_own_accumulation_of_a_stream_agrees(hub: Hub) -> None:
    with hub.openai.chat.completions.stream(model="calendar", messages=CALL, tools=TOOLS) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion()
    assert final.choices[0].message.tool_calls[0].function.name == "weather"


def custom(name: str, definition: str = "", syntax: str = "regex") -> Any:
    tool: dict[str, Any] = {"name": name, "description": "Does it"}
    if definition:
        grammar = {"syntax": syntax, "definition": definition}
        tool["format"] = {"type": "grammar", "grammar": grammar}
    return {"type": "custom", "custom": tool}


def test_a_custom_tool_gets_a_text_that_follows_its_grammar(hub: Hub) -> None:
    words, plan = custom("words", "[ab]{3}"), custom("plan", 'start: ("x" | "y") "z"', "lark")
    for tool, input_ in ((words, "[ab]{3}"), (plan, "[xy]z")):
        choice = {"type": "custom", "custom": {"name": tool["custom"]["name"]}}
        asked = {"messages": CALL, "tools": [tool, *TOOLS], "tool_choice": choice}
        answer = chat(hub, **asked).choices[0]
        [call] = answer.message.tool_calls
        assert (call.type, call.custom.name) == ("custom", tool["custom"]["name"])
        assert re.fullmatch(input_, call.custom.input)
        assert answer.finish_reason == "tool_calls"
        [[streamed]] = [
            chunk.choices[0].delta.tool_calls
            for chunk in chat(hub, stream=True, **asked)
            if chunk.choices[0].delta.tool_calls
        ]
        assert streamed.type == "custom"
        assert streamed.custom["name"] == call.custom.name
        assert re.fullmatch(input_, streamed.custom["input"])
    result = {"role": "tool", "tool_call_id": call.id, "content": "Done"}
    told = chat(hub, messages=[*CALL, answer.message, result], tools=[plan])
    assert told.choices[0].message.content
    free = chat(hub, messages=[{"role": "user", "content": "Please say"}], tools=[custom("say")])
    assert free.choices[0].message.tool_calls[0].custom.input
    endless = custom("sums", 'start: "(" start? ")"', "lark")
    chat(hub, tools=[endless])
    with pytest.raises(openai.BadRequestError, match="its rule start refers to itself"):
        chat(hub, tools=[endless], tool_choice="required")


def test_without_need_no_tool_is_called(hub: Hub) -> None:
    answer = chat(hub, tools=TOOLS)
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.tool_calls is None


def test_none_hides_the_tools(hub: Hub) -> None:
    told = chat(hub, messages=CALL, tools=TOOLS, tool_choice="none")
    plain = chat(hub, messages=CALL)
    assert told.choices[0].message.content == plain.choices[0].message.content
    assert told.usage.prompt_tokens == plain.usage.prompt_tokens


def test_a_call_can_be_required(hub: Hub) -> None:
    [call] = chat(hub, tools=TOOLS, tool_choice="required").choices[0].message.tool_calls
    assert call.function.name in ("weather", "clock")


@pytest.mark.parametrize("name", ["weather", "clock"])
def test_a_named_tool_is_called(hub: Hub, name: str) -> None:
    choice = {"type": "function", "function": {"name": name}}
    answer = chat(hub, tools=TOOLS, tool_choice=choice)
    assert [c.function.name for c in answer.choices[0].message.tool_calls] == [name]


def test_a_call_that_cannot_be_read_is_a_loud_error_that_tells_it_whole(hub: Hub) -> None:
    with pytest.raises(openai.BadRequestError, match="cut off") as caught:
        chat(hub, messages=CALL, tools=TOOLS, stop="arguments")
    assert (caught.value.code, caught.value.type) == ("tool_use_failed", "invalid_request_error")
    assert told(caught.value) == '<tool_call>{"name": "weather", "'
    assert hub.requests()[0]["status"] == "failed"


def test_a_stream_ends_with_the_same_error(hub: Hub) -> None:
    chunks: list[Any] = []
    stream = chat(hub, messages=CALL, tools=TOOLS, stop="arguments", stream=True)
    with pytest.raises(openai.APIError, match="cut off") as caught:
        chunks.extend(stream)
    assert caught.value.code == "tool_use_failed"
    assert told(caught.value) == '<tool_call>{"name": "weather", "'
    assert not any(chunk.choices[0].delta.content for chunk in chunks)


def told(error: openai.APIError) -> str:
    assert isinstance(error.body, dict)
    return str(error.body["failed_generation"])


def test_a_call_that_the_limit_cut_is_told_by_its_length(hub: Hub) -> None:
    asked = {"messages": CALL, "tools": TOOLS, "max_tokens": 6}
    [choice] = chat(hub, **asked).choices
    assert choice.finish_reason == "length"
    assert choice.message.tool_calls is None
    assert choice.message.content.startswith("<tool_call>{")
    chunks = list(chat(hub, **asked, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == choice.message.content
    assert chunks[-1].choices[0].finish_reason == "length"


def test_beside_a_format_an_answer_is_a_call_or_keeps_it(hub: Hub) -> None:
    schema = {"type": "object", "properties": {"day": {"enum": ["Monday", "Friday"]}}}
    format_ = {"type": "json_schema", "json_schema": {"name": "day", "schema": schema}}
    both = {"tools": TOOLS, "response_format": format_}
    called = chat(hub, messages=CALL, **both).choices[0]
    assert called.finish_reason == "tool_calls"
    assert called.message.tool_calls[0].function.name == "weather"
    told = chat(hub, **both).choices[0]
    assert told.finish_reason == "stop"
    assert json.loads(told.message.content)["day"] in ("Monday", "Friday")
    forced = chat(hub, **both, tool_choice="required").choices[0]
    assert forced.finish_reason == "tool_calls"


def test_an_earlier_call_that_was_cut_off_does_not_end_the_conversation(hub: Hub) -> None:
    function = {"name": "weather", "arguments": '{"city": "Os'}
    call = {"id": "c1", "type": "function", "function": function}
    turns = [
        *CALL,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": None},
        {"role": "developer", "content": "Answer in words."},
    ]
    answer = chat(hub, messages=turns, tools=TOOLS)
    assert answer.choices[0].message.content
