"""Chats that are written as one text, with a marker before each turn."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from registry.datasets.dialects import tools
from registry.datasets.dialects.messages import finished, with_system
from registry.datasets.dialects.parts import Unused
from registry.datasets.files.values import BadLine, Row
from registry.datasets.formats import Format

_STYLES = (
    re.compile(r"\s*###\s*(Human|User|Assistant|System)\s*:"),  # openassistant-guanaco
    re.compile(r"(?:\A\s*|\n\n)(Human|Assistant|System):"),  # hh-rlhf
    re.compile(r"(?:\A\s*|\n\n\s*)(USER|ASSISTANT|SYSTEM|FUNCTION RESPONSE):"),  # glaive
)
_ROLES = {
    "human": "user",
    "user": "user",
    "assistant": "assistant",
    "system": "system",
    "function response": "tool",
}
_END = "<|endoftext|>"
_CALL = "<functioncall>"
_ARGUMENTS = re.compile(r'(?s)\{\s*"name"\s*:\s*"([^"]+)"\s*,\s*"arguments"\s*:\s*\'(.*)\'\s*\}')


def is_transcript(text: Any) -> bool:
    """Whether it is a text that begins with the marker of a turn and marks an answer later."""
    return isinstance(text, str) and any(
        style.match(text) and _has_answer(text, style) for style in _STYLES
    )


def _has_answer(text: str, style: re.Pattern[str]) -> bool:
    roles = (_ROLES[mark[1].lower()] for mark in style.finditer(text))
    return next(roles) != "assistant" and "assistant" in roles


def turns(text: str) -> list[Row]:
    """The messages of a transcript. Raises BadLine for a function that is not called right."""
    style = next(style for style in _STYLES if style.match(text))
    pending = tools.Pending()
    return [_message(role, said, n, pending) for n, (role, said) in enumerate(_cut(text, style), 1)]


def asked(text: str) -> list[Row]:
    """The messages of a transcript that ends before an answer: an empty last turn goes."""
    messages = turns(text)
    return messages[:-1] if not messages[-1]["content"] else messages


def transcript(row: Row, unused: Unused) -> tuple[Format, Row]:
    """`text` that is a chat."""
    return finished({}, turns(row["text"]), [])


def glaive(row: Row, unused: Unused) -> tuple[Format, Row]:
    """`chat` that is a chat as a text, and perhaps `system` with the functions in it."""
    said, described = _described(row.get("system"))
    messages = with_system({"system": said}, turns(row["chat"]))
    return finished({}, messages, tools.described(described))


def _cut(text: str, style: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    """(role, text) of every turn."""
    marks = list(style.finditer(text))
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    for mark, end in zip(marks, ends, strict=True):
        said = text[mark.end() : end].strip()
        yield _ROLES[mark[1].lower()], said.removesuffix(_END).rstrip()


def _message(role: str, said: str, position: int, pending: tools.Pending) -> Row:
    if role == "tool":
        return {"role": "tool", "content": said, **pending.answer()}
    if role == "assistant" and _CALL in said:
        before, _, call = said.partition(_CALL)
        name, given = _called(call.strip(), position)
        calls = [pending.call(name, tools.arguments({"arguments": given}, position))]
        return {"role": role, "content": before.strip(), "tool_calls": calls}
    return {"role": role, "content": said}


def _called(text: str, position: int) -> tuple[str, Any]:
    """The name and arguments of `{"name": "add", "arguments": '{"a": 1}'}`. Raises BadLine."""
    if found := _ARGUMENTS.fullmatch(text):
        return found[1], found[2].replace("\\'", "'")
    try:
        call = json.loads(text)
        if not call.keys() <= tools.FUNCTION:
            raise ValueError
        return str(call["name"]), call.get("arguments")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise BadLine(
            f"message {position}: what follows {_CALL} must be an object with name and arguments."
        ) from None


def _described(system: Any) -> tuple[str, list[Any]]:
    """The system prompt without its marker, and the functions that are written in it as JSON."""
    if not isinstance(system, str):
        return "", []
    text = system.strip().removeprefix("SYSTEM:").strip()
    start = text.find("{")
    found: list[Any] = []
    while start >= 0 and text[start:].strip():
        try:
            value, end = json.JSONDecoder().raw_decode(text, start)
        except (ValueError, RecursionError):
            return text, []  # no JSON: it is a text as it is
        found.append(value)
        rest = text[end:]
        start = end + len(rest) - len(rest.lstrip())
    return (text[: text.find("{")].rstrip(), found) if found else (text, [])
