"""The texts of a row, whatever its format: what was asked, what was answered, and all of it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator
from typing import Any

from registry.datasets.files.values import Row

_WORD = re.compile(r"\s+|\"|[^\s\"]+")
_MOST_COMPARED = 4_000  # words; longer texts are compared line by line

_NAMES = frozenset({"role", "name", "type", "id", "tool_call_id"})
"""Fields whose texts are names, not words."""


def every(value: Any) -> Iterator[str]:
    """Every text of a row but those that are names, in order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from every(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key not in _NAMES:
                yield from every(item)


def changed(value: Any, change: Callable[[str], str]) -> Any:
    """The row with `change` made to each of the texts that `every` gives."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [changed(item, change) for item in value]
    if isinstance(value, dict):
        return {k: item if k in _NAMES else changed(item, change) for k, item in value.items()}
    return value


def turns(row: Row) -> Iterator[tuple[bool, str]]:
    """(whether it is an answer, text) of what people and the model say, without system prompts.
    A call of a tool is an answer without text unless it has some."""
    for key in ("messages", "prompt", "completion", "text", "chosen", "rejected"):
        value = row.get(key)
        answer = key in ("completion", "chosen", "rejected")
        if isinstance(value, str):
            yield answer, value
        elif isinstance(value, list):
            yield from _messages(value)


def has_empty_answer(row: Row) -> bool:
    """Whether an answer has no text and calls no tool."""
    lists = [value for value in row.values() if isinstance(value, list)]
    messages = [message for value in lists for message in value if isinstance(message, dict)]
    answers = [message for message in messages if message.get("role") == "assistant"]
    said = [answer.get("content") for answer in answers if not answer.get("tool_calls")]
    said += [row[key] for key in ("completion", "chosen", "rejected") if key in row]
    return any(not text or (isinstance(text, str) and not text.strip()) for text in said)


def shown(row: Row, width: int) -> str:
    """The beginning of what is said in a row, on one line."""
    text = ""
    for answer, said in turns(row):
        text += ("→ " if answer else "") + " ".join(said[: 2 * width].split()) + " "
        if len(text) > width:
            return f"{text[:width].rstrip()}…"
    return text.rstrip()


def compared(before: str, after: str) -> list[tuple[str, str]]:
    """The parts of both texts in order, each "equal", "removed" or "added"; by words, or where they
    are long, by lines; the whole texts where there are very many."""
    old, new = _WORD.findall(before), _WORD.findall(after)
    if len(old) + len(new) > _MOST_COMPARED:
        old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    if len(old) + len(new) > _MOST_COMPARED:
        return [("removed", before), ("added", after)]
    parts: list[tuple[str, str]] = []
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    for how, a, b, c, d in matcher.get_opcodes():
        if how == "equal":
            parts.append((how, "".join(old[a:b])))
        else:
            parts += [("removed", "".join(old[a:b])), ("added", "".join(new[c:d]))]
    return [(how, text) for how, text in parts if text]


def _messages(messages: list[Any]) -> Iterator[tuple[bool, str]]:
    for message in messages:
        if isinstance(message, dict) and message.get("role") not in ("system", "tool"):
            text = message.get("content")
            if isinstance(text, str):
                yield message.get("role") == "assistant", text
