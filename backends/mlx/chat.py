"""From messages to tokens, by the model's own chat template."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal
from weakref import WeakKeyDictionary

import jinja2

from backends.base import BackendError, Message, ThoughtMarks, first_line
from backends.mlx import plain
from backends.mlx.tool_calls import own_notation
from backends.mlx.tools_in_words import with_tools, without_cut_calls, without_system

_MARK_TOKENS = 16  # at the end of a prompt; an opening mark and the white space after it have fewer
# What templates are given anyway.
_TAKEN = frozenset({"messages", "tools", "tokenize", "add_generation_prompt"})
_REFUSALS = (jinja2.TemplateError, TypeError, ValueError, KeyError, IndexError)


def chat_tokens(
    tokenizer: Any,
    model: str,
    messages: Sequence[Message],
    tools: Sequence[dict[str, Any]] | None = None,
    template: Mapping[str, Any] | None = None,
) -> list[int]:
    """The prompt of a served model. Special tokens in messages are text (see `plain`). `template` are
    variables of the model's own template. What it cannot write (tools, calls that were cut off, a
    system message) is in the texts of the messages instead: see `tools_in_words`.

    Raises BackendError when the model has no chat template or the template refuses.
    """
    if not tokenizer.has_chat_template:
        raise BackendError(
            f"The model {model} has no chat template; choose an instruction-tuned model."
        )
    own = {key: value for key, value in (template or {}).items() if key not in _TAKEN}
    said, described = _for_template(tokenizer, messages, tools or ())
    described = {**own, **described}
    hidden, typed = plain.hide(said, tokenizer)
    try:
        tokens = tokenizer.apply_chat_template(
            hidden, add_generation_prompt=True, **described, tokenize=not typed
        )
        if typed:
            tokens = plain.encode(tokenizer, tokens, typed)
    except plain.Inseparable as error:
        raise BackendError(f"For {model}, {error}.") from error
    except _REFUSALS as error:
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


def text_tokens(tokenizer: Any, text: str) -> list[int]:
    """A plain text for a completion, with the special tokens that the model begins every text with."""
    return [int(token) for token in tokenizer.encode(text)]


def _for_template(
    tokenizer: Any, messages: Sequence[Message], tools: Sequence[dict[str, Any]]
) -> tuple[Sequence[Mapping[str, Any]], dict[str, Any]]:
    """The messages as the model's template takes them, and what it is told beside them."""
    said: Sequence[Mapping[str, Any]] = [_with_objects(message) for message in messages]
    if own_notation(tokenizer):
        said, described = without_cut_calls(said), {"tools": list(tools)} if tools else {}
    else:
        said, described = with_tools(said, tools), {}
    if said and said[0]["role"] == "system":
        system = _system(tokenizer)
        # A template that drops system messages drops them in training too; tools must be seen.
        if system == "refused" or (system == "dropped" and tools and not described):
            said = without_system(said)
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
        except _REFUSALS:
            _systems[tokenizer] = "refused"
    return _systems[tokenizer]


def _with_objects(message: Message) -> dict[str, Any]:
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
