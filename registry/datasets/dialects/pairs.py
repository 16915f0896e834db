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
        answer = _answer(row, answered, unused)
        before = _before(row)
        example = {"prompt": with_context(row, asked, context), "completion": answer}
        if before:
            return finished({}, [*before, *lifted(example)["messages"]], [])
        same = all(row.get(key) is value for key, value in example.items())
        return "completions", row if same else example

    return read


def is_answers(value: Any) -> bool:
    """Whether it is SQuAD's answers: an object with a list of texts."""
    return isinstance(value, dict) and isinstance(value.get("text"), list)


def _answer(row: Row, key: str, unused: Unused) -> str:
    """The answer, or the first of SQuAD's. Raises BadLine."""
    value = row[key]
    if is_answers(value):
        unused.note(value, frozenset({"text"}), f"{key}.")
        texts: list[Any] = value["text"]
        if not texts:
            raise BadLine(
                f'"{key}" holds none; leave out questions without an answer, or write what the '
                "model should say to them."
            )
        if any(text != texts[0] for text in texts):
            unused.add(f"{key}.text after the first")
        value = texts[0]
    check_text({key: value}, key)
    answer: str = value
    return answer


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
    texts = [text for key in context for text in _context(row, key)]
    return "\n\n".join([row[asked], *texts]) if texts else row[asked]


def _context(row: Row, key: str) -> list[str]:
    """The texts of a context, one or several. Raises BadLine."""
    value = row.get(key)
    texts = [] if value is None else value if isinstance(value, list) else [value]
    if not all(isinstance(text, str) for text in texts):
        raise BadLine(f'"{key}" must be a text.')
    return [text for text in texts if text.strip()]
