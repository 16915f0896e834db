"""Texts that follow a grammar, for the fake backend's answers.

JSON schemas are followed as far as types, enums, references, sizes and bounds go; regular
expressions as far as Python's own parser has plain parts; Lark is refused, except for "a call or
that", which this module writes itself.
"""

from __future__ import annotations

import importlib
import json
import random
import re
from collections.abc import Sequence
from typing import Any, cast

from backends.base import BackendError, Grammar, GrammarKind

_MOST_DEPTH = 24
_FORMATS = {
    "date": "2026-11-20",
    "time": "08:15:00Z",
    "date-time": "2026-11-20T08:15:00Z",
    "email": "amber@example.org",
    "uuid": "6f1c1a52-7c1e-4a57-9a0e-0f1f5a3f2b11",
    "uri": "https://example.org/amber",
    "ipv4": "127.0.0.1",
}


def write(grammar: Grammar, randomness: random.Random, words: Sequence[str]) -> str:
    """A text that follows `grammar`. Raises BackendError with the reason when that is not possible."""
    if grammar.kind == "json_object":
        return json.dumps({"answer": randomness.choice(words)}, ensure_ascii=False)
    if grammar.kind == "json_schema":
        try:
            schema = json.loads(grammar.source)
        except ValueError as error:
            raise BackendError(f"The JSON schema is not valid JSON: {error}.") from error
        value = write_value(schema, randomness, words)
        return json.dumps(value, ensure_ascii=False)
    if grammar.kind == "regex":
        return _Regex(randomness).write(grammar.source)
    raise BackendError(
        "The fake backend cannot follow Lark grammars; use a JSON schema or a regex."
    )


_CALL_OR = "start: call | "


def call_or(grammar: Grammar) -> Grammar:
    """Calls of tools, or what `grammar` describes."""
    return Grammar("lark", f"{_CALL_OR}{grammar.kind} {grammar.source}")


def otherwise(grammar: Grammar | None) -> Grammar | None:
    """What `grammar` allows in place of calls, if it allows calls."""
    if grammar is None or grammar.kind != "lark" or not grammar.source.startswith(_CALL_OR):
        return None
    kind, _, source = grammar.source.removeprefix(_CALL_OR).partition(" ")
    return Grammar(cast("GrammarKind", kind), source)


def write_value(schema: Any, randomness: random.Random, words: Sequence[str]) -> Any:
    """A value that follows the JSON schema. Raises BackendError."""
    return _Schema(schema, randomness, words).value(schema, 0)


class _Schema:
    def __init__(self, root: Any, randomness: random.Random, words: Sequence[str]) -> None:
        self._root = root
        self._randomness = randomness
        self._words = words

    def value(self, schema: Any, depth: int) -> Any:
        if depth > _MOST_DEPTH:
            raise BackendError("The JSON schema refers to itself without end.")
        if schema is True:
            schema = {}
        if not isinstance(schema, dict):
            raise BackendError(f"The JSON schema holds {json.dumps(schema)} where a schema is due.")
        if "$ref" in schema:
            return self.value(self._resolve(schema["$ref"]), depth + 1)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return self._randomness.choice(schema["enum"])
        for key in ("anyOf", "oneOf"):
            if schema.get(key):
                return self.value(schema[key][-1], depth + 1)
        if "allOf" in schema:
            merged = {k: v for part in schema["allOf"] for k, v in part.items()}
            return self.value(merged, depth + 1)
        return self._typed(schema, depth)

    def _resolve(self, reference: str) -> Any:
        target = self._root
        for part in reference.removeprefix("#").strip("/").split("/"):
            if part:
                if not isinstance(target, dict) or part not in target:
                    raise BackendError(f"The JSON schema has no {reference}.")
                target = target[part]
        return target

    def _typed(self, schema: dict[str, Any], depth: int) -> Any:
        kind = schema.get("type") or ("object" if "properties" in schema else "string")
        if isinstance(kind, list):
            kind = kind[0]
        low = schema.get("minimum", schema.get("exclusiveMinimum", -1) + 1)
        match kind:
            case "object":
                properties = schema.get("properties", {})
                required = schema.get("required", list(properties))
                return {name: self.value(properties.get(name, {}), depth + 1) for name in required}
            case "array":
                count = schema.get("minItems", min(1, schema.get("maxItems", 1)))
                return [self.value(schema.get("items", {}), depth + 1) for _ in range(count)]
            case "string":
                return self._string(schema)
            case "integer" | "number":
                return self._randomness.randint(int(low), int(max(low, schema.get("maximum", 99))))
            case "boolean":
                return self._randomness.random() < 0.5
            case "null":
                return None
        raise BackendError(f"The JSON schema names the unknown type {kind!r}.")

    def _string(self, schema: dict[str, Any]) -> str:
        if "pattern" in schema:
            return _Regex(self._randomness).write(schema["pattern"].strip("^$"))
        if schema.get("format") in _FORMATS:
            return _FORMATS[schema["format"]]
        text = self._randomness.choice(self._words).ljust(schema.get("minLength", 0), "x")
        return text[: schema.get("maxLength", len(text))]


class _Regex:
    """Walks Python's parse tree of a pattern, and writes the shortest match."""

    def __init__(self, randomness: random.Random) -> None:
        self._randomness = randomness
        self._parser: Any = importlib.import_module("re._parser")

    def write(self, pattern: str) -> str:
        try:
            text = "".join(map(self._part, self._parser.parse(pattern)))
        except re.error as error:
            raise BackendError(f"The regular expression cannot be read: {error}.") from error
        if re.fullmatch(pattern, text) is None:
            raise BackendError("The fake backend cannot follow this regular expression.")
        return text

    def _part(self, part: tuple[Any, Any]) -> str:
        operation, argument = part
        match str(operation):
            case "LITERAL":
                return chr(argument)
            case "IN":
                return self._one_of(argument)
            case "ANY":
                return "x"
            case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
                least, most, inner = argument
                times = min(max(least, 1), most)
                return "".join("".join(map(self._part, inner)) for _ in range(times))
            case "SUBPATTERN":
                return "".join(map(self._part, argument[-1]))
            case "BRANCH":
                return "".join(map(self._part, self._randomness.choice(argument[1])))
            case "AT":
                return ""
        raise BackendError("The fake backend cannot follow this regular expression.")

    def _one_of(self, choices: list[tuple[Any, Any]]) -> str:
        operation, argument = self._randomness.choice(choices)
        match str(operation):
            case "LITERAL":
                return chr(argument)
            case "RANGE":
                return chr(self._randomness.randint(*argument))
            case "CATEGORY":
                kinds = {"CATEGORY_DIGIT": "7", "CATEGORY_SPACE": " ", "CATEGORY_WORD": "w"}
                return kinds.get(str(argument), "x")
        return "-"  # a negated set: most of them allow it, and the caller looks
