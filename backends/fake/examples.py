"""What the fake backend reads of training data: the lines, checked as a real one would."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.base import BadExample


@dataclass
class Line:
    """An example: its text, its number in the file from 1, and its words."""

    number: int
    text: str
    asked: str
    said: str


def read_split(data: Path, split: str, objective: str) -> list[Line]:
    """The examples of a split, none if its file is absent. Raises BadExample."""
    path = data / f"{split}.jsonl"
    if not path.is_file():
        return []
    lines = enumerate(path.read_text(encoding="utf-8").split("\n"), start=1)
    return [_line(split, number, text, objective) for number, text in lines if text.strip()]


def _line(split: str, number: int, text: str, objective: str) -> Line:
    try:
        value = json.loads(text)
        pair = isinstance(value, dict) and ("chosen" in value or "rejected" in value)
        if pair != (objective != "sft"):
            raise BadExample(
                f"{split}.jsonl, line {number}: "
                + (
                    "has a chosen and a rejected answer; take the objective dpo or orpo."
                    if pair
                    else 'needs "prompt", "chosen" and "rejected"; take the objective sft without.'
                )
            )
        return Line(number, text, *_words(value))
    except (ValueError, KeyError, TypeError, IndexError):
        raise BadExample(
            f"{split}.jsonl, line {number}: an example is a JSON object with 'messages', "
            "'prompt' and 'completion', 'text', or 'prompt', 'chosen' and 'rejected'."
        ) from None


def _words(value: dict[str, Any]) -> tuple[str, str]:
    """(request, answer). Raises KeyError, TypeError and IndexError."""
    if "text" in value:
        return "", str(value["text"])
    request: Any = value.get("prompt", value.get("messages"))
    if "chosen" in value:
        return _said(request), _said((value["chosen"], value["rejected"])[0])
    if "messages" in value:
        return _said(request[:-1]), _said(request)
    return _said(request), str(value.get("completion", ""))


def _said(value: Any) -> str:
    """A text, or the last of some messages."""
    return value if isinstance(value, str) else str(value[-1]["content"])
