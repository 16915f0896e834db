"""Chats: OpenAI's messages, ShareGPT's turns, TRL's prompt and completion as messages."""

from __future__ import annotations

import json
import re
from typing import Any

from backends.thoughts import FIELDS
from registry.datasets.dialects import tools
from registry.datasets.dialects.messages import finished, read_messages, with_system
from registry.datasets.dialects.parts import Unused, decoded
from registry.datasets.files.values import BadLine, Row
from registry.datasets.formats import Format

_SPEAKERS = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "system": "system",
    "developer": "system",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "tool_response": "tool",
    "function_call": "call",
    "tool_call": "call",
}
_START = 1_000  # characters by which a text is known to hold messages
_JSON = re.compile(r'\[\s*\{\s*"(role|content|from|value|weight|name)"\s*:')
_PYTHON = re.compile(r"\[\s*\{\s*'(role|content|from|value)'\s*:")
_TURN = frozenset({"from", "value", "weight", *FIELDS})


def chat(row: Row, unused: Unused) -> tuple[Format, Row]:
    """`messages`, and perhaps `tools` (or OpenAI's older `functions`) and `system`."""
    messages = with_system(row, read_messages(row["messages"], unused))
    return finished(row, messages, _tools(row, unused))


def sharegpt(row: Row, unused: Unused) -> tuple[Format, Row]:
    """`conversations` of turns with from and value, or role and content."""
    key = "conversations" if row.get("conversations") is not None else "conversation"
    if key == "conversations" and row.get("conversation") is not None:
        unused.add("conversation")
    turns = from_turns(row[key], key, unused)
    messages = with_system(row, read_messages(turns, unused, key))
    return finished({}, messages, _tools(row, unused))


def conversational(row: Row, unused: Unused) -> tuple[Format, Row]:
    """TRL's `prompt` and `completion`, one or both of them messages: what the prompt's assistant
    said is not learned."""
    prompt = as_messages(row["prompt"], "user", "prompt", unused)
    completion = as_messages(row["completion"], "assistant", "completion", unused)
    asked = [
        {**message, "weight": 0} if message["role"] == "assistant" else message
        for message in prompt
    ]
    return finished({}, with_system(row, [*asked, *completion]), _tools(row, unused))


def as_messages(value: Any, role: str, where: str, unused: Unused) -> list[Any]:
    """A text as the one message of this role, or messages as they are. Raises BadLine."""
    if isinstance(value, dict):
        value = [value]
    if isinstance(value, list):
        if any(isinstance(turn, dict) and "from" in turn for turn in value):
            value = from_turns(value, where, unused)
        return read_messages(value, unused, where)
    if not isinstance(value, str) or not value.strip():
        raise BadLine(f'"{where}" must be a text or a non-empty list of messages.')
    return [{"role": role, "content": value}]


def written_messages(text: str, key: str) -> list[Any] | None:
    """The messages that a text holds as JSON, as CSV files have them; None for any other text.

    Raises BadLine for messages in Python's notation, which pandas writes.
    """
    start = text.lstrip()[:_START]
    if _PYTHON.match(start):
        raise BadLine(
            f'"{key}" holds messages in Python\'s notation; write them as JSON (json.dumps).'
        )
    if not _JSON.match(start):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, list) and all(map(_is_turn, found)) else None


def _is_turn(value: Any) -> bool:
    """Whether it is a message or a turn, and no other object that an answer may hold."""
    if not isinstance(value, dict):
        return False
    role = value.get("role", value.get("from"))
    return isinstance(role, str) and role.lower() in _SPEAKERS


def from_turns(turns: Any, key: str, unused: Unused) -> list[Any]:
    """ShareGPT's turns as messages. Raises BadLine."""
    if not isinstance(turns, list):
        raise BadLine(f'"{key}" must be a list.')
    pending = tools.Pending()
    return [_turn(turn, n, key, pending, unused) for n, turn in enumerate(turns, start=1)]


def _turn(turn: Any, position: int, key: str, pending: tools.Pending, unused: Unused) -> Row:
    if not isinstance(turn, dict):
        raise BadLine(f"turn {position} is not an object.")
    if "role" in turn:
        role = _SPEAKERS.get(str(turn["role"]).lower(), turn["role"])
        return turn if role == turn["role"] else {**turn, "role": role}
    unused.note(turn, _TURN, f"{key}.")
    role = _SPEAKERS.get(str(turn.get("from")).lower())
    more = {key: turn[key] for key in ("weight", *FIELDS) if key in turn}
    value = turn.get("value")
    if role is None:
        raise BadLine(f"turn {position} has an unknown sender, {turn.get('from')!r:.60}.")
    if role == "call":
        calls = _calls(value, position, pending)
        return {"role": "assistant", "content": "", "tool_calls": calls, **more}
    if role == "tool":
        said = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        return {"role": "tool", "content": said, **pending.answer(), **more}
    return {"role": role, "content": value, **more}


def _calls(value: Any, position: int, pending: tools.Pending) -> list[Row]:
    """What a `function_call` turn calls: one function or several, as JSON."""
    found = decoded(value, "function_call") if isinstance(value, str) else value
    called = found if isinstance(found, list) else [found]
    for function in called:
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise BadLine(f"turn {position}: a function_call needs a name and arguments.")
    if not called:
        raise BadLine(f"turn {position}: a function_call needs a name and arguments.")
    return [pending.call(one["name"], tools.arguments(one, position)) for one in called]


def _tools(row: Row, unused: Unused) -> list[Any]:
    described = tools.described(row.get("tools"))
    older = tools.described(row.get("functions"), "functions")
    if described and older:
        unused.add("functions")
    return described or older
