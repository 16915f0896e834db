"""What the parameters of a tool may be, for notations that write each of them by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

Schema = Any  # an object, or true or false

ANY = "any"
"""The type of a value of which a schema says no type, or more than one at a time."""

_NOTES = frozenset(
    (
        *("title", "description", "default", "example", "examples", "deprecated", "readOnly"),
        *("writeOnly", "$comment", "$schema", "$id", "$defs", "definitions"),
    )
)
_JOINT = frozenset(("$ref", "anyOf", "oneOf", "allOf"))
# Of an object, what a grammar of its parameters one after the other cannot say.
_OF_ALL = ("anyOf", "oneOf", "allOf", "patternProperties", "minProperties", "maxProperties")
_DEEPEST = 32  # references to references


class Alternative(NamedTuple):
    """One type that a value may have, in JSON schema's words or `ANY`, and what else is asked of it."""

    type: str
    schema: dict[str, Any]


class Parameter(NamedTuple):
    name: str
    schema: Schema
    required: bool


def parameters(schema: Schema, root: Mapping[str, Any]) -> list[Parameter]:
    """Those of an object, as its schema has them. Raises ValueError where it says more."""
    objects = [schema] if not _said(schema) else []
    objects += [one.schema for one in alternatives(schema, root) if one.type in ("object", ANY)]
    if len(objects) != 1:
        raise ValueError("parameters that are not one object are not supported")
    [said] = objects
    if found := set(_OF_ALL) & said.keys():
        raise ValueError(f'"{min(found)}" beside properties is not supported')
    properties, required = said.get("properties") or {}, said.get("required") or []
    others = said.get("additionalProperties", {})
    if not properties and "additionalProperties" in said and others is not False:
        raise ValueError("properties of any name are not supported")
    missing = {name: others for name in required if name not in properties}
    return [
        Parameter(name, one, name in required) for name, one in {**properties, **missing}.items()
    ]


def alternatives(schema: Schema, root: Mapping[str, Any], depth: int = 0) -> list[Alternative]:
    """What a value may be. Raises ValueError for a reference that leads nowhere."""
    if schema is False:
        return []
    said = _said(schema)
    if said.pop("nullable", False) is True:  # OpenAPI's
        return [*alternatives(said, root, depth), Alternative("null", {"type": "null"})]
    if len(said) == 1 and _JOINT & said.keys() and depth < _DEEPEST:
        [(word, value)] = said.items()
        if word == "$ref":
            return alternatives(_referred(value, root), root, depth + 1)
        if word != "allOf" or len(value) == 1:
            return [found for one in value for found in alternatives(one, root, depth + 1)]
    if _JOINT & said.keys():
        return [Alternative(ANY, said)]
    types = said.get("type", [])
    types = [types] if isinstance(types, str) else types
    values = [said["const"]] if "const" in said else said.get("enum")
    if isinstance(values, list):
        return list(_of_values(values, types))
    if not types and said.keys() & {"properties", "required", "additionalProperties"}:
        types = ["object"]
    return [Alternative(one, {**said, "type": one}) for one in types] or [Alternative(ANY, said)]


def readable(tools: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The tools with the type of each parameter said as mlx-lm's parsers read it: as one plain `type`,
    which keeps text and JSON apart. Without it some take "007" for 7, and others [1] for a text."""
    return [_readable(tool) for tool in tools]


def nullable_texts(tools: Sequence[Mapping[str, Any]], name: str) -> set[str]:
    """The parameters of that tool which are a string or null."""
    found: set[str] = set()
    for tool in tools:
        function = tool.get("function") or tool
        if function.get("name") == name:
            schema = function.get("parameters")
            for key, one in _properties(schema).items():
                if {"string", "null"} == _types(one, schema):
                    found.add(key)
    return found


def _readable(tool: Mapping[str, Any]) -> dict[str, Any]:
    function = dict(tool.get("function") or tool)
    schema = function.get("parameters")
    plain = {name: _plain(one, schema) for name, one in _properties(schema).items()}
    function["parameters"] = {"type": "object", "properties": plain}
    return {"type": "function", "function": function}


def _plain(schema: Schema, root: Any) -> dict[str, Any]:
    if isinstance(schema, dict) and isinstance(schema.get("type"), str):
        return schema
    types = _types(schema, root) - {"null"}
    return {"type": types.pop() if len(types) == 1 and ANY not in types else "object"}


def _types(schema: Schema, root: Any) -> set[str]:
    try:
        return {one.type for one in alternatives(schema, root)}
    except ValueError:
        return {ANY}


def _properties(schema: Schema) -> dict[str, Any]:
    if not isinstance(schema, dict):
        return {}
    try:
        return {one.name: one.schema for one in parameters(schema, schema)}
    except ValueError:
        found = schema.get("properties")
        return found if isinstance(found, dict) else {}


def _said(schema: Schema) -> dict[str, Any]:
    """What it asks for."""
    if not isinstance(schema, dict):
        return {}
    return {word: value for word, value in schema.items() if word not in _NOTES}


def _referred(reference: Any, root: Any) -> Schema:
    found: Any = root
    for part in str(reference).removeprefix("#").strip("/").split("/"):
        key = part.replace("~1", "/").replace("~0", "~")
        if not isinstance(found, Mapping) or key not in found:
            raise ValueError(f'"$ref": "{reference}" leads nowhere')
        found = found[key]
    return found


def _of_values(values: Sequence[Any], types: Sequence[str]) -> Iterator[Alternative]:
    by_type: dict[str, list[Any]] = {}
    for value in values:
        by_type.setdefault(_type_of(value), []).append(value)
    for kind, some in by_type.items():
        if not types or kind in types or (kind == "integer" and "number" in types):
            yield Alternative(kind, {"enum": some})


def _type_of(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
    return "object" if isinstance(value, Mapping) else "array"
