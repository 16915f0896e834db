"""Calls of tools."""

from __future__ import annotations

import json

import pytest

from tests.registry.datasets.public_rows.rows import (
    SYSTEM,
    Taken,
    call,
    chat,
    check_taken,
    said,
    user,
)

RATE = {
    "name": "get_rate",
    "description": "Get the exchange rate",
    "parameters": {"type": "object", "properties": {"base": {"type": "string"}}},
}
SEARCH = {
    "name": "search",
    "description": "d",
    "parameters": {"at": {"type": "str", "default": ""}},
}

TAKEN: dict[str, Taken] = {
    "glaive-function-calling": (
        {
            "system": "SYSTEM: You have functions. Use them if required -\n"
            + json.dumps(RATE, indent=2),
            "chat": "USER: q\n\n\nASSISTANT: <functioncall> "
            '{"name": "get_rate", "arguments": \'{"base": "USD"}\'} <|endoftext|>\n\n\n'
            'FUNCTION RESPONSE: {"rate": 0.8}\n\n\nASSISTANT: a <|endoftext|>\n\n\n',
        },
        "tools",
        {
            "messages": [
                {"role": "system", "content": "You have functions. Use them if required -"},
                user("q"),
                said("", tool_calls=[call(1, "get_rate", base="USD")]),
                {
                    "role": "tool",
                    "content": '{"rate": 0.8}',
                    "tool_call_id": "call_1",
                    "name": "get_rate",
                },
                said("a"),
            ],
            "tools": [{"type": "function", "function": RATE}],
        },
        [],
    ),
    "xlam-function-calling": (
        {
            "id": 3,
            "query": "q",
            "answers": json.dumps([{"name": "search", "arguments": {"at": "Lima"}}] * 2),
            "tools": json.dumps([SEARCH]),
        },
        "tools",
        {
            "messages": [
                user("q"),
                said("", tool_calls=[call(n, "search", at="Lima") for n in (1, 2)]),
            ],
            "tools": [
                {
                    "type": "function",
                    "function": {
                        **SEARCH,
                        "parameters": {"type": "object", "properties": SEARCH["parameters"]},
                    },
                }
            ],
        },
        ["id"],
    ),
    "toolace": (
        {
            "system": "s",
            "conversations": [
                {"from": "user", "value": "q"},
                {"from": "assistant", "value": '[Search(at="Lima")]'},
                {"from": "tool", "value": "[]"},
                {"from": "assistant", "value": "a"},
            ],
        },
        "tools",
        chat(
            SYSTEM,
            user("q"),
            said('[Search(at="Lima")]'),
            {"role": "tool", "content": "[]"},
            said("a"),
        ),
        [],
    ),
    "ms-swift": (
        chat(
            user("q"),
            {"role": "tool_call", "content": '{"name": "look", "arguments": {"at": "Lima"}}'},
            {"role": "tool_response", "content": "Sun"},
            said("a", loss=True),
        ),
        "tools",
        chat(
            user("q"),
            said("", tool_calls=[call(1, "look", at="Lima")]),
            {"role": "tool", "content": "Sun", "tool_call_id": "call_1", "name": "look"},
            said("a", weight=1),
        ),
        [],
    ),
}


@pytest.mark.parametrize("name", TAKEN)
def test_a_row_is_taken_for_what_it_means(name: str) -> None:
    check_taken(TAKEN[name])
