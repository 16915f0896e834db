"""A model that thinks, asked by the real clients: its thoughts come apart from its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.inference.openai_asking import ASK, chat
from tests.inference.processes import Hub

if TYPE_CHECKING:
    from anthropic import Anthropic

pytestmark = pytest.mark.any_database

PLAIN: Any = {}
THINK: Any = {"extra_body": {"enable_thinking": True}}


@pytest.fixture
def claude(hub: Hub) -> Any:
    from anthropic import Anthropic

    with Anthropic(base_url=hub.url, api_key="any", max_retries=0) as client:
        yield client


@pytest.mark.both_databases
def test_openais_answer_has_them_in_reasoning_content(hub: Hub) -> None:
    plain, thinking = chat(hub), chat(hub, **THINK)
    said = thinking.choices[0].message
    assert said.content == plain.choices[0].message.content
    assert "</think>" not in said.reasoning_content
    assert len(said.reasoning_content.split()) == 12
    counted = thinking.usage.completion_tokens - plain.usage.completion_tokens
    assert thinking.usage.completion_tokens_details.reasoning_tokens == counted
    assert plain.usage.completion_tokens_details.reasoning_tokens == 0
    assert not hasattr(plain.choices[0].message, "reasoning_content")


def test_a_stream_spells_both(hub: Hub) -> None:
    whole = chat(hub, **THINK).choices[0].message
    deltas = [c.choices[0].delta for c in chat(hub, stream=True, **THINK) if c.choices]
    thoughts = [getattr(delta, "reasoning_content", None) or "" for delta in deltas]
    assert "".join(thoughts) == whole.reasoning_content
    assert "".join(delta.content or "" for delta in deltas) == whole.content
    last_thought = max(n for n, text in enumerate(thoughts) if text)
    assert all(not delta.content for delta in deltas[: last_thought + 1])


@pytest.mark.parametrize(
    "asked",
    [
        {"reasoning_effort": "high"},
        {"extra_body": {"thinking": {"type": "enabled"}}},
        {"extra_body": {"chat_template_kwargs": {"enable_thinking": True}}},
        {"reasoning_effort": "none", **THINK},
    ],
)
def test_each_way_of_asking_reaches_the_template(hub: Hub, asked: dict[str, Any]) -> None:
    assert chat(hub, **asked).choices[0].message.reasoning_content


@pytest.mark.parametrize(
    "asked",
    [
        {"reasoning_effort": "none"},
        {"extra_body": {"thinking": {"type": "disabled"}}},
        {
            "extra_body": {
                "enable_thinking": True,
                "chat_template_kwargs": {"enable_thinking": False},
            }
        },
    ],
)
def test_thinking_is_turned_off(hub: Hub, asked: dict[str, Any]) -> None:
    assert not hasattr(chat(hub, **asked).choices[0].message, "reasoning_content")


def test_a_budget_ends_the_thoughts_early(hub: Hub) -> None:
    body = {"enable_thinking": True, "thinking_budget": 3}
    answer = chat(hub, extra_body=body).choices[0].message
    assert len(answer.reasoning_content.split()) <= 3
    assert answer.content == chat(hub).choices[0].message.content


def test_an_answer_that_never_stops_thinking_has_no_words(hub: Hub) -> None:
    choice = chat(hub, max_tokens=4, **THINK).choices[0]
    assert choice.finish_reason == "length"
    assert choice.message.content == ""
    assert choice.message.reasoning_content


def test_a_schema_holds_after_them(hub: Hub) -> None:
    schema = {"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"]}
    form = {"type": "json_schema", "json_schema": {"name": "one", "schema": schema}}
    said = chat(hub, response_format=form, **THINK).choices[0].message
    assert said.reasoning_content
    assert said.content.replace(" ", "") == '{"a":1}'


def test_earlier_thoughts_are_taken_back(hub: Hub) -> None:
    said = chat(hub, **THINK).choices[0].message.model_dump()
    history = [*ASK, said, {"role": "user", "content": "And on Saturday?"}]
    assert chat(hub, messages=history).choices[0].message.content


def test_logprobs_are_those_of_the_answer(hub: Hub) -> None:
    plain, thinking = (chat(hub, logprobs=True, **more).choices[0] for more in (PLAIN, THINK))
    told = [[token.token for token in choice.logprobs.content] for choice in (plain, thinking)]
    assert told[0] == told[1]


def test_anthropics_answer_has_a_block_of_them(claude: Anthropic) -> None:
    thinking: Any = {"type": "adaptive"}
    answer = claude.messages.create(
        model="calendar", max_tokens=200, messages=ASK, thinking=thinking
    )
    assert [block.type for block in answer.content] == ["thinking", "text"]
    with claude.messages.stream(
        model="calendar", max_tokens=200, messages=ASK, thinking=thinking
    ) as stream:
        last = stream.get_final_message()
    assert [block.type for block in last.content] == ["thinking", "text"]
    first, same = answer.content[0], last.content[0]
    assert first.type == same.type == "thinking"
    assert same.thinking == first.thinking
    assert same.signature
    again = claude.messages.create(
        model="calendar",
        max_tokens=200,
        messages=[
            *ASK,
            {"role": "assistant", "content": answer.content},
            {"role": "user", "content": "And on Saturday?"},
        ],
        thinking={"type": "disabled"},
    )
    assert [block.type for block in again.content] == ["text"]


def test_a_prompt_with_thoughts_is_counted(claude: Anthropic) -> None:
    counted = claude.messages.count_tokens(
        model="calendar", messages=ASK, thinking={"type": "enabled", "budget_tokens": 1024}
    )
    plain = claude.messages.count_tokens(model="calendar", messages=ASK)
    assert counted.input_tokens > plain.input_tokens


def test_the_native_api_has_them_beside_the_text(hub: Hub) -> None:
    body = {"model": "calendar", "messages": ASK, "template": {"enable_thinking": True}}
    answer = httpx.post(f"{hub.url}/api/inference", json=body, timeout=60).json()
    assert answer["thoughts"]
    assert answer["text"] == chat(hub).choices[0].message.content
    assert 0 < answer["thought_tokens"] < answer["completion_tokens"]
