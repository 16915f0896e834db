"""A question and its answer in two columns, and what stands beside them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from registry.datasets.dialects.messages import finished, system_prompt
from registry.datasets.dialects.parts import Unused, check_text, decoded
from registry.datasets.files.values import BadLine, Row
from registry.datasets.formats import Format

CONTEXT = ("input", "context")
BESIDE = ("system", "system_prompt", "history")
_FALSE = (False, 0, "false", "0", "no")
_TRUE = (True, 1, "true", "1", "yes")


def pair(
    asked: str, answered: str, context: tuple[str, ...] = CONTEXT
) -> Callable[[Row, Unused], tuple[Format, Row]]:
    """Reads a question with its context, perhaps after a system prompt and earlier turns (then it
    is a chat)."""

    def read(row: Row, unused: Unused) -> tuple[Format, Row]:
        check_text(row, asked)
        check_text(row, answered)
        before = _before(row)
        example = {"prompt": with_context(row, asked, context), "completion": row[answered]}
        if before:
            return finished({}, [*before, *lifted(example)["messages"]], [])
        if (asked, answered) == ("prompt", "completion"):
            return "completions", row
        return "completions", example

    return read


def is_label(row: Row) -> bool:
    """Whether the row has a label that says good or bad."""
    return _meant(row.get("label")) in (*_FALSE, *_TRUE)


def is_good(label: Any) -> bool:
    """Whether a label says good."""
    return _meant(label) in _TRUE


def _meant(label: Any) -> Any:
    """A label as files of any kind have it; None for what is none."""
    if isinstance(label, str):
        return label.strip().lower()
    return label if isinstance(label, bool | int | float) else None


def lifted(example: Row) -> Row:
    """A prompt and its completion as a chat, which is learned in the same way."""
    return {
        "messages": [
            {"role": "user", "content": example["prompt"]},
            {"role": "assistant", "content": example["completion"]},
        ]
    }


def _before(row: Row) -> list[Row]:
    """The system prompt and the earlier turns, if any. Raises BadLine."""
    prompt = system_prompt(row)
    messages = [{"role": "system", "content": prompt}] if prompt else []
    history = row.get("history")
    if isinstance(history, str) and history.strip():
        history = decoded(history, "history")
    for turn in history or ():
        if (
            not isinstance(turn, list)
            or len(turn) != 2
            or not all(isinstance(text, str) for text in turn)
        ):
            raise BadLine('"history" must be a list of pairs: what was asked, what was answered.')
        messages.append({"role": "user", "content": turn[0]})
        messages.append({"role": "assistant", "content": turn[1]})
    return messages


def with_context(row: Row, asked: str, context: tuple[str, ...] = CONTEXT) -> str:
    """The question, and below it the texts that it is about. Raises BadLine."""
    return "\n\n".join([row[asked], *(text for key in context for text in _context(row, key))])


def _context(row: Row, key: str) -> list[str]:
    """The texts of a context, one or several. Raises BadLine."""
    value = row.get(key)
    texts = [] if value is None else value if isinstance(value, list) else [value]
    if not all(isinstance(text, str) for text in texts):
        raise BadLine(f'"{key}" must be a text.')
    return [text for text in texts if text.strip()]
