"""What Claude Code and the `anthropic` client send by default is taken; what cannot be is named."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from pydantic import ValidationError

from inference.v1.anthropic.schemas import CountIn, MessagesIn
from tests.inference.processes import Hub

if TYPE_CHECKING:
    from anthropic import Anthropic

pytestmark = pytest.mark.any_database
ASK: Any = [{"role": "user", "content": "Lunch with Ana next Friday at noon"}]
READ: Any = {
    "name": "Read",
    "description": "Reads a file",
    "input_schema": {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {"file_path": {"type": "string"}},
        "required": ["file_path"],
        "additionalProperties": False,
    },
}
CACHED: Any = {"type": "ephemeral"}
# As Claude Code 2.1.197 sends it, with shorter texts and one of its 24 tools.
FIRST: Any = [
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "<system-reminder>\nToday is Sunday.\n</system-reminder>\n"},
            {"type": "text", "text": "Please say hello", "cache_control": CACHED},
        ],
    },
    {"role": "system", "content": "Agent types: claude, Explore"},
]
CLAUDE_CODE: Any = {
    "model": "calendar",
    "messages": FIRST,
    "system": [
        {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.197.7c8;"},
        {"type": "text", "text": "You are a Claude agent.", "cache_control": CACHED},
    ],
    "tools": [READ],
    "metadata": {"user_id": '{"device_id":"b5","session_id":"14"}'},
    "max_tokens": 32000,
    "thinking": {"type": "adaptive"},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    "output_config": {"effort": "high"},
    "stream": True,
}
USE: Any = {"type": "tool_use", "id": "toolu_1", "name": "Read", "input": {"file_path": "a.py"}}


def result(content: Any, **more: Any) -> dict[str, Any]:
    block = {"type": "tool_result", "tool_use_id": "toolu_1", "content": content, **more}
    return {"role": "user", "content": [block]}


def request(**more: Any) -> MessagesIn:
    asked = MessagesIn.model_validate({**CLAUDE_CODE, **more})
    asked.refuse_unsupported()
    return asked


def refusal(**more: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        request(**more)
    return str(caught.value.errors()[0]["msg"])


@pytest.fixture
def client(hub: Hub) -> Any:
    from anthropic import Anthropic

    with Anthropic(base_url=hub.url, api_key="any", max_retries=0) as client:
        yield client


def test_claude_codes_request_is_answered(hub: Hub) -> None:
    url = f"{hub.url}/v1/messages?beta=true"
    headers = {"anthropic-version": "2023-06-01", "anthropic-beta": "claude-code-20250219"}
    events = httpx.post(url, json=CLAUDE_CODE, headers=headers).text
    assert "event: message_stop" in events
    assert '"thinking_delta"' in events
    counted = httpx.post(f"{hub.url}/v1/messages/count_tokens", json=CLAUDE_CODE).json()
    assert counted["input_tokens"] > 20


def test_its_next_request_keeps_the_beginning_of_the_first() -> None:
    first = request().chat()
    assert [turn["role"] for turn in first] == ["system", "user"]
    assert first[1]["content"].endswith("Please say hello\n\nAgent types: claude, Explore")
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "hub-1"}
    hidden = {"type": "redacted_thinking", "data": "secret"}
    said = {"role": "assistant", "content": [thought, hidden, USE]}
    later = request(messages=[*FIRST, said, result("x = 1", is_error=False)]).chat()
    assert later[:2] == first
    assert [turn["role"] for turn in later[2:]] == ["assistant", "tool"]
    assert later[2]["reasoning_content"] == "Hm."


def test_a_reminder_for_one_turn_is_gone_after_the_next() -> None:
    once = {"role": "system", "content": "Be quick.", "clear_at": "next_user_message"}
    assert request(messages=[*ASK, once]).chat()[-1]["content"].endswith("Be quick.")
    later = request(messages=[*ASK, once, {"role": "assistant", "content": "Yes"}, *ASK])
    assert "Be quick." not in str(later.chat())


def test_results_of_tools_come_in_every_form() -> None:
    found = {
        "type": "search_result",
        "source": "https://a",
        "title": "A",
        "content": [{"type": "text", "text": "one"}],
    }
    for content, text in (
        (None, ""),
        ([], ""),
        ("x", "x"),
        ([{"type": "text", "text": "x", "cache_control": CACHED}], "x"),
        ([found], "A (https://a)\none"),
        ([{"type": "tool_reference", "tool_name": "Read"}], "The tool Read is available."),
    ):
        turns = [*ASK, {"role": "assistant", "content": [USE]}, result(content)]
        assert request(messages=turns).chat()[-1]["content"] == text
    failed = [*ASK, {"role": "assistant", "content": [USE]}, result("no file", is_error=True)]
    assert request(messages=failed).chat()[-1]["content"] == "Error: no file"


def test_tools_are_taken_with_all_that_clients_add() -> None:
    tool = {
        **READ,
        "defer_loading": True,
        "cache_control": CACHED,
        "allowed_callers": ["direct"],
        "input_examples": [{"file_path": "a.py"}],
    }
    search = {"type": "tool_search_tool_regex_20251119", "name": "tool_search_tool_regex"}
    [shown] = request(tools=[search, tool]).callable_tools()
    assert shown["function"]["description"] == (
        'Reads a file\nExample of its input: {"file_path": "a.py"}'
    )


def test_what_is_ignored_changes_nothing() -> None:
    more = {"stop_sequences": None, "betas": ["x"], "fallbacks": "default", "service_tier": "auto"}
    assert request(**more).request() == request().request()


def test_tokens_are_counted_of_all_that_a_message_takes() -> None:
    more = {"stop_sequences": None, "temperature": 1, "top_p": 0.9, "top_k": 4, "stream": False}
    CountIn.model_validate({**CLAUDE_CODE, **more}).refuse_unsupported()


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({"type": "image", "source": {"type": "url", "url": "http://a"}}, "images are not"),
        ({"type": "document", "source": {"type": "url", "url": "http://a"}}, "documents are not"),
        ({"type": "container_upload", "file_id": "f"}, "container_upload are not supported"),
    ],
)
def test_what_no_model_here_reads_is_named(block: Any, words: str) -> None:
    assert words in refusal(messages=[{"role": "user", "content": [block]}])
    turns = [*ASK, {"role": "assistant", "content": [USE]}, result([block])]
    assert words in refusal(messages=turns)


@pytest.mark.parametrize("kind", ["web_search_20250305", "bash_20250124", "text_editor_20250728"])
def test_anthropics_own_tools_are_refused_by_name(kind: str) -> None:
    assert f"the hub has no {kind}" in refusal(tools=[READ, {"type": kind, "name": "x"}])


def test_a_conversation_needs_the_users_turn() -> None:
    assert "last message" in refusal(messages=[{"role": "system", "content": "s"}])
    said = {"role": "assistant", "content": "It"}
    assert "last message" in refusal(messages=[*ASK, said, {"role": "system", "content": "s"}])


def test_an_input_that_was_cut_off_is_taken_as_its_text() -> None:
    cut = {**USE, "input": '{"file_path": "a'}
    turns = [*ASK, {"role": "assistant", "content": [cut]}, result("invalid input", is_error=True)]
    [call] = request(messages=turns).chat()[-2]["tool_calls"]
    assert call["function"]["arguments"] == '{"file_path": "a'


def test_the_client_sends_back_what_it_was_answered(client: Anthropic) -> None:
    """Thoughts, a result without content, and tools with all that may stand beside them."""
    tool = {
        **READ,
        "defer_loading": True,
        "cache_control": CACHED,
        "input_examples": [USE["input"]],
    }
    said: Any = [
        {"type": "thinking", "thinking": "Hm.", "signature": "hub-1"},
        {"type": "redacted_thinking", "data": "secret"},
        USE,
    ]
    messages: Any = [*ASK, {"role": "assistant", "content": said}, result(None)]
    thinking: Any = {"type": "enabled", "budget_tokens": 1024}
    more: Any = {"model": "calendar", "messages": messages, "tools": [tool], "thinking": thinking}
    counted = client.messages.count_tokens(**more)
    with client.messages.stream(
        max_tokens=2000, extra_body={"stop_sequences": None}, **more
    ) as stream:
        answer = stream.get_final_message()
    assert [block.type for block in answer.content] == ["thinking", "text"]
    assert answer.usage.input_tokens + (answer.usage.cache_read_input_tokens or 0) == (
        counted.input_tokens
    )


def test_the_clients_tool_runner_finishes(client: Anthropic) -> None:
    from anthropic import beta_tool

    read: list[str] = []

    @beta_tool
    def weather(city: str) -> str:
        """The weather of a city."""
        read.append(city)
        return "4 degrees"

    runner = client.beta.messages.tool_runner(
        model="calendar",
        max_tokens=200,
        tools=[weather],
        messages=[{"role": "user", "content": "Ask weather for Oslo"}],
    )
    last = runner.until_done()
    assert len(read) == 1
    assert last.stop_reason == "end_turn"


def test_a_format_in_its_older_place_is_enforced(client: Anthropic) -> None:
    schema = {
        "type": "object",
        "properties": {"day": {"enum": ["Monday", "Friday"]}},
        "required": ["day"],
        "additionalProperties": False,
    }
    answer = client.messages.create(
        model="calendar",
        max_tokens=200,
        messages=ASK,
        extra_body={"output_format": {"type": "json_schema", "schema": schema}},
    )
    [block] = answer.content
    assert block.type == "text"
    assert json.loads(block.text)["day"] in ("Monday", "Friday")


def test_beside_a_format_an_answer_is_a_call_or_keeps_it(client: Anthropic) -> None:
    schema = {"type": "object", "properties": {"day": {"enum": ["Monday", "Friday"]}}}
    config: Any = {"format": {"type": "json_schema", "schema": schema}}
    more: Any = {"model": "calendar", "max_tokens": 200, "tools": [READ], "output_config": config}
    called = client.messages.create(messages=[{"role": "user", "content": "Call Read"}], **more)
    assert called.stop_reason == "tool_use"
    told = client.messages.create(messages=ASK, **more)
    assert told.stop_reason == "end_turn"
    assert told.content[0].type == "text"
    assert json.loads(told.content[0].text)["day"] in ("Monday", "Friday")


def test_images_are_refused_in_words(client: Anthropic) -> None:
    import anthropic

    image: Any = {"type": "image", "source": {"type": "url", "url": "http://a"}}
    with pytest.raises(anthropic.BadRequestError, match="images are not supported by this model"):
        client.messages.create(
            model="calendar", max_tokens=9, messages=[{"role": "user", "content": [image]}]
        )
