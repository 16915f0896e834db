"""Chats: OpenAI's messages, ShareGPT's turns, TRL's prompt and completion as messages."""

from __future__ import annotations

import json
import re
from typing import Any

from backends.thoughts import FIELDS
from registry.datasets.dialects import tools
from registry.datasets.dialects.messages import (
    LEARNED,
    SPEAKERS,
    finished,
    read_messages,
    with_system,
)
from registry.datasets.dialects.parts import Unused, decoded
from registry.datasets.files.values import BadLine, Row
from registry.datasets.formats import Format

_START = 1_000  # characters by which a text is known to hold messages
_JSON = re.compile(r'\[\s*\{\s*"(role|content|from|value|weight|name)"\s*:')
_PYTHON = re.compile(r"\[\s*\{\s*'(role|content|from|value)'\s*:")
_WHO = ("role", "from", "speaker")
_SAID = ("content", "value", "text", "parts")
_BESIDE = ("weight", "train_detail", *LEARNED, *FIELDS)
_EXCHANGE = frozenset({"input", "output"})


def chat(row: Row, unused: Unused) -> tuple[Format, Row]:
    """`messages`, and perhaps `tools` (or OpenAI's older `functions`) and `system`."""
    messages = with_system(row, read_messages(_or_turns(row["messages"], unused), unused))
    return finished(row, messages, _tools(row, unused))


def sharegpt(row: Row, unused: Unused) -> tuple[Format, Row]:
    """`conversations` of turns with from and value, or role and content."""
    key = "conversations" if row.get("conversations") is not None else "conversation"
    if key == "conversations" and row.get("conversation") is not None:
        unused.add("conversation")
    turns = from_turns(row[key], key, unused)
    messages = with_system(row, read_messages(turns, unused, key))
    return finished({}, messages, _tools(row, unused))


INSTRUCTIONS = ("systemInstruction", "system_instruction")


def gemini(row: Row, unused: Unused) -> tuple[Format, Row]:
    """Gemini's `contents`: turns with a role and parts that are texts. Raises BadLine."""
    turns = _or_turns(row["contents"], unused, "contents")
    asked = next((row[key] for key in INSTRUCTIONS if row.get(key)), None)
    return finished(
        {}, with_system({"system": asked}, read_messages(turns, unused, "contents")), []
    )


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
    if isinstance(value, list) and not all(isinstance(item, str) for item in value):
        return read_messages(_or_turns(value, unused, where), unused, where)
    if not isinstance(value, str) or not value.strip():
        raise BadLine(f'"{where}" must be a text or a non-empty list of messages.')
    return [{"role": role, "content": value}]


def _or_turns(value: Any, unused: Unused, where: str = "messages") -> Any:
    """ShareGPT's turns as messages, whatever their column is called; anything else as it is."""
    if not isinstance(value, list) or not value:
        return value
    if any(isinstance(turn, dict) and _is_turn_of_sharegpt(turn) for turn in value):
        return from_turns(value, where, unused)
    if isinstance(value[0], str) or (isinstance(value[0], dict) and value[0].keys() >= _EXCHANGE):
        return from_turns(value, where, unused)
    return value


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


def _is_turn_of_sharegpt(turn: Row) -> bool:
    """Whether it says who speaks, or what is said, under other names than OpenAI's messages do."""
    if "role" not in turn or "parts" in turn:
        return not turn.keys().isdisjoint(("from", "speaker", "parts"))
    plain = any(turn.get(key) is not None for key in ("content", "tool_calls", "function_call"))
    called = SPEAKERS.get(str(turn["role"]).lower()) == "call"
    return called or (not plain and ("value" in turn or "text" in turn))


def _is_turn(value: Any) -> bool:
    """Whether it is a message or a turn, and no other object that an answer may hold."""
    if not isinstance(value, dict):
        return False
    role = value.get("role", value.get("from"))
    return isinstance(role, str) and role.lower() in SPEAKERS


def from_turns(turns: Any, key: str, unused: Unused) -> list[Any]:
    """ShareGPT's turns as messages; texts are said in turn, and a turn of input and output is two
    messages. Raises BadLine."""
    if not isinstance(turns, list):
        raise BadLine(f'"{key}" must be a list.')
    if turns and all(isinstance(turn, str) for turn in turns):
        roles = ("user", "assistant")
        return [{"role": roles[n % 2], "content": text} for n, text in enumerate(turns)]
    pending = tools.Pending()
    said: list[Any] = []
    for position, turn in enumerate(turns, start=1):
        if isinstance(turn, dict) and turn.keys() >= _EXCHANGE and "role" not in turn:
            unused.note(turn, _EXCHANGE, f"{key}.")
            said.append({"role": "user", "content": turn["input"]})
            said.append({"role": "assistant", "content": turn["output"]})
        else:
            said.append(_turn(turn, position, key, pending, unused))
    return said


def _turn(turn: Any, position: int, key: str, pending: tools.Pending, unused: Unused) -> Row:
    if not isinstance(turn, dict):
        raise BadLine(f"turn {position} is not an object.")
    who = next((name for name in _WHO if turn.get(name) is not None), "from")
    said = next((name for name in _SAID if turn.get(name) is not None), "value")
    role = SPEAKERS.get(str(turn.get(who)).lower())
    if turn.get(who) is None:
        raise BadLine(f'turn {position} does not say who speaks, as "from" or "role".')
    if role is None:
        raise BadLine(f"turn {position} has an unknown sender, {turn.get(who)!r:.60}.")
    if who == "role" and said == "content" and role != "call":
        of = pending.answer() if role == "tool" and "tool_call_id" not in turn else {}
        return {**of, **turn, "role": role} if of or role != turn["role"] else turn
    if turn.get("tool_calls") or turn.get("function_call"):
        return {**turn, "role": role}
    unused.note(turn, frozenset({who, said, *_BESIDE}), f"{key}.")
    more = {key: turn[key] for key in _BESIDE if key in turn}
    value = turn.get(said)
    if role == "call":
        calls = _calls(value, position, pending, unused, f"{key}.{said}.")
        return {"role": "assistant", "content": "", "tool_calls": calls, **more}
    if role == "tool":
        result = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        return {"role": "tool", "content": result, **pending.answer(), **more}
    return {"role": role, "content": value, **more}


def _calls(
    value: Any, position: int, pending: tools.Pending, unused: Unused, within: str
) -> list[Row]:
    """What a `function_call` turn calls: one function or several, as JSON."""
    found = decoded(value, "function_call") if isinstance(value, str) else value
    called = found if isinstance(found, list) else [found]
    for function in called:
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise BadLine(f"turn {position}: a function_call needs a name and arguments.")
        unused.note(function, tools.FUNCTION, within)
    if not called:
        raise BadLine(f"turn {position}: a function_call needs a name and arguments.")
    return [pending.call(one["name"], tools.arguments(one, position)) for one in called]


def _tools(row: Row, unused: Unused) -> list[Any]:
    described = tools.described(row.get("tools"))
    older = tools.described(row.get("functions"), "functions")
    if described and older:
        unused.add("functions")
    return described or older
