"""JSON schemas as people write them, for llguidance, which refuses each keyword that it cannot enforce.

What asks for nothing is taken out (`uniqueItems: false`, a `format` that nobody defined), what other
dialects say is said in JSON schema's words (OpenAPI's `nullable`), and what remains and cannot be
enforced is refused by name and place.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

Schema = Any  # an object, or true or false

_ONE = ("items", "additionalProperties", "additionalItems")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems", "items")
_NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")

_ANYTHING: tuple[Any, ...] = (True, {})
_NOTHING_ASKED: dict[str, Callable[[Any], bool]] = {
    "uniqueItems": lambda value: value is False,
    "unevaluatedProperties": lambda value: value in _ANYTHING,
    "unevaluatedItems": lambda value: value in _ANYTHING,
    "propertyNames": lambda value: value in _ANYTHING,
    "not": lambda value: value is False,
    "dependencies": lambda value: value == {},
    "dependentRequired": lambda value: value == {},
    "dependentSchemas": lambda value: value == {},
    "minProperties": lambda value: value == 0,
    "format": lambda value: not _is_known({"type": "string", "format": value}),
    "$schema": lambda value: not _is_known({"$schema": value}),
}
_LONGEST_KNOWN = 200  # characters of a format or draft; what is longer is nobody's
_APPLICATORS = ("anyOf", "oneOf", "allOf", "$ref", "if", "dependentSchemas", "patternProperties")
_CANNOT = (
    *("uniqueItems", "contains", "minContains", "maxContains", "propertyNames", "not"),
    *("if", "then", "else", "dependencies", "dependentRequired", "dependentSchemas"),
    *("unevaluatedProperties", "unevaluatedItems", "$dynamicRef", "$recursiveRef"),
)
# "Not made of these characters alone", as pydantic writes Decimal: one other character is needed.
_NOT_ONLY = re.compile(r"^\^?\(\?!\^\[([^\]^\\]+)\]\*\$\)")


def enforceable(schema: Schema) -> Schema:
    """The same schema in words that llguidance knows. Raises ValueError for a keyword that cannot be
    enforced, with its place."""
    return _plain(schema, "")


def _plain(schema: Schema, place: str) -> Schema:
    if not isinstance(schema, dict):
        return schema
    plain = {
        name: value
        for name, value in schema.items()
        if not (name in _NOTHING_ASKED and _NOTHING_ASKED[name](value))
    }
    _leave_out_what_needs_another(plain)
    _close(plain)
    _exclude(plain)
    for name in _CANNOT:
        if name in plain:
            shown = json.dumps(plain[name], ensure_ascii=False)
            shown = f": {shown}" if len(shown) <= 20 else ""
            raise ValueError(f'"{name}"{shown} is not supported{place and f" at {place}"}')
    for name, value in plain.items():
        plain[name] = _inner(name, value, f"{place}.{name}" if place else name)
    return _nullable(_looking_behind(plain))


def _inner(name: str, value: Any, place: str) -> Any:
    """What stands under a keyword, with the schemas in it made plain."""
    if name in _LISTS and isinstance(value, list):
        return [_plain(one, f"{place}.{number}") for number, one in enumerate(value)]
    if name in _NAMED and isinstance(value, Mapping):
        return {key: _plain(one, f"{place}.{key}") for key, one in value.items()}
    return _plain(value, place) if name in _ONE else value


def _leave_out_what_needs_another(schema: dict[str, Any]) -> None:
    """`then` without `if`, `minContains` without `contains`: neither says anything."""
    if "if" not in schema or not {"then", "else"} & schema.keys():
        for name in ("if", "then", "else"):
            schema.pop(name, None)
    if "contains" not in schema or (schema.get("minContains") == 0 and "maxContains" not in schema):
        for name in ("contains", "minContains", "maxContains"):
            schema.pop(name, None)


def _close(schema: dict[str, Any]) -> None:
    """Where nothing else speaks of properties or items, the unevaluated ones are the additional ones."""
    if schema.keys() & set(_APPLICATORS):
        return
    if "unevaluatedProperties" in schema:
        value = schema.pop("unevaluatedProperties")
        schema.setdefault("additionalProperties", value)
    if "unevaluatedItems" in schema:
        value = schema.pop("unevaluatedItems")
        schema.setdefault("items", value)


def _exclude(schema: dict[str, Any]) -> None:
    """Bounds as draft 4 and OpenAPI 3.0 write them: `minimum: 0, exclusiveMinimum: true`."""
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(schema.get(exclusive), bool) and schema.pop(exclusive) and bound in schema:
            schema[exclusive] = schema.pop(bound)


def _looking_behind(schema: dict[str, Any]) -> dict[str, Any]:
    """Without the one kind of look-ahead that can be said as a second pattern."""
    pattern = schema.get("pattern")
    if not isinstance(pattern, str) or not (found := _NOT_ONLY.match(pattern)):
        return schema
    needed = {"pattern": f"[^{found[1]}]"}
    return {
        **schema,
        "pattern": "^" + pattern[found.end() :],
        "allOf": [*schema.get("allOf", []), needed],
    }


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    """OpenAPI 3.0's `nullable: true`."""
    if schema.pop("nullable", False) is not True:
        return schema
    whole: dict[str, Any] = {
        name: schema.pop(name) for name in ("$defs", "definitions") if name in schema
    }
    return {"anyOf": [schema, {"type": "null"}], **whole}


def _is_known(schema: dict[str, Any]) -> bool:
    text = json.dumps(schema)
    return len(text) <= _LONGEST_KNOWN and _is_valid(text)


@functools.lru_cache(maxsize=256)
def _is_valid(schema: str) -> bool:
    from llguidance import LLMatcher  # a training child reads chats, too, and needs no grammar

    return not LLMatcher.validate_grammar(LLMatcher.grammar_from_json_schema(schema))
