"""Tool calls taken out of an answer, and log-probabilities told beside it."""

from collections.abc import Sequence
from typing import Any

import pytest

from backends.base import (
    BackendError,
    Delta,
    FinishReason,
    Sampling,
    ThoughtMarks,
    TokenLogprob,
    ToolCall,
)
from backends.base.call_pieces import HERMES, JSONCalls
from backends.fake import FakeBackend
from inference.engine.requests.text import AnswerText
from inference.gateway import client
from inference.protocol import Chunk, Done, Generate, ToolUseFailed
from tests.inference.builders import make_base_folder
from tests.inference.engines import ask, joined, running_engine

pytestmark = pytest.mark.any_database
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


class Reader:
    """What of a model an answer needs."""

    def parse_tool_calls(self, text: str, tools: Sequence[Any]) -> tuple[str, list[ToolCall]]:
        if "<tool_call>" not in text:
            return text, []
        if text.count("<tool_call>") > text.count("</tool_call>"):
            raise BackendError("The answer begins a tool call that was cut off.")
        before, _, rest = text.partition("<tool_call>")
        body = rest.partition("</tool_call>")[0]
        named = body.removesuffix("}").partition('"arguments": ')[2]
        return before.strip(), [ToolCall("weather", named or body)]


def shown(answer: AnswerText, *pieces: str) -> list[str]:
    chunks = [answer.take(Delta("a", piece, 1, -0.5)) for piece in pieces]
    return [chunk.text for chunk in chunks if chunk is not None]


def finish(answer: AnswerText, reason: FinishReason = "stop") -> tuple[Chunk | None, list[Any]]:
    return answer.finish(Reader(), reason)  # type: ignore[arg-type]


def test_a_call_is_held_back_and_parsed_at_the_end() -> None:
    answer = AnswerText([WEATHER], with_logprobs=False)
    assert shown(answer, "Let me ", "look. <to", "ol_call>{}", "</tool_call>") == [
        "Let me ",
        "look. ",
    ]
    chunk, calls = finish(answer)
    assert chunk is None
    assert calls == [{"name": "weather", "arguments": "{}"}]


def test_what_only_begins_like_a_call_is_text() -> None:
    answer = AnswerText([WEATHER], with_logprobs=False)
    texts = shown(answer, "a <to", "ken>", " and <tool")
    chunk, calls = finish(answer)
    assert chunk is not None
    assert "".join([*texts, chunk.text]) == "a <token> and <tool"
    assert calls == []


def test_bare_json_is_held_back_too_and_is_text_when_it_is_no_call() -> None:
    answer = AnswerText([WEATHER], with_logprobs=False)
    assert shown(answer, '{"a"', ": 1}") == []
    chunk, _ = finish(answer)
    assert chunk == Chunk('{"a": 1}')


def test_a_call_cut_short_is_a_loud_error() -> None:
    answer = AnswerText([WEATHER], with_logprobs=False)
    shown(answer, "Look: <tool_call>{")
    with pytest.raises(ToolUseFailed, match="cut off") as caught:
        finish(answer)
    assert caught.value.failed_generation == "Look: <tool_call>{"


def test_a_call_that_the_limit_cut_is_text_beside_the_whole_ones() -> None:
    answer = AnswerText([WEATHER], with_logprobs=False)
    texts = shown(answer, "Look. ", "<tool_call>{}</tool_call>", "<tool_call>{")
    chunk, calls = finish(answer, "length")
    assert chunk is not None
    assert "".join([*texts, chunk.text]) == "Look. <tool_call>{"
    assert [call["arguments"] for call in calls] == ["{}"]


def test_a_call_comes_in_pieces_while_its_text_is_held_back() -> None:
    answer = AnswerText([WEATHER], with_logprobs=True, reader=JSONCalls(HERMES))
    texts = [
        "I look. ",
        '<tool_call>{"name": "weather", "arguments": {"ci',
        'ty": 1}',
        "}</tool_call>",
    ]
    chunks = [answer.take(Delta("a", text, 1, -0.5)) for text in texts]
    assert [chunk and (chunk.text, [*map(tuple_of, chunk.calls)]) for chunk in chunks] == [
        ("I look. ", []),
        ("", [(0, "weather", ""), (0, "", '{"ci')]),
        ("", [(0, "", 'ty": 1}')]),
        None,
    ]
    last, _ = finish(answer)
    logprobs = [token for chunk in (*chunks, last) if chunk for token in chunk.logprobs or []]
    assert len(logprobs) == len(texts)


def tuple_of(piece: Any) -> tuple[int, str, str]:
    return piece["number"], piece["name"], piece["arguments"]


def test_without_tools_nothing_is_held_back() -> None:
    assert shown(AnswerText([], with_logprobs=False), "<tool_call>", "{") == ["<tool_call>", "{"]


CHANNELS = ThoughtMarks("<c>think<m>", "<e><c>say<m>", "<c>say<m>")


@pytest.mark.parametrize(
    ("pieces", "said"),
    [
        (["<c>", "think", "<m>", "Hm", "<e>", "<c>", "say", "<m>", "Y", "es"], ["Y", "es"]),
        (["<c>", "say", "<m>", "Y", "es"], ["Y", "es"]),
        (["<c>", "s", "ee"], ["<c>", "s", "ee"]),
        (["<c>", "sa"], ["<c>", "sa"]),
        (["Y", "es"], ["Y", "es"]),
    ],
)
def test_logprobs_are_those_of_the_words_without_marks(pieces: list[str], said: list[str]) -> None:
    answer = AnswerText([], with_logprobs=True, marks=CHANNELS)
    chunks = [answer.take(Delta("a", piece, 1, -0.5, piece=piece)) for piece in pieces]
    chunks.append(finish(answer)[0])
    sent = [chunk for chunk in chunks if chunk is not None]
    assert "".join(chunk.text for chunk in sent) == "".join(said)
    assert [token["text"] for chunk in sent for token in chunk.logprobs or []] == said


def test_logprobs_are_told_for_every_token_in_order() -> None:
    answer = AnswerText([], with_logprobs=True)
    rival = TokenLogprob(2, "b", -2.0, b"b")
    chunks = [
        answer.take(Delta("a", text, 1, -0.5, piece=piece, top=(rival,), data=data))
        for text, piece, data in (
            ("", "\ufffd", b"\xc3"),
            ("é", "\ufffd", b"\xa9"),
            ("x", "x", b"x"),
        )
    ]
    told = [entry for chunk in chunks if chunk for entry in chunk.logprobs or []]
    assert [entry["text"] for entry in told] == ["\ufffd", "\ufffd", "x"]
    assert bytes(byte for entry in told for byte in entry["bytes"]).decode() == "éx"
    assert told[0]["top"] == [("b", -2.0, [98])]


async def events_of(request: Generate) -> list[Any]:
    async with running_engine(FakeBackend()):
        return [event async for event in client.generate(request)]


async def test_a_tool_call_comes_with_the_end() -> None:
    turns = [{"role": "user", "content": "call weather please"}]
    request = ask(make_base_folder()).model_copy(
        update={"messages": turns, "tools": [WEATHER], "sampling": Sampling(max_tokens=500)}
    )
    events = await events_of(request)
    done = events[-1]
    assert isinstance(done, Done)
    assert done.finish_reason == "tool_calls"
    assert [call["name"] for call in done.tool_calls] == ["weather"]
    assert "<tool_call>" not in joined(events)


async def test_a_tool_call_cut_by_max_tokens_ends_by_its_length() -> None:
    turns = [{"role": "user", "content": "call weather please"}]
    request = ask(make_base_folder()).model_copy(
        update={"messages": turns, "tools": [WEATHER], "sampling": Sampling(max_tokens=3)}
    )
    events = await events_of(request)
    assert isinstance(events[-1], Done)
    assert events[-1].finish_reason == "length"
    assert joined(events).startswith("<tool_call>")


async def test_logprobs_come_when_asked_for() -> None:
    events = await events_of(ask(make_base_folder(), max_tokens=6, logprobs=True, top_logprobs=2))
    told = [t for e in events if isinstance(e, Chunk) for t in e.logprobs or []]
    assert len(told) == 6
    assert all(len(token["top"]) == 2 and token["logprob"] <= 0 for token in told)
