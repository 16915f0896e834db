"""The Responses API with the real `openai` client against real processes."""

import json
from typing import Any

import httpx
import openai
import pytest
from pydantic import BaseModel

from tests.inference.openai_asking import ASK, chat
from tests.inference.processes import Hub

pytestmark = pytest.mark.any_database

ASKED = "Lunch with Ana next Friday at noon"
WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "description": "The weather of a city",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}
PATCH: Any = {
    "type": "custom",
    "name": "apply_patch",
    "description": "Edits files",
    "format": {"type": "grammar", "syntax": "lark", "definition": 'start: "*** Begin Patch"'},
}
CALL = "Ask weather for Oslo"
THINK: Any = {"extra_body": {"chat_template_kwargs": {"enable_thinking": True}}}


def respond(hub: Hub, **more: Any) -> Any:
    asked: dict[str, Any] = {"model": "calendar", "input": ASKED, **more}
    return hub.openai.responses.create(**asked)


def kinds(response: Any) -> list[str]:
    return [item.type for item in response.output]


@pytest.mark.both_databases
def test_a_text_is_answered_as_a_chat_is(hub: Hub) -> None:
    answer = respond(hub)
    row = hub.requests()[0]
    assert (row["api"], f"resp_{row['request_id']}") == ("openai", answer.id)
    same = chat(hub)
    assert answer.output_text == same.choices[0].message.content
    assert (answer.status, answer.model, answer.error) == ("completed", "calendar@0.2.0", None)
    assert kinds(answer) == ["message"]
    assert answer.usage.input_tokens == same.usage.prompt_tokens
    assert answer.usage.output_tokens == same.usage.completion_tokens
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    assert answer.usage.output_tokens_details.reasoning_tokens == 0
    assert answer.store is False


def test_items_are_the_turns_of_a_chat(hub: Hub) -> None:
    items: Any = [
        {"role": "developer", "content": "Use JSON."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello"}]},
        {
            "type": "message",
            "id": "msg_1",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Yes?", "annotations": []}],
        },
        {"role": "user", "content": ASKED},
    ]
    told = respond(hub, instructions="Be brief.", input=items)
    turns = [
        {"role": "system", "content": "Be brief.\n\nUse JSON."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Yes?"},
        *ASK,
    ]
    same = chat(hub, messages=turns)
    assert told.output_text == same.choices[0].message.content
    assert told.usage.input_tokens == same.usage.prompt_tokens


def test_a_tool_is_called_and_its_result_read(hub: Hub) -> None:
    answer = respond(hub, input=CALL, tools=[WEATHER])
    [call] = answer.output
    assert (call.type, call.name, answer.status) == ("function_call", "weather", "completed")
    assert set(json.loads(call.arguments)) == {"city"}
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "4 degrees"}
    history: Any = [{"role": "user", "content": CALL}, *answer.output, result]
    final = respond(hub, input=history, tools=[WEATHER])
    assert kinds(final) == ["message"]
    assert final.output_text
    parts = [{"type": "input_text", "text": "4 "}, {"type": "input_text", "text": "degrees"}]
    same = respond(hub, input=[*history[:-1], result | {"output": parts}], tools=[WEATHER])
    assert same.output_text == final.output_text


def test_with_a_format_the_answer_is_a_call_or_what_the_format_describes(hub: Hub) -> None:
    schema = {"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"]}
    form: Any = {"format": {"type": "json_schema", "name": "one", "schema": schema}}
    [call] = respond(hub, input=CALL, tools=[WEATHER], text=form).output
    assert call.name == "weather"
    assert json.loads(respond(hub, tools=[WEATHER], text=form).output_text) == {"a": 1}


def test_a_custom_tool_gets_a_text(hub: Hub) -> None:
    answer = respond(hub, input="Please apply_patch it", tools=[PATCH], tool_choice="required")
    [call] = answer.output
    assert (call.type, call.name) == ("custom_tool_call", "apply_patch")
    assert call.input
    assert call.input == "*** Begin Patch"
    result = {"type": "custom_tool_call_output", "call_id": call.call_id, "output": "Done"}
    history: Any = [{"role": "user", "content": CALL}, call, result]
    assert respond(hub, input=history, tools=[PATCH]).output_text


def test_tools_of_a_namespace_come_back_in_it(hub: Hub) -> None:
    around = {"type": "namespace", "name": "outside", "description": "All", "tools": [WEATHER]}
    choice = {
        "type": "allowed_tools",
        "mode": "required",
        "tools": [{"type": "x", "name": "clock"}],
    }
    clock = {"type": "function", "name": "clock"}
    [call] = respond(hub, input="outside__weather, please", tools=[around, clock]).output
    assert (call.name, call.namespace) == ("weather", "outside")
    [call] = respond(hub, tools=[around, clock], tool_choice=choice).output
    assert call.name == "clock"


def test_what_openai_would_run_is_passed_over_with_a_word(hub: Hub) -> None:
    search: Any = {"type": "web_search", "external_web_access": False}
    left: Any = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
    shell: Any = {"type": "local_shell"}
    got = hub.openai.responses.with_raw_response.create(
        model="calendar", input=[left, *ASK], tools=[search, shell]
    )
    named = "tools.local_shell, tools.web_search, input.web_search_call"
    assert got.headers["x-hub-ignored"] == named
    assert got.parse().output_text == respond(hub).output_text
    assert (
        "x-hub-ignored"
        not in hub.openai.responses.with_raw_response.create(model="calendar", input=ASKED).headers
    )


def test_a_stream_has_openais_events_in_order(hub: Hub) -> None:
    events = list(respond(hub, stream=True))
    deltas = sum(event.type == "response.output_text.delta" for event in events)
    assert deltas > 3
    assert [event.type for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        *["response.output_text.delta"] * deltas,
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].response.output_text == respond(hub).output_text


@pytest.mark.parametrize("summary", [None, "auto"])
def test_thoughts_are_an_item_before_the_answer(hub: Hub, summary: str | None) -> None:
    asked = {"reasoning": {"summary": summary}, **THINK}
    whole = respond(hub, **asked)
    assert kinds(whole) == ["reasoning", "message"]
    thoughts = whole.output[0].summary if summary else whole.output[0].content
    assert len(thoughts[0].text.split()) == 12
    assert whole.usage.output_tokens_details.reasoning_tokens > 0
    events = list(respond(hub, stream=True, **asked))
    name = "reasoning_summary_text" if summary else "reasoning_text"
    told = [event.delta for event in events if event.type == f"response.{name}.delta"]
    assert "".join(told) == thoughts[0].text
    last = events[-1].response
    assert last.output_text == whole.output_text
    again = (last.output[0].summary if summary else last.output[0].content)[0].text
    assert again == thoughts[0].text
    history: Any = [*ASK, *whole.output, {"role": "user", "content": "And on Saturday?"}]
    assert respond(hub, input=history).output_text


def test_effort_reaches_the_template(hub: Hub) -> None:
    assert kinds(respond(hub, reasoning={"effort": "high"})) == ["reasoning", "message"]
    assert kinds(respond(hub, reasoning={"effort": "none"})) == ["message"]


@pytest.mark.parametrize("tool", [WEATHER, PATCH])
def test_the_clients_own_accumulation_of_a_stream_agrees(hub: Hub, tool: Any) -> None:
    asked: Any = {"model": "calendar", "input": f"Ask {tool['name']} now", "tools": [tool]}
    with hub.openai.responses.stream(**asked, tool_choice="required", **THINK) as stream:
        for _ in stream:
            pass
        final: Any = stream.get_final_response()
    assert final.output[-1].name == tool["name"]
    with hub.openai.responses.stream(model="calendar", input=ASKED, **THINK) as stream:
        said = [event.delta for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert final.output_text == "".join(said) == respond(hub).output_text


class Meeting(BaseModel):
    day: str
    persons: int


def test_a_schema_is_kept(hub: Hub) -> None:
    got = hub.openai.responses.parse(model="calendar", input=ASKED, text_format=Meeting)
    assert isinstance(got.output_parsed, Meeting)
    form: Any = {"format": {"type": "json_object"}}
    assert isinstance(json.loads(respond(hub, text=form).output_text), dict)


def test_the_limit_of_tokens_makes_it_incomplete(hub: Hub) -> None:
    answer = respond(hub, max_output_tokens=3)
    assert (answer.status, answer.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert (answer.usage.output_tokens, answer.output[-1].status) == (3, "incomplete")
    events = list(respond(hub, max_output_tokens=3, stream=True))
    assert [event.type for event in events[-2:]] == [
        "response.output_item.done",
        "response.incomplete",
    ]
    assert events[-2].item.status == events[-1].response.output[-1].status == "incomplete"
    assert events[-1].response.output_text == answer.output_text


def test_logprobs_come_where_they_are_included(hub: Hub) -> None:
    asked: Any = {"include": ["message.output_text.logprobs"], "top_logprobs": 2}
    told = respond(hub, **asked).output[0].content[0].logprobs
    same = chat(hub, logprobs=True, top_logprobs=2).choices[0].logprobs.content
    assert [token.token for token in told] == [token.token for token in same]
    assert all(len(token.top_logprobs) == 2 for token in told)
    events = list(respond(hub, stream=True, **asked))
    deltas = [event for event in events if event.type == "response.output_text.delta"]
    assert sum(len(event.logprobs) for event in deltas) == len(told)


@pytest.mark.parametrize("stream", [True, False])
def test_an_item_of_the_last_answers_may_be_referred_to(hub: Hub, stream: bool) -> None:
    said = list(respond(hub, stream=True))[-1].response if stream else respond(hub)
    [item] = said.output
    more: Any = {"role": "user", "content": "And on Saturday?"}
    referred = respond(hub, input=[*ASK, {"type": "item_reference", "id": item.id}, more])
    assert referred.output_text == respond(hub, input=[*ASK, item, more]).output_text
    twice = [{"type": "item_reference", "id": item.id}] * 2
    with pytest.raises(openai.BadRequestError, match=f"Two items refer to '{item.id}'"):
        respond(hub, input=[*ASK, *twice, more])
    [item] = respond(hub, store=False).output
    with pytest.raises(openai.BadRequestError, match="refers to nothing"):
        respond(hub, input=[*ASK, {"type": "item_reference", "id": item.id}])


def test_what_was_asked_comes_back(hub: Hub) -> None:
    answer = respond(
        hub, metadata={"of": "me"}, tools=[WEATHER], store=True, truncation="auto", instructions="x"
    )
    assert (answer.metadata, answer.instructions) == ({"of": "me"}, "x")
    assert [tool.name for tool in answer.tools] == ["weather"]
    assert (answer.tool_choice, answer.text.format.type) == ("auto", "text")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"previous_response_id": "resp_1"}, "send the earlier items again"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "The item_reference to 'msg_1'"),
        ({"background": True}, "use stream"),
        ({"input": [{"type": "surprise"}]}, "no item of type 'surprise'"),
        ({"input": []}, "at least 1 item"),
        ({"tool_choice": "required"}, "needs tools"),
        ({"tool_choice": {"type": "web_search"}}, "cannot run such a tool"),
        ({"tool_choice": {"type": "function", "name": "none"}}, "not one of the tools"),
        ({"tools": [WEATHER, WEATHER]}, "the same name"),
        (
            {"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]},
            "answers no call",
        ),
        (
            {
                "input": [
                    {"role": "user", "content": [{"type": "input_image", "image_url": "data:"}]}
                ]
            },
            "images are not supported by this model",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_words(hub: Hub, asked: Any, said: str) -> None:
    with pytest.raises(openai.BadRequestError, match=said):
        respond(hub, **asked)


def test_a_call_that_cannot_be_read_fails_the_response(hub: Hub) -> None:
    hub.start_engine(REPLY="<tool_call>{oops</tool_call>")
    try:
        with pytest.raises(openai.BadRequestError) as caught:
            respond(hub, tools=[WEATHER])
        assert caught.value.code == "tool_use_failed"
        events = list(respond(hub, tools=[WEATHER], stream=True))
    finally:
        hub.start_engine()
    assert [event.type for event in events[-2:]] == ["error", "response.failed"]
    assert events[-2].code == "tool_use_failed"
    failed = events[-1].response
    assert (failed.status, failed.error.code) == ("failed", "invalid_prompt")
    assert "cannot be read" in failed.error.message


def test_arguments_that_were_cut_off_are_taken_as_the_text_they_were(hub: Hub) -> None:
    call = {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{"city": "O'}
    result = {"type": "function_call_output", "call_id": "c1", "output": "not JSON"}
    assert respond(hub, input=[*ASK, call, result], tools=[WEATHER]).output_text


def test_it_is_in_the_document(hub: Hub) -> None:
    document = httpx.get(f"{hub.url}/v1/openapi.json").json()
    assert "post" in document["paths"]["/v1/responses"]
