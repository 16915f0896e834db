"""Tools, calls and results as texts of a chat, where its template cannot write them.

The form is that of Hermes and Qwen: tools in the system message, a call as
`<tool_call>{"name": …, "arguments": {…}}</tool_call>` in an assistant's turn, a result as
`<tool_response>…</tool_response>` in a user's. `docs/openai.md` has it for users.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal
from weakref import WeakKeyDictionary

import jinja2
from mlx_lm.tool_parsers import json_tools

from backends.mlx.tool_calls import own_notation

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


REFUSALS = (jinja2.TemplateError, TypeError, ValueError, KeyError, IndexError)
"""What rendering a template raises."""


def trained(chat: dict[str, Any], tokenizer: Any) -> dict[str, Any]:
    """An example's chat as it will be served where its template knows no tools, or refuses a system
    message that it has; as it is otherwise."""
    said, tools = chat["messages"], chat.get("tools")
    if not tokenizer.has_chat_template:
        return chat
    spoken_of = tools or any(m.get("tool_calls") or m.get("role") == "tool" for m in said)
    if spoken_of and not own_notation(tokenizer):
        messages, _ = for_template(tokenizer, said, tools or ())
        return {**{k: v for k, v in chat.items() if k != "tools"}, "messages": list(messages)}
    if said[0].get("role") == "system" and _system(tokenizer) == "refused":
        return {**chat, "messages": _without_system(said)}
    return chat


def for_template(
    tokenizer: Any, messages: Sequence[Said], tools: Sequence[dict[str, Any]]
) -> tuple[Sequence[Said], dict[str, Any]]:
    """The messages as the model's template takes them, and what it is told beside them."""
    said: Sequence[Said] = [_with_objects(message) for message in messages]
    if own_notation(tokenizer):
        said, described = _without_cut_calls(said), {"tools": list(tools)} if tools else {}
    else:
        said, described = _with_tools(said, tools), {}
    if said and said[0]["role"] == "system":
        system = _system(tokenizer)
        # A template that drops system messages drops them in training too; tools must be seen.
        if system == "refused" or (system == "dropped" and tools and not described):
            said = _without_system(said)
    return said, described


_systems: WeakKeyDictionary[Any, Literal["taken", "dropped", "refused"]] = WeakKeyDictionary()


def _system(tokenizer: Any) -> Literal["taken", "dropped", "refused"]:
    """What the model's template does with a system message."""
    if tokenizer not in _systems:
        mark = "A system message."
        chat = [{"role": "system", "content": mark}, {"role": "user", "content": "Hello."}]
        try:
            text = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
            _systems[tokenizer] = "taken" if mark in str(text) else "dropped"
        except REFUSALS:
            _systems[tokenizer] = "refused"
    return _systems[tokenizer]


def _with_objects(message: Said) -> dict[str, Any]:
    """OpenAI sends a call's arguments as JSON text, templates want the object (text would be quoted
    twice)."""
    described: dict[str, Any] = dict(message)
    if calls := message.get("tool_calls"):
        described["tool_calls"] = [_with_object(call) for call in calls]
    return described


def _with_object(call: dict[str, Any]) -> dict[str, Any]:
    function = call.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
        return call
    try:
        return call | {"function": function | {"arguments": json.loads(function["arguments"])}}
    except ValueError:
        return call


def _with_tools(messages: Sequence[Said], tools: Sequence[dict[str, Any]]) -> list[Said]:
    """The chat for a template that knows no tools."""
    said = _spoken(messages, lambda call: True, all_results=True)
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


def _without_cut_calls(messages: Sequence[Said]) -> list[Said]:
    """The chat for a template that writes calls itself: those whose arguments are no JSON object, most
    often because a limit of tokens cut them off, are the text that they were."""
    return _spoken(messages, lambda call: not isinstance(_arguments(call), dict | None))


def _without_system(messages: Sequence[Said]) -> list[Said]:
    """The chat for a template that takes no system message: it begins the user's first turn."""
    if not messages or messages[0]["role"] != "system":
        return list(messages)
    system, *rest = messages
    if not rest or rest[0]["role"] != "user":
        return [{"role": "user", "content": system["content"]}, *rest]
    return [{**rest[0], "content": _joined(system["content"], rest[0]["content"])}, *rest[1:]]


def _spoken(
    messages: Sequence[Said], chosen: Callable[[Any], bool], *, all_results: bool = False
) -> list[Said]:
    """The chat with the calls of a turn as its text, where one of them is `chosen`, and their results
    as a user's turn."""
    said: list[Said] = []
    spoken: set[Any] = set()  # ids of calls
    answered = False  # whether the last turn has results as texts
    for message in messages:
        calls = message.get("tool_calls") or []
        known = all_results or message.get("tool_call_id") in spoken
        if message["role"] == "tool" and known:
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
