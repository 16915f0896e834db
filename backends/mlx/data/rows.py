"""Single rows through a model's tokenizer: what each of them measures, and one token for token.

Every row goes through `backends.mlx.data.examples`, as in training. Only the tokenizer is loaded.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from backends.base import (
    MEASURED,
    BadExample,
    Piece,
    RenderedExample,
    RenderedRow,
    RowFlag,
)
from backends.examples import conversation, is_labelled, judged, reason
from backends.litter import tidy
from backends.mlx import plain
from backends.mlx.data.examine import LEARN
from backends.mlx.data.examples import Example, cut, example_of
from backends.mlx.data.tokenizing import open_tokenizer

_SHOWN = 6_000  # tokens of a row
_JOINED = 8  # tokens that may make up one character
_BEFORE = 4  # tokens by which a tokenizer knows whether a space comes first
_HALF = "\ufffd"
_REFUSED = (ValueError, TypeError, KeyError)


def measure(base: Path, data: Path, max_seq_length: int, target: Path) -> None:
    """See `backends.base.Backend.measure`."""
    tokenizer = open_tokenizer(base)
    for path in tidy(data.glob("*.jsonl")):
        with (
            path.open(encoding="utf-8", newline="\n") as lines,
            (target / f"{path.stem}.measured").open("wb") as file,
        ):
            for line in lines:
                file.write(MEASURED.pack(*_measured(line, tokenizer, max_seq_length)))


def render(base: Path, file: Path, offset: int, max_seq_length: int) -> RenderedRow:
    """See `backends.base.Backend.render`."""
    tokenizer = open_tokenizer(base)
    with file.open("rb") as lines:
        lines.seek(offset)
        line = lines.readline().decode()
    try:
        examples = [example for _, example in _examples(line, tokenizer)]
    except _REFUSED as error:
        raise BadExample(f"This row cannot be trained on: {reason(error)}.") from None
    return RenderedRow(
        [_rendered(file.stem, example, tokenizer, max_seq_length) for example in examples],
        sorted({note for example in examples for note in example.notes}),
    )


def _examples(line: str, tokenizer: Any) -> list[tuple[dict[str, Any], Example]]:
    """What is learned from: the row itself, or each answer that is judged."""
    value = json.loads(line)
    if isinstance(value, dict) and ("chosen" in value or is_labelled(value)):
        return [(chat, example_of(chat, tokenizer, "last_answer")) for chat, _ in judged(value)]
    return [(value, example_of(value, tokenizer, LEARN))]


def _measured(line: str, tokenizer: Any, limit: int) -> tuple[int, RowFlag]:
    """Tokens of the longest of a row's examples, and what is true of any."""
    try:
        examples = _examples(line, tokenizer)
    except _REFUSED:
        return 0, RowFlag.WRONG
    flags = RowFlag(0)
    for value, example in examples:
        kept = cut(example, limit)
        flags |= RowFlag.CUT if example.length > limit else RowFlag(0)
        flags |= RowFlag.UNLEARNED if kept is None else RowFlag(0)
        if kept and not all(
            kept.tokens[end - 1] in tokenizer.eos_token_ids for _, end in kept.learned
        ):
            flags |= RowFlag.UNENDED
        messages = conversation(value)
        if not isinstance(messages, str) and any(plain.typed_in(m, tokenizer) for m in messages):
            flags |= RowFlag.TYPED
    return max(example.length for _, example in examples), flags


def _rendered(split: str, example: Example, tokenizer: Any, limit: int) -> RenderedExample:
    pieces = [
        Piece(
            text,
            trained=any(a <= start < b for a, b in example.learned),
            cut=start >= limit,
            tokens=count,
        )
        for text, start, count in _texts(example, tokenizer, limit)
    ]
    return RenderedExample(split, 0, example.length, example.start, pieces)


def _texts(example: Example, tokenizer: Any, limit: int) -> Iterator[tuple[str, int, int]]:
    """(text, first token, tokens) of each token, or of those that make up a character together."""
    tokens = example.tokens[:_SHOWN]
    edges = {limit, *(edge for span in example.learned for edge in span)}
    start = 0
    for end in range(1, len(tokens) + 1):
        before = tokens[max(0, start - _BEFORE) : start]
        known = tokenizer.decode(before) if before else ""
        text = tokenizer.decode([*before, *tokens[start:end]])[len(known) :]
        half = text.endswith(_HALF) and end - start < _JOINED and end < len(tokens)
        if not half or end in edges:
            yield text, start, end - start
            start = end
