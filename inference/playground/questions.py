"""A question that a version was made for: a held-out example of its own data set, with its system
prompt, its tools and the shape of its answers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from backends.scorers import NoAnswer, question
from backends.thoughts import words_of
from registry.datasets.snapshots import read_examples
from registry.errors import HubError
from registry.models import Dataset, ModelVersion

_LOOKED_AT = 10  # held-out examples, of which the shortest is taken
SHAPED_BY = 100  # answers that a schema is made of
_MOST_FIELDS = 60  # an object with more of them has keys that are data
_WITHOUT = "Write your prompt here."


@dataclass(frozen=True)
class Asked:
    """`messages` and `tools` as OpenAI's API takes them; `schema` describes every answer where all of
    them are JSON. `split` and `line` say which example it is; empty and 0 when it is none."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] = field(default_factory=list)
    schema: dict[str, Any] | None = None
    split: str = ""
    line: int = 0


def asked_of(version: ModelVersion) -> Asked:
    """The shortest of the first held-out examples of the version's data set; without a data set here
    a prompt that scoring kept, or a place for one."""
    dataset = version.dataset
    if dataset is not None:
        for split in ("test", "valid", "train"):
            found = _shortest(dataset, split, version.params.get("thoughts") or "kept")
            if found is not None:
                schema = None if version.answers_with else _schema(dataset)
                line, messages, tools = found
                return Asked(messages, tools, schema, split, line)
    kept = version.evaluation.get("samples") or [{}]
    return Asked([{"role": "user", "content": kept[0].get("prompt") or _WITHOUT}])


type _Found = tuple[int, list[dict[str, Any]], list[dict[str, Any]]]


def _shortest(dataset: Dataset, split: str, thoughts: Any) -> _Found | None:
    found: list[_Found] = []
    for line, row in enumerate(_rows(dataset, split, _LOOKED_AT), start=1):
        try:
            one = question(_with_a_text(row), thoughts)
        except (NoAnswer, KeyError, TypeError):
            if not (text := row.get("text")):
                continue
            start = " ".join(str(text).split()[:12])
            found.append((line, [{"role": "user", "content": start}], []))
        else:
            found.append((line, _as_sent(one.messages), list(one.tools or [])))
    return min(found, key=lambda one: len(json.dumps(one[1])), default=None)


def _with_a_text(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """The example up to its last answer, which becomes a text: a call of a tool is answered alike."""
    messages = row.get("messages")
    if not isinstance(messages, list):
        return row
    answers = [at for at, turn in enumerate(messages) if turn.get("role") == "assistant"]
    if not answers or not answers[-1]:
        return row
    return {**row, "messages": [*messages[: answers[-1]], {"role": "assistant", "content": "."}]}


def _as_sent(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """As OpenAI's API takes them: the arguments of calls are texts, and each call has an id that its
    result names."""
    turns: list[dict[str, Any]] = []
    waiting: list[str] = []  # ids of calls that have no result yet
    for message in messages:
        turn = dict(message)
        if calls := turn.get("tool_calls"):
            turn["tool_calls"] = [_call(call, len(turns), at) for at, call in enumerate(calls)]
            waiting = [call["id"] for call in turn["tool_calls"]]
        if turn["role"] == "tool":
            turn["tool_call_id"] = turn.get("tool_call_id") or (waiting or ["call_0_0"])[0]
            waiting = [one for one in waiting if one != turn["tool_call_id"]]
        turns.append(turn)
    return turns


def _call(call: Mapping[str, Any], turn: int, at: int) -> dict[str, Any]:
    function = dict(call["function"])
    if not isinstance(function.get("arguments", ""), str):
        function["arguments"] = json.dumps(function["arguments"], ensure_ascii=False)
    return {"id": call.get("id") or f"call_{turn}_{at}", "type": "function", "function": function}


def _rows(dataset: Dataset, split: str, most: int) -> list[dict[str, Any]]:
    if not dataset.splits.get(split):
        return []
    try:
        return read_examples(dataset, split, limit=most)
    except (HubError, OSError, ValueError):
        return []  # the data set's own page says what is wrong with it


# ------------------------------------------------------------------------ shape of answers


def _schema(dataset: Dataset) -> dict[str, Any] | None:
    """What the first answers of the data set have in common, where each is a JSON object."""
    answers = []
    for row in _rows(dataset, "train", SHAPED_BY):
        try:
            answers.append(json.loads(words_of(question(row).expected)))
        except (NoAnswer, KeyError, TypeError, ValueError, RecursionError):
            return None
    if not answers or not all(isinstance(answer, dict) for answer in answers):
        return None
    found = shape(answers)
    return found if len(list(_fields(found))) <= _MOST_FIELDS else None


def _fields(schema: Mapping[str, Any]) -> Iterator[str]:
    for name, inner in schema.get("properties", {}).items():
        yield name
        yield from _fields(inner)
    if "items" in schema:
        yield from _fields(schema["items"])


_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", dict: "object"}
_TYPES |= {list: "array", type(None): "null"}


def shape(values: Sequence[Any]) -> dict[str, Any]:
    """A JSON schema that all `values`, read from JSON, keep: their types, the fields of objects (those
    that all have are required) and the items of arrays. It forbids no other field."""
    types = dict.fromkeys(_TYPES[type(value)] for value in values)
    if {"integer", "number"} <= types.keys():
        del types["integer"]
    schema: dict[str, Any] = {}
    if types:
        schema["type"] = next(iter(types)) if len(types) == 1 else list(types)
    if objects := [value for value in values if isinstance(value, dict)]:
        names = dict.fromkeys(name for value in objects for name in value)
        schema["properties"] = {
            name: shape([value[name] for value in objects if name in value]) for name in names
        }
        schema["required"] = [name for name in names if all(name in value for value in objects)]
    if items := [item for value in values if isinstance(value, list) for item in value]:
        schema["items"] = shape(items)
    return schema
