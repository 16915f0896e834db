"""Tool calls in answers, in the notation of the model's template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from backends.base import BackendError, Message, ToolCall
from backends.mlx.chat import chat_tokens, parse_tool_calls, require_tools
from tests.backends.mlx.tool_template import TEMPLATE, TOOLS, with_template

pytestmark = pytest.mark.any_database
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'


@pytest.fixture(scope="module")
def tokenizer(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    from mlx_lm.utils import load_tokenizer

    return load_tokenizer(with_template(tiny_base, tmp_path_factory.mktemp("t") / "b", TEMPLATE))


def read(tokenizer: Any, text: str) -> tuple[str, list[ToolCall]]:
    return parse_tool_calls(tokenizer, "tiny", text, TOOLS)


def test_words_and_calls_are_separated(tokenizer: Any) -> None:
    rest, calls = read(tokenizer, f"I look.\n{CALL}\n{CALL.replace('Oslo', 'Rome')}")
    assert rest == "I look."
    assert [(call.name, json.loads(call.arguments)) for call in calls] == [
        ("weather", {"city": "Oslo"}),
        ("weather", {"city": "Rome"}),
    ]


def test_an_answer_without_calls_is_text(tokenizer: Any) -> None:
    assert read(tokenizer, "It rains <b>today</b>.") == ("It rains <b>today</b>.", [])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (CALL[:30], "cut off"),
        ("<tool_call>weather(Oslo)</tool_call>", "cannot be read"),
        ('<tool_call>{"name": "weather", "arguments": "Oslo"}</tool_call>', "cannot be read"),
        ('<tool_call>{"arguments": {}}</tool_call>', "cannot be read"),
    ],
)
def test_a_call_that_cannot_be_read_is_an_error(tokenizer: Any, text: str, reason: str) -> None:
    with pytest.raises(BackendError, match=reason):
        read(tokenizer, text)


def test_arguments_sent_as_json_text_reach_the_template_as_an_object(tokenizer: Any) -> None:
    function = {"name": "weather", "arguments": '{"city": "Oslo"}'}
    messages: list[Message] = [
        {"role": "user", "content": "Weather?"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "1", "type": "function", "function": function}],
        },
        {"role": "tool", "content": "clear", "tool_call_id": "1"},
    ]
    text = tokenizer.decode(chat_tokens(tokenizer, "tiny", messages, TOOLS))
    assert CALL in text
    assert "The weather of a city" in text


def test_a_template_without_calls_is_named(tiny_base: Path, tmp_path: Path) -> None:
    from mlx_lm.utils import load_tokenizer

    plain = load_tokenizer(with_template(tiny_base, tmp_path / "plain", "{{ messages }}"))
    with pytest.raises(BackendError, match="does not support tools"):
        read(plain, CALL)
    with pytest.raises(BackendError, match="does not support tools"):
        require_tools(plain, "plain")
