"""Calls of tools in answers: read, and enforced, in the notation of the model's chat template."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from typing import Any

from mlx_lm.tool_parsers import json_tools, kimi_k2, mistral

from backends.base import BackendError, Grammar, ToolCall, inputs
from backends.base.call_pieces import HERMES, KIMI, MISTRAL, JSONCalls, as_written
from backends.mlx.calls.grammar import CallGrammar
from backends.mlx.calls.notations import HERMES as HERMES_NOTATION
from backends.mlx.calls.notations import MISTRAL_IDS, Notation, notation_of
from backends.mlx.calls.parameters import nullable_texts, readable
from backends.mlx.calls.reading import PairedCalls, streams
from backends.mlx.calls.texts import slashed
from backends.mlx.sampling.grammar import JSON_SPACES
from backends.mlx.schemas import enforceable

_HERMES = json_tools.tool_call_start, json_tools.tool_call_end, json_tools.parse_tool_call
# The notations, by their parsers, whose arguments are JSON in the text; the others are XML or Python.
_AS_JSON = {
    json_tools.parse_tool_call: HERMES,
    mistral.parse_tool_call: MISTRAL,
    kimi_k2.parse_tool_call: KIMI,
}
_CALL_ID = re.compile(r"\[CALL_ID\][\w-]+\s*(?=\[ARGS\])")
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
    reading = _Reading(tokenizer, tools)
    rest, calls = reading.whole(text)
    if calls and (written := _AS_JSON.get(reading.parser)):
        calls = as_written(calls, text, written)
    elif calls and (reader := reading.reader()):
        reader.push(text)
        _agree(reader, calls, text)
    return rest.strip(), calls


def call_reader(
    tokenizer: Any, tools: Sequence[dict[str, Any]] = ()
) -> JSONCalls | PairedCalls | None:
    """See `backends.base.LoadedModel.call_reader`."""
    return _Reading(tokenizer, tools).reader()


def _agree(reader: JSONCalls | PairedCalls, calls: Sequence[ToolCall], text: str) -> None:
    """Whether what is sent of the calls is the beginning of each. Raises BackendError."""
    if isinstance(reader, PairedCalls) and reader.is_within_parameter:
        raise BackendError(
            f"The answer begins a tool call that was cut off: {text.strip()[-80:]!r}; allow more tokens or "
            "ask again."
        )
    for number, (name, arguments) in enumerate(reader.calls):
        call = calls[number] if number < len(calls) else ToolCall("", "")
        if call.name != name or not call.arguments.startswith(arguments):
            raise BackendError(
                f"The answer begins a tool call that cannot be read: {text.strip()[:80]!r}; ask again."
            )


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
    start, _, parser = _notation(tokenizer)
    notation = notation_of(tokenizer, parser)
    try:
        if notation is None:
            raise _unknown(model)
        writer = CallGrammar(tokenizer, notation)
        said = [_described(tool) for tool in tools]
        calls, rules = writer.answer(said, several=otherwise is not None), writer.rules
    except BackendError:
        if otherwise is None or (notation and not notation.pair):
            raise
        # Whatever begins as a call, beside what another grammar describes.
        calls, rules = f"{CallGrammar(tokenizer, HERMES_NOTATION).mark(start)} <[*]>*", []
    rules = [f"calls: {calls}", *rules]
    if otherwise is None:
        return Grammar("lark", "\n".join(["start: calls", *rules]))
    rules.append(f"answer: {_rule_of(otherwise)}")
    return Grammar("lark", "\n".join(["start: calls | answer", *rules]))


def strict_grammar(
    tokenizer: Any,
    model: str,
    tools: Sequence[dict[str, Any]],
    compiled: Callable[[Grammar], object],
) -> tuple[Grammar | None, list[str]]:
    """See `backends.base.LoadedModel.strict_grammar`. `compiled` raises BackendError where a grammar cannot be.

    Tools that are not strict are held to their schemas, too: the model began a call of one of all. One whose
    schema cannot be enforced is held to its name and to JSON, where its notation has JSON.
    """

    def written(some: Sequence[dict[str, Any]], loose: Sequence[dict[str, Any]] = ()) -> Grammar:
        grammar = _calls_in_text(tokenizer, model, some, loose)
        compiled(grammar)
        return grammar

    def refused(tool: dict[str, Any]) -> bool:
        try:
            written([tool])
        except BackendError:
            return True
        return False

    with suppress(BackendError):
        return written(tools), []
    loose = [tool for tool in tools if refused(tool)]
    with suppress(BackendError):
        return written(tools, loose), _strict_names(loose)
    return None, _strict_names(tools)


def _strict_names(tools: Sequence[dict[str, Any]]) -> list[str]:
    return [str(_named(tool)) for tool in tools if inputs.is_strict(tool)]


def _named(tool: dict[str, Any]) -> Any:
    return (tool.get("function") or tool).get("name")


def _calls_in_text(
    tokenizer: Any,
    model: str,
    tools: Sequence[dict[str, Any]],
    loose: Sequence[dict[str, Any]] = (),
) -> Grammar:
    """Of a text up to the mark with which calls begin, and of one call, or of several where the notation has
    one section for all, or no mark that ends them; of `loose` tools with any arguments. Raises BackendError."""
    start, end, parser = _notation(tokenizer)
    notation = notation_of(tokenizer, parser)
    if notation is None or not (notation.whole + notation.call).removeprefix("$calls").startswith(
        start
    ):
        raise _unknown(model)
    if "$json" not in notation.call and (loose or any(map(_takes_anything, tools))):
        raise BackendError("Its notation has no way to write arguments of which nothing is known.")
    writer = CallGrammar(tokenizer, _after(start, notation))
    said = [_described(inputs.loosened(tool) if tool in loose else tool) for tool in tools]
    section = notation.whole != "$calls"
    calls = writer.answer(said, several=section)
    more = ""
    if not end:  # whatever else follows would be read as of a call
        ends = " | ".join(f"<[{token}]>" for token in sorted(tokenizer.eos_token_ids))
        more = f"({ends})?" if section else f"({writer.mark(start)} calls)*"
    text = slashed(f"(?s:.*){re.escape(start)}")
    rules = [f"start: text calls {more}", f"text[lazy]: {text}", f"calls: {calls}"]
    return Grammar("lark", "\n".join([*rules, *writer.rules]), mark=start)


def _takes_anything(tool: dict[str, Any]) -> bool:
    schema = inputs.schema_of(tool) or {}
    return not inputs.is_strict(tool) and not {"properties", "additionalProperties"} & schema.keys()


def _after(mark: str, notation: Notation) -> Notation:
    """The notation of what follows the first mark."""
    if notation.whole == "$calls":
        return replace(notation, call=notation.call.removeprefix(mark))
    return replace(notation, whole=notation.whole.removeprefix(mark))


def _unknown(model: str) -> BackendError:
    return BackendError(
        f"The way the chat template of {model} writes tool calls cannot be enforced; send "
        'tool_choice "auto".'
    )


def _described(tool: dict[str, Any]) -> tuple[str, Any]:
    """Its name, and the schema of its arguments. Raises BackendError."""
    name = _named(tool)
    if not isinstance(name, str):
        raise BackendError("A tool has no name; send OpenAI's function descriptions.")
    try:
        return name, inputs.schema_of(tool)
    except ValueError as error:
        raise BackendError(
            f"The Lark grammar of {name} cannot be enforced: {error}; send a regex, or tool_choice "
            '"auto", with which it is described to the model alone.'
        ) from error


def _json_rule(schema: dict[str, Any]) -> str:
    """Raises BackendError."""
    try:
        plain = enforceable(schema)
    except (ValueError, RecursionError) as error:
        raise BackendError(
            f"The JSON schema cannot be enforced: {error}; leave that out of it."
        ) from error
    return f"%json {json.dumps({**plain, 'x-guidance': JSON_SPACES})}"


def _rule_of(grammar: Grammar) -> str:
    """A grammar as the right side of a rule of a Lark grammar. Raises BackendError."""
    match grammar.kind:
        case "json_object":
            return _json_rule({"type": "object"})
        case "json_schema":
            try:
                schema = json.loads(grammar.source)
            except ValueError:
                schema = None
            if isinstance(schema, dict):
                return _json_rule(schema)
            raise BackendError("The JSON schema beside tools is not a JSON object.")
        case "regex":
            return slashed(grammar.source)
        case "lark":
            raise BackendError("A Lark grammar cannot be combined with tools; send one of them.")


def _notation(tokenizer: Any) -> tuple[str, str, Any]:
    """The marks around a call, and its parser; Hermes' for a template that knows no tools."""
    return own_notation(tokenizer) or _HERMES


class _Reading:
    """How one answer's calls are read: by mlx-lm's parser, which gets types in words that it knows."""

    def __init__(self, tokenizer: Any, tools: Sequence[dict[str, Any]]) -> None:
        self._start, self._end, self.parser = _notation(tokenizer)
        self._notation = notation_of(tokenizer, self.parser)
        self._tools = tools

    def reader(self) -> JSONCalls | PairedCalls | None:
        """For an answer that comes in pieces."""
        if written := _AS_JSON.get(self.parser):
            return JSONCalls(written)
        if self._notation is None or not streams(self._notation):
            return None
        return PairedCalls(
            self._notation, self._start, self._schema_of, lambda text: self.whole(text)[1]
        )

    def whole(self, text: str) -> tuple[str, list[ToolCall]]:
        """What is no call, and the calls. Raises BackendError."""
        calls: list[ToolCall] = []
        rest, left = "", text
        while self._start in left:
            before, _, left = left.partition(self._start)
            # Notations without an end mark, such as Mistral's, reach to the end of the answer.
            end = self._end
            body, closed, left = _divided(left, end, self.parser) if end else (left, "end", "")
            rest += before
            calls += self._calls(body, cut=not closed)
        return rest + left, calls

    @cached_property
    def _told(self) -> Sequence[dict[str, Any]]:
        in_pairs = self._notation is not None and self._notation.pair
        return readable(self._tools) if in_pairs else list(self._tools)

    def _schema_of(self, name: str, parameter: str) -> dict[str, Any]:
        """That of a tool's parameter, in the parser's words; {} for one that is not known."""
        for tool in self._told:
            if (function := tool["function"]).get("name") == name:
                found: dict[str, Any] = function["parameters"]["properties"].get(parameter, {})
                return found
        return {}

    def _calls(self, body: str, *, cut: bool) -> list[ToolCall]:
        """Those between two marks. Raises BackendError."""
        try:
            return [_call(self._with_nulls(one)) for one in self._parsed(body)]
        except Exception as error:  # each notation's parser fails in its own way
            state = "was cut off" if cut else "cannot be read"
            raise BackendError(
                f"The answer begins a tool call that {state}: {body.strip()[:80]!r}; allow more "
                "tokens or ask again."
            ) from error

    def _parsed(self, body: str) -> list[dict[str, Any]]:
        if self._notation and self._notation.bare:
            name = body.strip()
            if any(tool["function"].get("name") == name for tool in self._told):
                return [{"name": name, "arguments": {}}]
        if self._notation is MISTRAL_IDS:  # mlx-lm 0.32 takes the ID for the name
            body = _CALL_ID.sub("", body)
        read = self.parser(body, self._told)
        return read if isinstance(read, list) else [read]

    def _with_nulls(self, read: dict[str, Any]) -> dict[str, Any]:
        """With null for a text that says so where a parameter may be either."""
        given, texts = read.get("arguments"), self._notation.texts if self._notation else ()
        if not texts or not texts[0].unread[0] or not isinstance(given, dict):
            return read
        either = nullable_texts(self._tools, read["name"])
        nulls = {
            name: None
            for name, value in given.items()
            if name in either and isinstance(value, str) and re.fullmatch(texts[0].unread[0], value)
        }
        return {**read, "arguments": {**given, **nulls}}


def _call(read: dict[str, Any]) -> ToolCall:
    arguments = read.get("arguments", {})
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    if not isinstance(json.loads(arguments), dict):
        raise ValueError("arguments are not an object")
    return ToolCall(str(read["name"]), arguments)
