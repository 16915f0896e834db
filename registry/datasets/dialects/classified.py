"""A text and its class in columns, under the names that classification sets give them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from registry.datasets.dialects.parts import by_plain_name, check_text
from registry.datasets.files.values import BadLine, Row
from registry.datasets.formats import Format

TEXTS = (
    *("text", "sentence", "review", "review_text", "utterance", "tweet", "comment", "message"),
    *("content", "document", "body", "headline", "title", "query", "question", "prompt", "input"),
)
PAIRS = (
    *(("premise", "hypothesis"), ("sentence1", "sentence2"), ("sentence_1", "sentence_2")),
    *(("question1", "question2"), ("question", "sentence"), ("text1", "text2")),
    *(("text_a", "text_b"), ("sentence_a", "sentence_b"), ("text", "context")),
)
"""Two texts that a label says something of together."""
NAMES = ("label_text", "label_name", "label_names", "category_name", "class_name", "intent_name")
"""Columns that name what a numeric label beside them means."""
LABELS = (
    *("label", "labels", "category", "intent", "class", "target", "sentiment", "topic"),
    *("label_id", "class_index", "annotation"),
)
LONGEST = 100
"""Characters of a label: what is longer is an answer in words."""

_WHOLE = re.compile(r"([+-]?\d+)[.,]0+")
_MISSING = ("nan", "#n/a")


class Columns(NamedTuple):
    """The columns of the text or the two texts, of the label and, where numbers are named beside
    it, of its number."""

    texts: tuple[str, ...]
    label: str
    number: tuple[str, ...] = ()


def columns_of(names: Iterable[str]) -> Columns | None:
    """The columns of a text and its label; None for names that are not theirs. Case and spaces do
    not matter."""
    own = by_plain_name(names)
    named = [own[name] for name in NAMES if name in own]
    plain = [own[name] for name in LABELS if name in own]
    if not (named or plain):
        return None
    label, number = (named[0], tuple(plain[:1])) if named else (plain[0], ())
    for one, other in PAIRS:
        if one in own and other in own:
            return Columns((own[one], own[other]), label, number)
    text = next((own[name] for name in TEXTS if name in own), None)
    return Columns((text,), label, number) if text is not None else None


def can_be_label(value: Any) -> bool:
    """Whether a value can be a label: a number, or a short text on one line."""
    if isinstance(value, str):
        return len(value) <= LONGEST and "\n" not in value.strip()
    return isinstance(value, bool | int | float | list)


def classified(row: Row, columns: Columns) -> tuple[Format, Row]:
    """The text as the prompt, or both texts, and the label as the completion. Raises BadLine."""
    for text in columns.texts:
        check_text(row, text)
    prompt = "\n\n".join(row[text] for text in columns.texts)
    return "completions", {
        "prompt": prompt,
        "completion": _written(row[columns.label], columns.label),
    }


def _written(value: Any, column: str) -> str:
    """The label as a model says it: 1.0, which files of numbers have, is 1."""
    if isinstance(value, list):
        if len(value) != 1:
            raise BadLine(
                f'"{column}" holds {len(value)} labels; give each row one, or make a row for each.'
            )
        value = value[0]
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        raise BadLine(f'"{column}" must be a label: a number or a non-empty text.')
    label = value.strip()
    if label.lower() in _MISSING:
        raise BadLine(
            f'"{column}" is {label}, which stands for no label; leave the row out, or give it one.'
        )
    whole = _WHOLE.fullmatch(label)
    return whole[1] if whole else label
