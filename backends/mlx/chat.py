"""Between messages and tokens: the model's own chat template and its notation of tool calls."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import jinja2
from mlx_lm.tool_parsers import json_tools

from backends.base import BackendError, Grammar, Message, ThoughtMarks, ToolCall, first_line
from backends.mlx import plain
from backends.mlx.schemas import enforceable

_MARK_TOKENS = 16  # at the end of a prompt; an opening mark and the white space after it have fewer
# What templates are given anyway.
_TAKEN = frozenset({"messages", "tools", "tokenize", "add_generation_prompt"})


def chat_tokens(
    tokenizer: Any,
    model: str,
    messages: Sequence[Message],
    tools: Sequence[dict[str, Any]] | None = None,
    template: Mapping[str, Any] | None = None,
) -> list[int]:
    """The prompt of a served model. Special tokens in messages are text (see `plain`). `template` are
    variables of the model's own template.

    Raises BackendError when the model has no chat template or the template refuses.
    """
    if not tokenizer.has_chat_template:
        raise BackendError(
            f"The model {model} has no chat template; choose an instruction-tuned model."
        )
    own = {key: value for key, value in (template or {}).items() if key not in _TAKEN}
    described = {**own, **({"tools": list(tools)} if tools else {})}
    hidden, typed = plain.hide([_for_template(message) for message in messages], tokenizer)
    try:
        tokens = tokenizer.apply_chat_template(
            hidden, add_generation_prompt=True, **described, tokenize=not typed
        )
        if typed:
            tokens = plain.encode(tokenizer, tokens, typed)
    except plain.Inseparable as error:
        raise BackendError(f"For {model}, {error}.") from error
    except (jinja2.TemplateError, TypeError, ValueError, KeyError, IndexError) as error:
        raise BackendError(
            f"The chat template of {model} refuses these messages: {first_line(error)}"
        ) from error
    return [int(token) for token in tokens]


def thought_marks(tokenizer: Any, prompt: Sequence[int]) -> ThoughtMarks:
    """How the model's own template marks thoughts, or as most do: data sets may teach that."""
    marks = ThoughtMarks()
    if tokenizer.has_thinking:
        marks = ThoughtMarks(tokenizer.think_start, tokenizer.think_end)
    end = str(tokenizer.decode(list(prompt[-_MARK_TOKENS:]))).rstrip()
    return replace(marks, opened=end.endswith(marks.open), closed=end.endswith(marks.close))


def require_tools(tokenizer: Any, model: str) -> None:
    """Raises BackendError when the model's template has no notation of tool calls: what it would
    generate could not be read, and every token would be wasted."""
    _notation(tokenizer, model)


def text_tokens(tokenizer: Any, text: str) -> list[int]:
    """A plain text for a completion, with the special tokens that the model begins every text with."""
    return [int(token) for token in tokenizer.encode(text)]


def parse_tool_calls(
    tokenizer: Any, model: str, text: str, tools: Sequence[dict[str, Any]]
) -> tuple[str, list[ToolCall]]:
    """See `backends.base.LoadedModel.parse_tool_calls`. Raises BackendError."""
    start, end, parser = _notation(tokenizer, model)
    rest, calls = "", []
    while start in text:
        before, _, text = text.partition(start)
        # Notations without an end mark, such as Mistral's, reach to the next beginning.
        body, closed, text = text.partition(end) if end else (text, "end", "")
        rest += before
        calls += _read_calls(parser, body, tools, cut=not closed)
    return (rest + text).strip(), calls


def tool_grammar(tokenizer: Any, model: str, tools: Sequence[dict[str, Any]]) -> Grammar:
    """See `backends.base.LoadedModel.tool_grammar`. Raises BackendError."""
    _, _, parser = _notation(tokenizer, model)
    if parser is not json_tools.parse_tool_call:
        raise BackendError(
            f"The way the chat template of {model} writes tool calls cannot be enforced; send "
            'tool_choice "auto".'
        )
    # A call as JSON, the notation of Hermes and Qwen.
    calls = [
        {
            "type": "object",
            "properties": {
                "name": {"const": tool["function"]["name"]},
                "arguments": _arguments(tool["function"]),
            },
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for tool in tools
    ]
    # Spaces as models have seen them, and no others: a confused model would write white space
    # forever.
    spaces = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
    schema = json.dumps({"x-guidance": spaces, "anyOf": calls})
    return Grammar("lark", f'start: "<tool_call>\\n" call "\\n</tool_call>"\ncall: %json {schema}')


def _arguments(function: dict[str, Any]) -> Any:
    """The schema of a call's arguments. Raises BackendError."""
    try:
        return enforceable(function.get("parameters") or {"type": "object"})
    except (ValueError, RecursionError) as error:
        raise BackendError(
            f"A call of {function['name']} cannot be enforced: {error}; leave that out of its "
            'parameters, or send tool_choice "auto".'
        ) from error


def _for_template(message: Message) -> dict[str, Any]:
    """The message as templates expect it: OpenAI sends a call's arguments as JSON text, templates
    want the object (text would be quoted twice)."""
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


def _notation(tokenizer: Any, model: str) -> tuple[str, str, Any]:
    """The marks around a call, and its parser. Raises BackendError when there are none."""
    if tokenizer.has_tool_calling:
        return tokenizer.tool_call_start, tokenizer.tool_call_end, tokenizer.tool_parser
    # mlx-lm recognizes templates by the names of their variables; the marks are as good a sign.
    if json_tools.tool_call_end in str(tokenizer.chat_template or ""):
        return json_tools.tool_call_start, json_tools.tool_call_end, json_tools.parse_tool_call
    raise BackendError(
        f"The chat template of {model} does not support tools; send the request without tools."
    )


def _read_calls(
    parser: Any, body: str, tools: Sequence[dict[str, Any]], *, cut: bool
) -> list[ToolCall]:
    try:
        read = parser(body, list(tools))
        return [_call(one) for one in (read if isinstance(read, list) else [read])]
    except Exception as error:  # each notation's parser fails in its own way
        state = "was cut off" if cut else "cannot be read"
        raise BackendError(
            f"The answer begins a tool call that {state}: {body.strip()[:80]!r}; allow more tokens "
            "or ask again."
        ) from error


def _call(read: dict[str, Any]) -> ToolCall:
    arguments = read.get("arguments", {})
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    if not isinstance(json.loads(arguments), dict):
        raise ValueError("arguments are not an object")
    return ToolCall(str(read["name"]), arguments)
