"""A text and its label in two columns, under the names that classification sets give them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from registry.datasets.dialects.parts import check_text
from registry.datasets.files.values import BadLine, Row
from registry.datasets.formats import Format

TEXTS = (
    *("text", "sentence", "review", "review_text", "utterance", "tweet", "comment", "message"),
    *("content", "document", "body", "headline", "title", "query", "question", "prompt", "input"),
)
NAMES = ("label_text", "label_name", "label_names", "category_name", "class_name", "intent_name")
"""Columns that name what a numeric label beside them means."""
LABELS = (
    *("label", "labels", "category", "intent", "class", "target", "sentiment", "topic"),
    *("label_id", "class_index"),
)
LONGEST = 100
"""Characters of a label: what is longer is an answer in words."""


def columns_of(names: Iterable[str]) -> tuple[str, ...]:
    """The columns of the text, of the label and, where numbers are named beside it, of its number;
    () for names that are not a text's and a label's. Case and spaces do not matter."""
    own = {name.strip().lower().replace(" ", "_"): name for name in names}
    text = [own[name] for name in TEXTS if name in own]
    named = [own[name] for name in NAMES if name in own]
    label = [own[name] for name in LABELS if name in own]
    if not text or not (named or label):
        return ()
    return (text[0], *named[:1], *label[:1])


def is_label(value: Any) -> bool:
    """Whether a value can be a label: a number, or a short text on one line."""
    if isinstance(value, str):
        return len(value) <= LONGEST and "\n" not in value.strip()
    return isinstance(value, bool | int | float | list)


def labelled(row: Row, columns: tuple[str, ...]) -> tuple[Format, Row]:
    """The text as the prompt, its label as the completion. Raises BadLine."""
    text, label = columns[:2]
    check_text(row, text)
    return "completions", {"prompt": row[text], "completion": _written(row[label], label)}


def _written(value: Any, column: str) -> str:
    """The label as a model says it: 1.0, which CSV files of numbers have, is 1."""
    if isinstance(value, list):
        if len(value) != 1:
            raise BadLine(
                f'"{column}" holds {len(value)} labels; give each row one, or make a row for each.'
            )
        value = value[0]
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int | float):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise BadLine(f'"{column}" must be a label: a number or a non-empty text.')
    return value.strip()
