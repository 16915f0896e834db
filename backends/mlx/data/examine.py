"""A data set through a model's tokenizer: lengths, cuts, and the loss mask of single examples.

Every example goes through `backends.mlx.data.examples`, as in training, so what is shown is
what is learned. Only the tokenizer is loaded, never the weights.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from backends.base import (
    Examination,
    Learn,
    Piece,
    RenderedExample,
    SplitTokens,
    TrainingConfig,
)
from backends.examples import conversation, is_labelled, judged, reason
from backends.mlx import plain
from backends.mlx.data.examples import Example, cut, example_of
from backends.mlx.data.tokenizing import open_tokenizer

_SPLITS = ("train", "valid", "test")
_BAD = 20  # examples that cannot be used, named per split
_RENDERED = 3  # of each split, besides its longest
_PIECES = 3000  # tokens of a rendered example
LEARN: Learn = TrainingConfig().learn  # what a job learns by default


def examine(base: Path, data: Path, max_seq_length: int, sample: int) -> Examination:
    """See `backends.base.Backend.examine`."""
    tokenizer = open_tokenizer(base)
    splits: dict[str, SplitTokens] = {}
    rendered: list[RenderedExample] = []
    for split in _SPLITS:
        path = data / f"{split}.jsonl"
        if path.is_file():
            splits[split], shown = _examine(path, tokenizer, max_seq_length, sample)
            rendered += shown
    return Examination(splits, rendered)


def _examine(
    path: Path, tokenizer: Any, limit: int, sample: int
) -> tuple[SplitTokens, list[RenderedExample]]:
    with path.open("rb") as file:
        total = sum(1 for _ in file)
    every = max(1, -(-total // sample)) if sample else 1
    lengths: list[int] = []
    bad: list[str] = []
    truncated = dropped = wrong = trained = typed = 0
    notes: Counter[str] = Counter()
    first: list[tuple[int, Example]] = []
    longest: tuple[int, Example] | None = None
    for number, line in _lines(path, every):
        try:
            value = json.loads(line)
            learn = LEARN
            if isinstance(value, dict) and ("chosen" in value or is_labelled(value)):
                (value, _), *_ = judged(value)
                learn = "last_answer"
            example = example_of(value, tokenizer, learn)
        except (ValueError, TypeError, KeyError) as error:
            wrong += 1
            if len(bad) < _BAD:
                bad.append(f"{path.name} line {number}: {reason(error)}.")
            continue
        tokens = len(example.tokens)
        lengths.append(tokens)
        truncated += tokens > limit
        kept = cut(example, limit)
        dropped += kept is None
        trained += kept.judged if kept else 0
        notes.update(example.notes)
        typed += sum(bool(plain.typed_in(message, tokenizer)) for message in _messages(value))
        if len(first) < _RENDERED:
            first.append((number, example))
        if longest is None or tokens > len(longest[1].tokens):
            longest = (number, example)
    shown = first + ([longest] if longest and longest[0] not in [n for n, _ in first] else [])
    return (
        SplitTokens(
            total=total,
            examined=len(lengths) + wrong,
            lengths=lengths,
            trained=trained,
            truncated=truncated,
            dropped=dropped,
            longest_line=longest[0] if longest else 0,
            wrong=wrong,
            bad=bad,
            notes=dict(notes),
            typed=typed,
        ),
        [_render(path.stem, n, example, tokenizer, limit) for n, example in shown],
    )


def _messages(value: Any) -> list[dict[str, Any]]:
    messages = conversation(value)
    return [] if isinstance(messages, str) else messages


def _lines(path: Path, every: int) -> Iterator[tuple[int, str]]:
    """Every `every`-th line with its number, from the first one on."""
    with path.open(encoding="utf-8", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            if (number - 1) % every == 0:
                yield number, line


def _render(
    split: str, number: int, example: Example, tokenizer: Any, limit: int
) -> RenderedExample:
    """Runs of equal tokens, decoded run by run, so that no character is split inside one."""
    tokens = example.tokens[:_PIECES]
    edges = {0, limit, *itertools.chain(*example.learned)}
    bounds = sorted({min(edge, len(tokens)) for edge in (*edges, len(tokens))})
    pieces = [
        Piece(
            text=tokenizer.decode(tokens[a:b]),
            trained=any(start <= a < end for start, end in example.learned),
            cut=a >= limit,
            tokens=b - a,
        )
        for a, b in itertools.pairwise(bounds)
    ]
    return RenderedExample(split, number, len(example.tokens), example.start, pieces)
