"""What the rows are made of, and how one is read."""

from __future__ import annotations

from typing import Any

from registry.datasets.dialects.canonical import canonical
from registry.datasets.dialects.parts import Unused

type Row = dict[str, Any]
type Taken = tuple[Row, str, Row, list[str]]
"""A row, the format that it is read as, the example that it means, and the columns that are not used."""


def user(text: str) -> Row:
    return {"role": "user", "content": text}


def said(text: str, **more: Any) -> Row:
    return {"role": "assistant", "content": text, **more}


def human(text: str, /, **more: Any) -> Row:
    return {"from": "human", "value": text, **more}


def gpt(text: str, /, **more: Any) -> Row:
    return {"from": "gpt", "value": text, **more}


def pair(prompt: str, completion: str) -> Row:
    return {"prompt": prompt, "completion": completion}


def chat(*messages: Row) -> Row:
    return {"messages": list(messages)}


def call(number: int, name: str, **arguments: Any) -> Row:
    function = {"name": name, "arguments": arguments}
    return {"id": f"call_{number}", "type": "function", "function": function}


SYSTEM = {"role": "system", "content": "s"}
CHAT = chat(user("q"), said("a"))


def check_taken(taken: Taken) -> None:
    row, format, example, unused = taken
    names = Unused()
    _, found, read = canonical(row, {}, names)
    assert (found, list(names)) == (format, unused)
    assert {key: read[key] for key in example} == example
    assert set(read) - set(example) <= set(row)  # the row as it is, byte for byte
