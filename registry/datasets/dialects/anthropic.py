"""Anthropic's messages: content in blocks, results within the user's turn, system beside them."""

from __future__ import annotations

import json
from typing import Any

from backends.thoughts import FIELD
from registry.datasets.dialects import tools
from registry.datasets.dialects.messages import finished, joined, read_messages, with_system
from registry.datasets.dialects.parts import Unused
from registry.datasets.files.values import BadLine, Row
from registry.datasets.formats import Format

_BLOCKS = ("tool_use", "tool_result", "thinking", "redacted_thinking")
_FIELDS = {
    "tool_use": frozenset({"type", "id", "name", "input"}),
    "tool_result": frozenset({"type", "tool_use_id", "content"}),
    "thinking": frozenset({"type", "thinking", "signature"}),
}


def is_anthropic(row: Row) -> bool:
    """Whether the messages hold what only Anthropic's do, or the tools do."""
    described = row.get("tools")
    if isinstance(described, list) and any(
        isinstance(tool, dict) and "input_schema" in tool for tool in described
    ):
        return True
    messages = row["messages"]
    for message in messages if isinstance(messages, list) else ():
        content = message.get("content") if isinstance(message, dict) else None
        for block in content if isinstance(content, list) else ():
            if isinstance(block, dict) and block.get("type") in _BLOCKS:
                return True
    return False


def anthropic(row: Row, unused: Unused) -> tuple[Format, Row]:
    """`messages` with blocks text, tool_use and tool_result; `system` and `tools` beside them."""
    if not isinstance(row["messages"], list):
        raise BadLine('"messages" must be a non-empty list.')
    expanded: list[Any] = []
    called: dict[Any, str] = {}
    for position, message in enumerate(row["messages"], start=1):
        if isinstance(message, dict) and isinstance(message.get("content"), list):
            expanded += _expanded(message, position, called, unused)
        else:
            expanded.append(message)
    messages = with_system(row, read_messages(expanded, unused))
    return finished({}, messages, tools.described(row.get("tools")))


def _expanded(message: Row, position: int, called: dict[Any, str], unused: Unused) -> list[Row]:
    """One message as OpenAI has it: results first, each a message of its own, then the text with
    its thoughts and calls. Thoughts that are encrypted cannot be learned."""
    texts: list[Any] = []
    thoughts: list[str] = []
    calls, results = [], []
    for block in message["content"]:
        kind = block.get("type") if isinstance(block, dict) else None
        if kind in _FIELDS:
            unused.note(block, _FIELDS[kind], "messages.content.")
        if kind == "tool_use":
            calls.append(_call(block, position))
            called[str(block.get("id"))] = block["name"]
        elif kind == "tool_result":
            results.append(_result(block, position, called, unused))
        elif kind == "thinking":
            thoughts.append(_thought(block, position, unused))
        elif kind == "redacted_thinking":
            unused.add("messages.content.redacted_thinking")
        else:
            texts.append(block)
    if calls and message.get("role") != "assistant":
        raise BadLine(f"message {position}: only an assistant message has a tool_use.")
    if results and message.get("role") != "user":
        raise BadLine(f"message {position}: only a user message has a tool_result.")
    if thoughts and message.get("role") != "assistant":
        raise BadLine(f"message {position}: only an assistant message has thinking.")
    if results and not texts:
        return results
    said = {**message, "content": joined(texts, position, unused, "messages")}
    more = ({"tool_calls": calls} if calls else {}) | (
        {FIELD: "\n\n".join(thoughts)} if thoughts else {}
    )
    return [*results, said | more]


def _thought(block: Row, position: int, unused: Unused) -> str:
    """The text of a thinking block, which may be a list of text parts."""
    thought = block.get("thinking")
    if isinstance(thought, list):
        thought = joined(thought, position, unused, "messages.content.thinking")
    if not isinstance(thought, str):
        raise BadLine(f"message {position}: a thinking block needs a text.")
    return thought


def _call(block: Row, position: int) -> Row:
    if not isinstance(block.get("name"), str) or not block["name"]:
        raise BadLine(f"message {position}: a tool_use needs a name.")
    given = tools.arguments({"arguments": block.get("input")}, position)
    call_id = {"id": block["id"]} if block.get("id") else {}
    return {**call_id, "type": "function", "function": {"name": block["name"], "arguments": given}}


def _result(block: Row, position: int, called: dict[Any, str], unused: Unused) -> Row:
    key = str(block.get("tool_use_id"))
    if key not in called:
        raise BadLine(f"message {position}: a tool_result answers no tool_use before it.")
    content = block.get("content")
    if isinstance(content, list):
        content = joined(content, position, unused, "messages.content")
    if not isinstance(content, str):
        content = "" if content is None else json.dumps(content, ensure_ascii=False)
    return {"role": "tool", "content": content, "tool_call_id": key, "name": called[key]}
