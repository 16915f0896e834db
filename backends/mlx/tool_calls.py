"""Calls of tools in answers: read, and enforced, in the notation of the model's chat template."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from mlx_lm.tool_parsers import json_tools, kimi_k2, mistral

from backends.base import BackendError, CallReader, Grammar, ToolCall, inputs
from backends.base.call_pieces import HERMES, KIMI, MISTRAL, JSONCalls, as_written
from backends.mlx.sampling.grammar import JSON_SPACES
from backends.mlx.schemas import enforceable

# Spaces as models have seen them, and no others: a confused model would write white space forever.
_CALL_SPACES = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_HERMES = json_tools.tool_call_start, json_tools.tool_call_end, json_tools.parse_tool_call
# The notations, by their parsers, whose arguments are JSON in the text; the others are XML or Python.
_AS_JSON = {
    json_tools.parse_tool_call: HERMES,
    mistral.parse_tool_call: MISTRAL,
    kimi_k2.parse_tool_call: KIMI,
}
_DECODER = json.JSONDecoder()


def own_notation(tokenizer: Any) -> tuple[str, str, Any] | None:
    """That of the model's template; None when it knows no tools."""
    template = str(tokenizer.chat_template or "")
    # mlx-lm also goes by the vocabulary, but a template may have lost what the model once learned.
    if tokenizer.has_tool_calling and (not template or "tool" in template):
        return tokenizer.tool_call_start, tokenizer.tool_call_end, tokenizer.tool_parser
    # mlx-lm recognizes templates by the names of their variables; the marks are as good a sign.
    return _HERMES if json_tools.tool_call_end in template else None


def parse_tool_calls(
    tokenizer: Any, model: str, text: str, tools: Sequence[dict[str, Any]]
) -> tuple[str, list[ToolCall]]:
    """See `backends.base.LoadedModel.parse_tool_calls`. Raises BackendError."""
    start, end, parser = _notation(tokenizer)
    rest, calls, left = "", [], text
    while start in left:
        before, _, left = left.partition(start)
        # Notations without an end mark, such as Mistral's, reach to the end of the answer.
        body, closed, left = _divided(left, end, parser) if end else (left, "end", "")
        rest += before
        calls += _read_calls(parser, body, tools, cut=not closed)
    if calls and (written := _AS_JSON.get(parser)):
        calls = as_written(calls, text, written)
    return (rest + left).strip(), calls


def call_reader(tokenizer: Any) -> CallReader | None:
    """See `backends.base.LoadedModel.call_reader`."""
    *_, parser = _notation(tokenizer)
    written = _AS_JSON.get(parser)
    return JSONCalls(written) if written else None


def _divided(text: str, end: str, parser: Any) -> tuple[str, str, str]:
    """As `text.partition(end)`, but for an end mark that stands within the strings of a call."""
    at = 0
    if parser is json_tools.parse_tool_call:
        with suppress(ValueError):
            _, at = _DECODER.raw_decode(text, len(text) - len(text.lstrip()))
    body, closed, rest = text[at:].partition(end)
    return text[:at] + body, closed, rest


def tool_grammar(
    tokenizer: Any,
    model: str,
    tools: Sequence[dict[str, Any]],
    otherwise: Grammar | None = None,
) -> Grammar:
    """See `backends.base.LoadedModel.tool_grammar`. Raises BackendError."""
    start, end, parser = _notation(tokenizer)
    opening, closing = _mark(tokenizer, start), _mark(tokenizer, end)
    if parser is json_tools.parse_tool_call:
        # A call as JSON, the notation of Hermes and Qwen.
        rules = [f'call: {opening} "\\n" ({_any_of("tool_", tools)}) "\\n" {closing}']
        for n, tool in enumerate(tools):
            function = tool.get("function") or tool
            if not isinstance(name := function.get("name"), str):
                raise BackendError("A tool has no name; send OpenAI's function descriptions.")
            before = json.dumps(f'{{"name": {json.dumps(name)}, "arguments": ')
            arguments = _json_rule(
                _object(_arguments(tool, name)),
                _CALL_SPACES,
                f"A call of {function['name']}",
                'leave that out of its parameters, or send tool_choice "auto"',
            )
            rules += [f'tool_{n}: {before} arguments_{n} "}}"', f"arguments_{n}: {arguments}"]
        more = 'call ("\\n" call)*'
    elif otherwise is None:
        raise BackendError(
            f"The way the chat template of {model} writes tool calls cannot be enforced; send "
            'tool_choice "auto".'
        )
    else:  # whatever begins as a call
        rules, more = [f"call: {opening} <[*]>*"], "call"
    if otherwise is None:
        return Grammar("lark", "\n".join(["start: call", *rules]))
    rules.append(f"answer: {_rule_of(otherwise)}")
    return Grammar("lark", "\n".join([f"start: {more} | answer", *rules]))


def _arguments(tool: dict[str, Any], name: str) -> Any:
    """The schema of its arguments. Raises BackendError."""
    try:
        return inputs.schema_of(tool)
    except ValueError as error:
        raise BackendError(
            f"The Lark grammar of {name} cannot be enforced: {error}; send a regex, or tool_choice "
            '"auto", with which it is described to the model alone.'
        ) from error


def _object(schema: Any) -> dict[str, Any]:
    """The schema of arguments, which are an object even where it does not say so."""
    if not isinstance(schema, dict) or not schema:
        return {"type": "object"}
    said = {"type", "$ref", "anyOf", "oneOf", "allOf"} & schema.keys()
    return schema if said else {"type": "object", **schema}


def _any_of(prefix: str, tools: Sequence[Any]) -> str:
    return " | ".join(f"{prefix}{n}" for n in range(len(tools)))


def _mark(tokenizer: Any, mark: str) -> str:
    """A mark in a Lark grammar: its own token where the tokenizer has one, which models learned to
    write and which the letters in a grammar do not stand for."""
    token = tokenizer.convert_tokens_to_ids(mark) if mark else None
    known = token is not None and tokenizer.convert_ids_to_tokens(token) == mark
    return f"<[{token}]>" if known else json.dumps(mark)


_SLASH = re.compile(r"(\\.)|/", re.DOTALL)  # one that no backslash escapes, or what one does
_FORMAT = ("The JSON schema", "leave that out of it")


def _json_rule(schema: dict[str, Any], spaces: dict[str, Any], what: str, todo: str) -> str:
    """Raises BackendError, which says `what` cannot be enforced and what `todo`."""
    try:
        plain = enforceable(schema)
    except (ValueError, RecursionError) as error:
        raise BackendError(f"{what} cannot be enforced: {error}; {todo}.") from error
    return f"%json {json.dumps({**plain, 'x-guidance': spaces})}"


def _rule_of(grammar: Grammar) -> str:
    """A grammar as the right side of a rule of a Lark grammar. Raises BackendError."""
    match grammar.kind:
        case "json_object":
            return _json_rule({"type": "object"}, JSON_SPACES, *_FORMAT)
        case "json_schema":
            try:
                schema = json.loads(grammar.source)
            except ValueError:
                schema = None
            if isinstance(schema, dict):
                return _json_rule(schema, JSON_SPACES, *_FORMAT)
            raise BackendError("The JSON schema beside tools is not a JSON object.")
        case "regex":
            return f"/{_SLASH.sub(lambda found: found[1] or chr(92) + '/', grammar.source)}/"
        case "lark":
            raise BackendError("A Lark grammar cannot be combined with tools; send one of them.")


def _notation(tokenizer: Any) -> tuple[str, str, Any]:
    """The marks around a call, and its parser; Hermes' for a template that knows no tools."""
    return own_notation(tokenizer) or _HERMES


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
