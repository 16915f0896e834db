"""Scores of an answer against the right one: one rule for scoring after training and over HTTP.

Every scorer returns 0 to 1. This module knows examples and text, neither models nor tokens.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from backends.base import Message, Thoughts
from backends.examples import is_labelled, is_learned, judged, unweighted
from backends.thoughts import spoken

type Scorer = Callable[[str, str], float]


class NoAnswer(ValueError):
    """An example has no answer that a text can be compared with; the message says why."""


@dataclass(frozen=True)
class Question:
    """What to ask, and the expected answer."""

    messages: list[Message]
    expected: str
    tools: list[dict[str, Any]] | None = None

    @property
    def prompt(self) -> str:
        """The last message, which a person reads as the question."""
        return self.messages[-1]["content"]


def question(example: Mapping[str, Any], thoughts: Thoughts = "kept") -> Question:
    """The question of an example of any format, with the thoughts of earlier answers as the model
    learned them. Raises NoAnswer."""
    if "chosen" in example:
        asked, chosen = example["prompt"], example["chosen"]
        right = chosen if isinstance(chosen, str) else chosen[-1]["content"]
        return Question(_as_chat(asked, thoughts), right)
    if is_labelled(example):
        ((chat, good),) = judged(example)
        if not good:
            raise NoAnswer("A bad answer is not the right one and cannot be scored.")
        return question(chat, thoughts)
    if "prompt" in example and "completion" in example:
        return Question(_as_chat(example["prompt"], thoughts), example["completion"])
    messages = list(example.get("messages", ()))
    if len(messages) < 2 or messages[-1]["role"] != "assistant":
        raise NoAnswer("An example that does not end with an assistant's answer cannot be scored.")
    if not is_learned(messages[-1]):
        raise NoAnswer("An answer of weight 0 is not the right one and cannot be scored.")
    if messages[-1].get("tool_calls"):
        raise NoAnswer("An answer that calls a tool is not text and cannot be scored.")
    tools = example.get("tools") or None
    kept = ("role", "content") if tools is None else SPOKEN
    said = spoken(messages[:-1], thoughts)
    asked = [{key: m[key] for key in kept if key in m} for m in said]
    return Question(cast(list[Message], asked), messages[-1]["content"], tools)


SPOKEN = ("role", "content", "tool_calls", "tool_call_id", "name")
"""Of a message, what an endpoint with tools passes to the template."""


def _as_chat(asked: Any, thoughts: Thoughts) -> list[Message]:
    if isinstance(asked, str):
        return [Message(role="user", content=asked)]
    return cast(list[Message], spoken(unweighted(asked), thoughts))


# ---------------------------------------------------------------- scorers


def exact_match(expected: str, answer: str) -> float:
    """1 when both are equal: as JSON where the right answer is JSON, else as text without space around."""
    try:
        right = _canonical(expected)
    except ValueError:
        return float(expected.strip() == answer.strip())
    try:
        return float(right == _canonical(answer))
    except ValueError:
        return 0.0


def json_fields(expected: str, answer: str) -> float:
    """F1 of the fields, each a path with its value: half right is worth half. 0 when the answer is
    not JSON. Raises NoAnswer when the right answer is not JSON."""
    right = fields_of(expected)
    if right is None:
        raise NoAnswer("The right answer is not JSON; choose another scorer.")
    given = fields_of(answer)
    return 0.0 if given is None else _f1(right, given)


def label(expected: str, answer: str) -> float:
    """1 when both are the same label: equal texts without space around."""
    return float(expected.strip() == answer.strip())


def contains(expected: str, answer: str) -> float:
    """1 when the answer contains the right one, ignoring case."""
    return float(_plain(expected) in _plain(answer))


def f1(expected: str, answer: str) -> float:
    """Harmonic mean of precision and recall of words, ignoring order and case (as SQuAD's,
    which also leaves out English articles)."""
    return _f1(Counter(_words(expected)), Counter(_words(answer)))


SCORERS: dict[str, Scorer] = {
    "exact_match": exact_match,
    "label": label,
    "json": json_fields,
    "contains": contains,
    "f1": f1,
}


type Path = tuple[str | int, ...]


def fields_of(text: str) -> Counter[tuple[Path, str]] | None:
    """The leaves of a JSON text, each a path with its value as JSON; a code fence around it is
    ignored. None for a text that is not JSON."""
    try:
        return Counter(_fields(json.loads(_unfenced(text), parse_int=float)))
    except (ValueError, RecursionError):
        return None


def _f1[T](right: Counter[T], given: Counter[T]) -> float:
    if not right or not given:
        return float(right == given)
    return 2 * (right & given).total() / (right.total() + given.total())


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _canonical(text: str) -> str:
    """One text for equal JSON: 1 is 1.0, but to Python alone true is 1 as well."""
    return json.dumps(json.loads(text, parse_int=float), sort_keys=True)


def _unfenced(text: str) -> str:
    """The content of the first Markdown code fence, where models like to put JSON."""
    found = re.search(r"```\w*\n(.*?)```", text, re.DOTALL)
    return found[1] if found else text


def _fields(value: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Every leaf as its path and value."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _fields(inner, (*path, key))
    elif isinstance(value, list) and value:
        for at, inner in enumerate(value):
            yield from _fields(inner, (*path, at))
    else:
        yield path, json.dumps(value)
