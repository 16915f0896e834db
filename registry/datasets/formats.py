"""The five formats of examples, and the shapes found in the wild that are one of them.

`canonical` turns a row into what training reads; files are read elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from registry.datasets.sources import BadLine, Row
from registry.models import Dataset

Format = Dataset.Format

FIELDS: dict[Dataset.Format, dict[str, str]] = {
    Format.CHAT: {"messages": "array of {role, content}"},
    Format.COMPLETIONS: {"prompt": "string", "completion": "string"},
    Format.TEXT: {"text": "string"},
    Format.TOOLS: {
        "messages": "array of {role, content, tool_calls}",
        "tools": "array of function descriptions (may be absent)",
    },
    Format.PREFERENCE: {
        "prompt": "array of {role, content}, or string",
        "chosen": "the better answer",
        "rejected": "the worse answer",
    },
}
COLUMNS = ("messages", "prompt", "completion", "text", "chosen", "rejected", "tools")
"""The fields that a column can be mapped to."""

_ROLES = ("system", "user", "assistant", "tool")
_SPEAKERS = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "system": "system",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
}
_PAIRS = (("instruction", "output"), ("instruction", "response"), ("question", "answer"))


def canonical(row: Row, columns: Mapping[str, str]) -> tuple[Dataset.Format, Row]:
    """The format of a row, and the row with the names that training reads.

    `columns` maps such a name to the column that holds it. A row that needs no change is returned
    as it is. Raises BadLine when the row is in no format.
    """
    row = _mapped(row, columns) if columns else row
    if "conversations" in row and "messages" not in row:
        row = _from_conversations(row)
    if isinstance(row.get("messages"), str):
        row = {**row, "messages": _decoded(row["messages"], "messages")}
    if "chosen" in row or "rejected" in row:
        return Format.PREFERENCE, _preference(row)
    if "messages" in row:
        return _chat(row)
    row = _from_pair(row)
    if "prompt" in row or "completion" in row:
        _check_text(row, "prompt")
        _check_text(row, "completion")
        return Format.COMPLETIONS, row
    if "text" in row:
        _check_text(row, "text")
        return Format.TEXT, row
    raise BadLine(
        'has none of "messages", "prompt" and "completion", or "text"; map its columns yourself: '
        f"{', '.join(row) or 'it has nothing'}."
    )


def _mapped(row: Row, columns: Mapping[str, str]) -> Row:
    """The mapped columns alone: another one could otherwise decide the format."""
    missing = [name for name in columns.values() if name not in row]
    if missing:
        raise BadLine(f'has no "{missing[0]}"; it has {", ".join(row) or "nothing"}.')
    return {target: row[name] for target, name in columns.items()}


def _from_pair(row: Row) -> Row:
    """instruction[/input]/output, question/answer and their like as prompt and completion."""
    if "prompt" in row or "completion" in row:
        return row
    for asked, answered in _PAIRS:
        if asked in row and answered in row:
            _check_text(row, asked)
            _check_text(row, answered)
            extra = row.get("input") if asked == "instruction" else None
            more = f"\n\n{extra}" if isinstance(extra, str) and extra.strip() else ""
            return {"prompt": row[asked] + more, "completion": row[answered]}
    return row


def _from_conversations(row: Row) -> Row:
    """ShareGPT's from and value; a system prompt beside them becomes the first message."""
    turns = row["conversations"]
    if isinstance(turns, str):
        turns = _decoded(turns, "conversations")
    if not isinstance(turns, list):
        raise BadLine('"conversations" must be a list.')
    messages: list[Any] = []
    if isinstance(row.get("system"), str) and row["system"].strip():
        messages.append({"role": "system", "content": row["system"]})
    for position, turn in enumerate(turns, start=1):
        if not isinstance(turn, dict):
            raise BadLine(f"turn {position} is not an object.")
        if "role" in turn:
            messages.append(turn)
            continue
        role = _SPEAKERS.get(str(turn.get("from")).lower())
        if role is None:
            raise BadLine(f"turn {position} has an unknown sender, {turn.get('from')!r}.")
        messages.append({"role": role, "content": turn.get("value")})
    rest = {"tools": row["tools"]} if "tools" in row else {}
    return {"messages": messages, **rest}


# ---------------------------------------------------------------- chats


def _chat(row: Row) -> tuple[Dataset.Format, Row]:
    messages = row["messages"]
    if not isinstance(messages, list) or not messages:
        raise BadLine('"messages" must be a non-empty list.')
    tools = row.get("tools")
    uses_tools = bool(tools) or any(_about_tools(message) for message in messages)
    if uses_tools:
        row = {"messages": [_with_calls(m, n) for n, m in enumerate(messages, start=1)]}
        if tools:
            row["tools"] = _tools(tools)
        messages = row["messages"]
    check_messages(messages)
    last = messages[-1]
    if last["role"] != "assistant" or not (last["content"].strip() or last.get("tool_calls")):
        raise BadLine("the last message must be the assistant's answer.")
    return (Format.TOOLS if uses_tools else Format.CHAT), row


def check_messages(messages: object) -> None:
    """Raises BadLine unless it is a list of messages with a role and a text."""
    if not isinstance(messages, list) or not messages:
        raise BadLine("a list of messages is not a list, or empty.")
    for position, message in enumerate(messages, start=1):
        if not isinstance(message, dict) or message.get("role") not in _ROLES:
            raise BadLine(f"message {position} needs a role of {', '.join(_ROLES)}.")
        if not isinstance(message.get("content"), str):
            raise BadLine(f"message {position} needs text as its content.")


def _about_tools(message: object) -> bool:
    return isinstance(message, dict) and (
        bool(message.get("tool_calls")) or message.get("role") == "tool"
    )


def _with_calls(message: object, position: int) -> Any:
    """The message with a text (perhaps empty) and its calls' arguments as an object, which is
    what chat templates write; OpenAI's API has them as a text."""
    if not isinstance(message, dict) or not message.get("tool_calls"):
        return message
    calls = message["tool_calls"]
    if isinstance(calls, str):
        calls = _decoded(calls, "tool_calls")
    if not isinstance(calls, list):
        raise BadLine(f"message {position}: tool_calls must be a list.")
    return {
        **message,
        "content": message.get("content") or "",
        "tool_calls": [_call(call, position) for call in calls],
    }


def _call(call: object, position: int) -> Row:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(call, dict) or not isinstance(function, dict) or not function.get("name"):
        raise BadLine(f"message {position}: a tool call needs a function with a name.")
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        arguments = _decoded(arguments or "{}", "arguments")
    if not isinstance(arguments, dict):
        raise BadLine(f"message {position}: the arguments of a tool call must be an object.")
    return {**call, "function": {**function, "arguments": arguments}}


def _tools(tools: object) -> list[Any]:
    found = _decoded(tools, "tools") if isinstance(tools, str) else tools
    if not isinstance(found, list) or not all(isinstance(tool, dict) for tool in found):
        raise BadLine('"tools" must be a list of objects.')
    return found


# ---------------------------------------------------------------- preferences


def _preference(row: Row) -> Row:
    for key in ("chosen", "rejected"):
        if key not in row:
            raise BadLine(f'needs both "chosen" and "rejected"; "{key}" is missing.')
    chosen, rejected = row["chosen"], row["rejected"]
    prompt = row.get("prompt", row.get("question"))
    if prompt is None and isinstance(chosen, list) and isinstance(rejected, list):
        shared = _shared(chosen, rejected)
        prompt, chosen, rejected = chosen[:shared], chosen[shared:], rejected[shared:]
    for key, value in (("prompt", prompt), ("chosen", chosen), ("rejected", rejected)):
        if isinstance(value, list):
            check_messages(value)
        elif not isinstance(value, str) or not value.strip():
            raise BadLine(f'"{key}" must be a text or a non-empty list of messages.')
    if chosen == rejected:
        raise BadLine("chosen and rejected are the same.")
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def _shared(one: list[Any], other: list[Any]) -> int:
    """How many messages both begin with; the last of each is always its own."""
    most = min(len(one), len(other)) - 1
    return next((n for n in range(max(most, 0)) if one[n] != other[n]), max(most, 0))


# ---------------------------------------------------------------- parts


def _check_text(row: Row, key: str) -> None:
    if not isinstance(row.get(key), str) or not row[key].strip():
        raise BadLine(f'"{key}" must be a non-empty text.')


def _decoded(text: Any, key: str) -> Any:
    """A column that holds JSON as a text, as Parquet and CSV files often do."""
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError):
        raise BadLine(f'"{key}" holds a text that is not JSON.') from None
