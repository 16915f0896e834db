"""A better and a worse answer to one prompt."""

from __future__ import annotations

from typing import Any

from registry.datasets.dialects import tools, transcripts
from registry.datasets.dialects.chats import as_messages, from_turns
from registry.datasets.dialects.messages import (
    check_learned,
    read_messages,
    system_prompt,
    with_system,
)
from registry.datasets.dialects.pairs import CONTEXT, with_context
from registry.datasets.dialects.parts import Unused, check_text
from registry.datasets.dialects.transcripts import is_transcript, turns
from registry.datasets.files.values import BadLine, Row
from registry.datasets.formats import Format

PROMPTS = ("prompt", "question", "instruction", "conversations", "messages", "input")
_INPUT = frozenset({"messages", "tools"})
_ASKS = ("system", "user")


def preference(row: Row, unused: Unused) -> tuple[Format, Row]:
    """`chosen` and `rejected`, after a prompt or with their shared beginning as the prompt."""
    chosen, rejected = _answers(row, unused)
    asked = next((key for key in PROMPTS if row.get(key) is not None), "prompt")
    both = isinstance(chosen, list) and isinstance(rejected, list)
    if both and (asked == "messages" or row.get(asked) is None):
        asked, shared = "", _shared(chosen, rejected)
        prompt, chosen, rejected = chosen[:shared], chosen[shared:], rejected[shared:]
        if not prompt:
            raise BadLine('"prompt" must be a text or a non-empty list of messages.')
    else:
        prompt = _prompt(row, asked, unused)
        if both and chosen[0]["role"] in _ASKS and (shared := _shared(chosen, rejected)):
            _check_same(prompt, chosen[:shared], asked)
            prompt, chosen, rejected = chosen[:shared], chosen[shared:], rejected[shared:]
    used = (asked, *CONTEXT) if asked in ("question", "instruction") else (asked,)
    unused.note({key: row.get(key) for key in (*PROMPTS, *CONTEXT)}, frozenset(used))
    return _checked(row, prompt, chosen, rejected, tools.described(row.get("tools")))


def openai_preference(row: Row, unused: Unused) -> tuple[Format, Row]:
    """OpenAI's `input` with its messages, `preferred_output` and `non_preferred_output`."""
    given = row["input"]
    if not isinstance(given, dict) or "messages" not in given:
        raise BadLine('"input" must be an object with messages.')
    unused.note(given, _INPUT, "input.")
    return _checked(
        {},
        read_messages(given["messages"], unused, "input.messages"),
        _answer(row["preferred_output"], "preferred_output", unused),
        _answer(row["non_preferred_output"], "non_preferred_output", unused),
        tools.described(given.get("tools")),
    )


def _checked(
    row: Row, prompt: Any, chosen: Any, rejected: Any, described: list[Any]
) -> tuple[Format, Row]:
    if chosen == rejected:
        raise BadLine("chosen and rejected are the same.")
    if system_prompt(row):
        asked = prompt if isinstance(prompt, list) else [{"role": "user", "content": prompt}]
        prompt = with_system(row, asked)
    for answer in (chosen, rejected):
        if isinstance(answer, list):
            check_learned(answer)
    more = {"tools": described} if described else {}
    return "preference", {"prompt": prompt, "chosen": chosen, "rejected": rejected, **more}


def _answers(row: Row, unused: Unused) -> tuple[Any, Any]:
    """Both answers; whole chats that are written as texts are messages."""
    given = row["chosen"], row["rejected"]
    if all(is_transcript(text) for text in given):
        given = turns(given[0]), turns(given[1])
    return _answer(given[0], "chosen", unused), _answer(given[1], "rejected", unused)


def _check_same(prompt: Any, shared: list[Any], asked: str) -> None:
    """Raises BadLine unless the prompt is in the messages with which both answers begin, so that
    it is neither lost nor learned twice."""
    said = [message["content"].strip() for message in shared]
    wanted = [message["content"] for message in prompt] if isinstance(prompt, list) else [prompt]
    if not all(text.strip() in said for text in wanted):
        raise BadLine(
            f'"chosen" and "rejected" begin with the same messages, and "{asked}" is not among them; '
            "leave out one of the two."
        )


def _prompt(row: Row, key: str, unused: Unused) -> Any:
    """The prompt in this column: a question with its context, turns, messages or a text."""
    value = row.get(key)
    if key in ("question", "instruction"):
        check_text(row, key)
        return with_context(row, key)
    if key == "conversations":
        value = from_turns(value, key, unused)
    return _answer(value, key, unused)


def _answer(value: Any, key: str, unused: Unused) -> Any:
    """A text as it is, or messages, read. Raises BadLine."""
    if isinstance(value, str) and value.strip():
        return transcripts.asked(value) if key == "prompt" and is_transcript(value) else value
    return as_messages(value, "", key, unused)


def _shared(one: list[Any], other: list[Any]) -> int:
    """How many messages both begin with; the last of each is always its own."""
    most = min(len(one), len(other)) - 1
    return next((n for n in range(max(most, 0)) if one[n] != other[n]), max(most, 0))
