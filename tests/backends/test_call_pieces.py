"""Calls read while they come: their pieces are what the whole answer says, however it is cut."""

import itertools
import json
import random
from collections.abc import Sequence
from typing import Any

import pytest
from mlx_lm.tool_parsers import json_tools, kimi_k2, mistral, pythonic

from backends.base import BackendError, ToolCall
from backends.base.call_pieces import HERMES, JSONCalls, as_written
from backends.mlx.tool_calls import call_reader, parse_tool_calls


class Tokenizer:
    """What the notation of a template is read from."""

    has_tool_calling = True
    chat_template = "{# tools #}"

    def __init__(self, notation: Any) -> None:
        self.tool_call_start = notation.tool_call_start
        self.tool_call_end = notation.tool_call_end
        self.tool_parser = notation.parse_tool_call


ODD = '{"text": "a } \\" ] </tool_call> \\\\", "list": [{"a": [1, 2.50]}, {}], "é": "\\u00e9"}'


def hermes(*arguments: str) -> str:
    calls = (f'<tool_call>\n{{"name": "f", "arguments": {one}}}\n</tool_call>' for one in arguments)
    return "I look.\n" + "\n".join(calls)


def mistral_list(*arguments: str) -> str:
    calls = (f'{{"name": "f", "arguments": {one}}}' for one in arguments)
    return f"[TOOL_CALLS] [{', '.join(calls)}]"


def mistral_heads(*arguments: str) -> str:
    return "".join(f"[TOOL_CALLS]f[ARGS]{one}" for one in arguments)


def kimi(*arguments: str) -> str:
    calls = (
        f"<|tool_call_begin|>functions.f:{n}<|tool_call_argument_begin|>{one}<|tool_call_end|>"
        for n, one in enumerate(arguments)
    )
    return f"<|tool_calls_section_begin|>{''.join(calls)}<|tool_calls_section_end|>"


def cut(text: str, seed: int) -> list[str]:
    """In pieces of one to nine characters."""
    draw = random.Random(seed)
    ends = list(itertools.accumulate(draw.randint(1, 9) for _ in text))
    starts = [0, *ends]
    return [text[a:b] for a, b in zip(starts, ends, strict=False) if text[a:b]]


def joined(reader: Any, pieces: Sequence[str]) -> list[tuple[str, str]]:
    """(name, arguments) of the calls that the pieces spell."""
    calls: list[list[str]] = []
    for piece in pieces:
        for one in reader.push(piece):
            if one.name:
                assert (one.number, one.arguments) == (len(calls), "")
                calls.append([one.name])
            else:
                calls[one.number].append(one.arguments)
    return [(name, "".join(parts)) for name, *parts in calls]


@pytest.mark.parametrize(
    ("notation", "write"),
    [
        (json_tools, hermes),
        (mistral, mistral_list),
        (mistral, mistral_heads),
        (kimi_k2, kimi),
    ],
    ids=["hermes", "mistral", "mistral by heads", "kimi"],
)
@pytest.mark.parametrize("arguments", [("{}",), ('{"city":"Oslo"}', ODD, '{ "n" : 1e2 }')])
def test_the_pieces_are_the_calls_of_the_whole_answer_letter_for_letter(
    notation: Any, write: Any, arguments: tuple[str, ...]
) -> None:
    tokenizer: Any = Tokenizer(notation)
    text = write(*arguments)
    _, calls = parse_tool_calls(tokenizer, "tiny", text, [])
    assert [(call.name, call.arguments) for call in calls] == [("f", one) for one in arguments]
    for seed in range(8):
        found = joined(call_reader(tokenizer), cut(text, seed))
        assert found == [(call.name, call.arguments) for call in calls]


def test_arguments_come_before_the_call_has_ended() -> None:
    reader = JSONCalls(HERMES)
    assert reader.push('I look. <tool_call>{"name": "f", "argu') == []
    first, second = reader.push('ments": {"city": "Os')
    assert (first.name, second.arguments) == ("f", '{"city": "Os')
    assert [piece.arguments for piece in reader.push('lo"}')] == ['lo"}']


def test_a_notation_without_json_has_calls_whole_only() -> None:
    assert call_reader(Tokenizer(pythonic)) is None


@pytest.mark.parametrize(
    "call",
    [
        '{"arguments": {"a": 1}, "name": "f"}',
        '{"name": "f", "arguments": "{\\"a\\": 1}"}',
        '{"id": 1, "name": "f", "arguments": {"a": 1}}',
    ],
)
def test_what_is_written_otherwise_comes_whole_and_so_does_all_after_it(call: str) -> None:
    text = f"<tool_call>{call}</tool_call>" + "<tool_call>" * 60 + hermes('{"b": 2}')
    reader = JSONCalls(HERMES)
    assert joined(reader, cut(text, 1)) == []
    tokenizer: Any = Tokenizer(json_tools)
    _, [one] = parse_tool_calls(tokenizer, "tiny", f"<tool_call>{call}</tool_call>", [])
    assert (one.name, json.loads(one.arguments)) == ("f", {"a": 1})


def test_a_call_that_can_be_read_in_two_ways_is_refused() -> None:
    text = '<tool_call>{"name": "f", "arguments": {}, "arguments": {"a": 1}}</tool_call>'
    tokenizer: Any = Tokenizer(json_tools)
    with pytest.raises(BackendError, match="cannot be read"):
        parse_tool_calls(tokenizer, "tiny", text, [])
    with pytest.raises(BackendError, match="cannot be read"):
        as_written([ToolCall("g", "{}")], hermes("{}"), HERMES)


def test_a_call_that_is_cut_off_is_told_as_before() -> None:
    tokenizer: Any = Tokenizer(json_tools)
    with pytest.raises(BackendError, match="was cut off"):
        parse_tool_calls(tokenizer, "tiny", '<tool_call>{"name": "f", "arguments": {"a": "b', [])
