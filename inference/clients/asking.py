"""A request in words of no API, what came back, and the three ways in which it may not be as wanted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]
Finish = Literal["stop", "length", "calls"]


class Broken(Exception):
    """The API did not keep its contract, whatever the model says: a fault of the hub."""


class Failed(Exception):
    """The model did not do what was asked, which another version may do."""


class Skipped(Exception):
    """It could not be tried, and why."""


@dataclass(frozen=True)
class Call:
    """A call of a tool. `arguments` is JSON, or what was written of it before it was cut off."""

    name: str
    arguments: str
    id: str = "call_1"


@dataclass(frozen=True)
class Turn:
    """A turn of a conversation. An assistant may have `calls`; a tool's turn answers the one that it
    has. `said` is an assistant's turn as an API's own answer had it, which goes back untouched."""

    role: Role
    content: str = ""
    calls: tuple[Call, ...] = ()
    said: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Tool:
    name: str
    description: str
    schema: Mapping[str, Any]


@dataclass(frozen=True)
class Ask:
    """A conversation to continue, greedily. One of `tools` must be called if it is named in `forced`;
    with `one_call` the answer has one call at most. `format` is a JSON schema, {} for any object.
    `thinking` is the budget of thoughts in tokens, None for none."""

    turns: Sequence[Turn]
    tools: Sequence[Tool] = ()
    forced: str = ""
    one_call: bool = False
    format: Mapping[str, Any] | None = None
    thinking: int | None = None
    stop: str = ""
    max_tokens: int = 256
    stream: bool = False


@dataclass(frozen=True)
class Reply:
    """An answer. `said` are the turns (items) with which it goes back into the conversation;
    `thought_tokens` is None where the API does not count them, `total` where it has no sum."""

    text: str
    finish: Finish
    prompt_tokens: int
    completion_tokens: int
    thoughts: str = ""
    calls: tuple[Call, ...] = ()
    said: tuple[Any, ...] = field(default=(), compare=False)
    thought_tokens: int | None = None
    total: int | None = None

    @property
    def cut(self) -> bool:
        return self.finish == "length"

    @property
    def essence(self) -> tuple[Any, ...]:
        """What is the same however it is sent: ids differ, and cached tokens."""
        calls = [(call.name, json.loads(call.arguments)) for call in self.calls]
        return (self.text, self.thoughts, calls, self.finish, self.completion_tokens)


def user(content: str) -> Turn:
    return Turn("user", content)


def shortened(text: str, most: int = 80) -> str:
    """A text within a sentence."""
    line = " ".join(text.split())
    return repr(line if len(line) <= most else f"{line[: most - 1]}…")
