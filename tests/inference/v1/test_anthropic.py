"""The real `anthropic` client against real processes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.inference.processes import Hub

if TYPE_CHECKING:
    import anthropic
    from anthropic import Anthropic

pytestmark = pytest.mark.any_database

ASK: Any = [{"role": "user", "content": "Lunch with Ana next Friday at noon"}]
WEATHER: Any = {
    "name": "weather",
    "description": "The weather of a city",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}


@pytest.fixture
def client(hub: Hub) -> Any:
    from anthropic import Anthropic

    with Anthropic(base_url=hub.url, api_key="any", max_retries=0) as client:
        yield client


def ask(client: Anthropic, **more: Any) -> anthropic.types.Message:
    asked = {"model": "calendar", "max_tokens": 200, "messages": ASK, **more}
    message: anthropic.types.Message = client.messages.create(**asked)
    return message


def text_of(message: anthropic.types.Message) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


@pytest.mark.both_databases
def test_an_answer_names_the_version_and_counts_tokens(hub: Hub, client: Anthropic) -> None:
    answer = ask(client)
    assert answer.model == "calendar@0.2.0"
    assert answer.stop_reason == "end_turn"
    chat = hub.openai.chat.completions.create(model="calendar", messages=ASK)
    assert text_of(answer) == chat.choices[0].message.content
    assert chat.usage is not None
    usage = answer.usage
    assert usage.input_tokens + (usage.cache_read_input_tokens or 0) == chat.usage.prompt_tokens
    assert usage.output_tokens == chat.usage.completion_tokens


def test_a_stream_spells_the_same_answer(client: Anthropic) -> None:
    whole = ask(client)
    with client.messages.stream(model="calendar", max_tokens=200, messages=ASK) as stream:
        text = "".join(stream.text_stream)
        last = stream.get_final_message()
    assert text == text_of(whole) == text_of(last)
    assert last.stop_reason == "end_turn"
    assert last.usage.output_tokens == whole.usage.output_tokens
    assert last.model == "calendar@0.2.0"


def test_a_stream_has_anthropics_events_in_order(client: Anthropic) -> None:
    events = [
        event.type
        for event in client.messages.create(
            model="calendar", max_tokens=200, messages=ASK, stream=True
        )
    ]
    deltas = events.count("content_block_delta")
    assert deltas > 3
    expected = ["message_start", "content_block_start", *["content_block_delta"] * deltas]
    expected += ["content_block_stop", "message_delta", "message_stop"]
    assert [str(event) for event in events if str(event) != "ping"] == expected


def test_a_ping_follows_the_start(hub: Hub) -> None:
    import httpx

    body = {"model": "calendar", "max_tokens": 2, "messages": ASK, "stream": True}
    lines = httpx.post(f"{hub.url}/v1/messages", json=body).text.splitlines()
    names = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    assert names[:2] == ["message_start", "ping"]


def test_the_limit_of_tokens_is_kept(client: Anthropic) -> None:
    answer = ask(client, max_tokens=3)
    assert answer.stop_reason == "max_tokens"
    assert answer.usage.output_tokens == 3


def test_a_stop_sequence_is_named(client: Anthropic) -> None:
    text = text_of(ask(client))
    word = text.split()[3]
    cut = ask(client, stop_sequences=["never said", word])
    assert text_of(cut) == text[: text.index(word)]
    assert (cut.stop_reason, cut.stop_sequence) == ("stop_sequence", word)


@pytest.mark.parametrize("version", ["2023-06-01", "2026-10-21"])
def test_sampling_is_taken_with_every_version(client: Anthropic, version: str) -> None:
    def draw(**sampling: Any) -> str:
        headers = {"anthropic-version": version}
        return text_of(ask(client, extra_headers=headers, extra_body=sampling))

    assert draw(temperature=0) == draw()
    assert draw(temperature=1, top_p=0.9, top_k=40)


def test_system_is_read(client: Anthropic) -> None:
    plain, told = ask(client), ask(client, system="Answer in French.")
    blocks = ask(client, system=[{"type": "text", "text": "Answer in French."}])
    assert text_of(plain) != text_of(told) == text_of(blocks)
    assert told.usage.input_tokens + (told.usage.cache_read_input_tokens or 0) > (
        plain.usage.input_tokens + (plain.usage.cache_read_input_tokens or 0)
    )


def test_tokens_are_counted_without_an_answer(hub: Hub, client: Anthropic) -> None:
    counted = client.messages.count_tokens(
        model="calendar", messages=ASK, system="Be brief.", tools=[WEATHER]
    )
    usage = ask(client, system="Be brief.", tools=[WEATHER]).usage
    assert counted.input_tokens == usage.input_tokens + (usage.cache_read_input_tokens or 0)
    assert (
        counted.input_tokens
        > client.messages.count_tokens(model="calendar", messages=ASK).input_tokens
    )


def test_a_tool_is_called_and_its_result_read(client: Anthropic) -> None:
    question: Any = {"role": "user", "content": "Ask weather for Oslo"}
    answer = ask(client, messages=[question], tools=[WEATHER])
    assert answer.stop_reason == "tool_use"
    [call] = [block for block in answer.content if block.type == "tool_use"]
    assert call.name == "weather"
    assert set(call.input) == {"city"}
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "4 degrees"}
    turns = [
        question,
        {"role": "assistant", "content": answer.content},
        {"role": "user", "content": [result]},
    ]
    final = ask(client, messages=turns, tools=[WEATHER])
    assert final.stop_reason == "end_turn"
    assert text_of(final)


def test_a_tool_call_streams_as_a_block(client: Anthropic) -> None:
    question: Any = [{"role": "user", "content": "Ask weather for Oslo"}]
    whole = ask(client, messages=question, tools=[WEATHER])
    with client.messages.stream(
        model="calendar", max_tokens=200, messages=question, tools=[WEATHER]
    ) as stream:
        last = stream.get_final_message()
    assert last.stop_reason == "tool_use"
    [streamed] = [block for block in last.content if block.type == "tool_use"]
    [called] = [block for block in whole.content if block.type == "tool_use"]
    assert (streamed.name, streamed.input) == (called.name, called.input)


CUT: Any = {
    "messages": [{"role": "user", "content": "Ask weather for Oslo"}],
    "tools": [WEATHER],
}


def test_a_call_that_cannot_be_read_is_an_error_that_tells_it_whole(client: Anthropic) -> None:
    import anthropic

    with pytest.raises(anthropic.BadRequestError, match="cut off") as caught:
        ask(client, **CUT, stop_sequences=["arguments"])
    assert told(caught.value) == ("invalid_request_error", '<tool_call>{"name": "weather", "')


def test_a_stream_ends_with_the_same_error(client: Anthropic) -> None:
    import anthropic

    with pytest.raises(anthropic.APIStatusError, match="cut off") as caught:
        for _ in ask(client, **CUT, stop_sequences=["arguments"], stream=True):
            pass
    assert told(caught.value) == ("invalid_request_error", '<tool_call>{"name": "weather", "')


def told(error: anthropic.APIError) -> tuple[str, str]:
    assert isinstance(error.body, dict)
    return error.body["error"]["type"], error.body["error"]["failed_generation"]


def test_a_call_that_the_limit_cut_is_told_by_its_stop_reason(client: Anthropic) -> None:
    answer = ask(client, **CUT, max_tokens=6)
    assert answer.stop_reason == "max_tokens"
    assert text_of(answer).startswith("<tool_call>{")


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "weather"}])
def test_a_tool_can_be_forced(client: Anthropic, choice: Any) -> None:
    answer = ask(client, tools=[WEATHER], tool_choice=choice)
    assert [block.name for block in answer.content if block.type == "tool_use"] == ["weather"]


def test_no_tool_is_called_when_none_may_be(client: Anthropic) -> None:
    question: Any = [{"role": "user", "content": "Ask weather for Oslo"}]
    answer = ask(client, messages=question, tools=[WEATHER], tool_choice={"type": "none"})
    assert answer.stop_reason == "end_turn"


def test_a_format_is_enforced(client: Anthropic) -> None:
    schema = {
        "type": "object",
        "properties": {"day": {"enum": ["Monday", "Friday"]}},
        "required": ["day"],
        "additionalProperties": False,
    }
    config: Any = {"format": {"type": "json_schema", "schema": schema}}
    assert json.loads(text_of(ask(client, output_config=config)))["day"] in ("Monday", "Friday")


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"extra_body": {"temperature": 1.5}}, "temperature"),
        ({"extra_body": {"mcp_servers": [{"name": "x"}]}}, "mcp_servers"),
        ({"messages": [*ASK, {"role": "assistant", "content": "It"}]}, "last message"),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "tool_result", "tool_use_id": "toolu_1", "content": "4"}
                        ],
                    }
                ]
            },
            "toolu_1",
        ),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]},
            "images are not supported by this model",
        ),
        ({"extra_headers": {"anthropic-version": "2030-01-01"}}, "2030-01-01"),
        ({"messages": [{"role": "user", "content": "word " * 3000}]}, "tokens"),
    ],
)
def test_what_is_not_honoured_is_refused(client: Anthropic, more: Any, word: str) -> None:
    import anthropic

    with pytest.raises(anthropic.BadRequestError) as caught:
        ask(client, **more)
    assert caught.value.type == "invalid_request_error"
    assert word in caught.value.body["error"]["message"]  # type: ignore[index]


@pytest.mark.both_databases
def test_an_unknown_model_is_not_found(client: Anthropic) -> None:
    import anthropic

    with pytest.raises(anthropic.NotFoundError) as caught:
        ask(client, model="nobody")
    assert caught.value.type == "not_found_error"


def test_models_are_listed_in_anthropics_form(client: Anthropic) -> None:
    models = list(client.models.list())
    assert [model.id for model in models] == [
        "calendar",
        "calendar@0.2.0",
        "calendar@0.1.0",
        "base:tiny",
    ]
    assert client.models.retrieve("calendar").display_name == "calendar@0.2.0"


@pytest.mark.both_databases
def test_the_log_says_which_api_was_asked(hub: Hub, client: Anthropic) -> None:
    ask(client, max_tokens=2)
    assert hub.requests()[0]["api"] == "anthropic"
