"""What is recorded of an agent becomes a session that says nothing of the machine."""

import json
from pathlib import Path

import pytest

from tests.inference.clients.recorder import session, shortened

pytestmark = pytest.mark.any_database


def test_what_all_requests_have_is_kept_once(tmp_path: Path) -> None:
    def keep(number: int, path: str, **body: object) -> None:
        (tmp_path / f"{number:03}.json").write_text(json.dumps({"path": path, "body": body}))

    keep(0, "/v1/messages", messages=["title"])
    keep(1, "/v1/messages", tools=["write"], messages=["one"])
    keep(2, "/v1/messages", tools=["write"], messages=["one", "two"])
    made = session(tmp_path, "/v1/messages", "Agent 1.0", "messages", ["call", "answer"])
    assert made["common"] == {"tools": ["write"]}
    assert made["steps"] == [
        {"wanted": "call", "request": {"messages": ["one"]}},
        {"wanted": "answer", "request": {"messages": ["one", "two"]}},
    ]


def test_long_texts_and_places_are_taken_out() -> None:
    told = {
        "text": 100 * "a",
        "command": 100 * "a",
        "path": "/home/bea/plans/note.txt and /Users/bea/x-1/y",
        "metadata": {"user_id": "ada"},
    }
    assert shortened(told) == {
        "text": f"{79 * 'a'}…",
        "command": 100 * "a",
        "path": "/home/ada/garden/note.txt and /home/ada/garden",
        "metadata": {},
    }
