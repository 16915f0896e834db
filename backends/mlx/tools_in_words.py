"""Tools, calls and results as texts of a chat, where its template cannot write them.

The form is that of Hermes and Qwen: tools in the system message, a call as
`<tool_call>{"name": …, "arguments": {…}}</tool_call>` in an assistant's turn, a result as
`<tool_response>…</tool_response>` in a user's. `docs/openai.md` has it for users.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mlx_lm.tool_parsers import json_tools

START, END = json_tools.tool_call_start, json_tools.tool_call_end
_TOLD = """\
# Tools

You may call one or more functions to help with the user's request.

These functions are available, each with the JSON schema of its arguments:
<tools>
{tools}
</tools>

To call a function, answer with a JSON object of its name and its arguments within {start}{end} tags, \
one such object for each call:
{start}
{{"name": <function-name>, "arguments": <arguments-object>}}
{end}
Results come back within <tool_response></tool_response> tags."""

type Said = Mapping[str, Any]
"""A message, its calls with their arguments as objects where they are JSON."""


def with_tools(messages: Sequence[Said], tools: Sequence[dict[str, Any]]) -> list[Said]:
    """The chat for a template that knows no tools."""
    said = _spoken(messages, lambda call: True)
    if not tools:
        return said
    told = _TOLD.format(
        tools="\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools),
        start=START,
        end=END,
    )
    if said and said[0]["role"] == "system":
        return [{**said[0], "content": _joined(said[0]["content"], told)}, *said[1:]]
    return [{"role": "system", "content": told}, *said]


def without_cut_calls(messages: Sequence[Said]) -> list[Said]:
    """The chat for a template that writes calls itself: those whose arguments are no JSON object, most
    often because a limit of tokens cut them off, are the text that they were."""
    return _spoken(messages, lambda call: not isinstance(_arguments(call), dict | None))


def without_system(messages: Sequence[Said]) -> list[Said]:
    """The chat for a template that takes no system message: it begins the user's first turn."""
    if not messages or messages[0]["role"] != "system":
        return list(messages)
    system, *rest = messages
    if not rest or rest[0]["role"] != "user":
        return [{"role": "user", "content": system["content"]}, *rest]
    return [{**rest[0], "content": _joined(system["content"], rest[0]["content"])}, *rest[1:]]


def _spoken(messages: Sequence[Said], chosen: Callable[[Any], bool]) -> list[Said]:
    """The chat with the calls of a turn as its text, where one of them is `chosen`, and their results
    as a user's turn."""
    said: list[Said] = []
    spoken: set[Any] = set()  # ids of calls
    answered = False  # whether the last turn has results as texts
    for message in messages:
        calls = message.get("tool_calls") or []
        if message["role"] == "tool" and message.get("tool_call_id") in spoken:
            text = f"<tool_response>\n{message['content']}\n</tool_response>"
            _append(said, {"role": "user", "content": text}, "\n" if answered else "")
            answered = True
            continue
        if any(map(chosen, calls)):
            spoken |= {call.get("id") for call in calls}
            text = "\n".join(filter(None, [message.get("content"), *map(_written, calls)]))
            message = {**{k: v for k, v in message.items() if k != "tool_calls"}, "content": text}
        _append(said, message, "\n\n" if answered and message["role"] == "user" else "")
        answered = False
    return said


def _append(said: list[Said], message: Said, joined_by: str) -> None:
    """The message as a turn of its own, or as more of the last one."""
    if joined_by:
        said[-1] = {**said[-1], "content": said[-1]["content"] + joined_by + message["content"]}
    else:
        said.append(message)


def _written(call: Any) -> str:
    function = call.get("function") or {}
    arguments = _arguments(call)
    if isinstance(arguments, str):  # what there was of them: the call has no end
        return f'{START}\n{{"name": {json.dumps(function.get("name"))}, "arguments": {arguments}'
    called = {"name": function.get("name"), "arguments": arguments or {}}
    body = json.dumps(called, ensure_ascii=False)
    return f"{START}\n{body}\n{END}"


def _arguments(call: Any) -> Any:
    function = call.get("function") if isinstance(call, Mapping) else None
    return (function or {}).get("arguments")


def _joined(*texts: str) -> str:
    return "\n\n".join(filter(None, texts))
