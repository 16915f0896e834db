"""A tokenizer without a vocabulary: a word is a token, and an answer ends with one more."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

from backends.base import Examination, Piece, RenderedExample, SplitTokens
from backends.fake.examples import tokens

_RENDERED = 3


def examine(data: Path, max_seq_length: int, sample: int) -> Examination:
    """See `backends.base.Backend.examine`."""
    splits: dict[str, SplitTokens] = {}
    rendered: list[RenderedExample] = []
    for split in ("train", "valid", "test"):
        path = data / f"{split}.jsonl"
        if path.is_file():
            lines = path.read_text(encoding="utf-8").split("\n")[:-1]
            splits[split], shown = _split(split, lines, max_seq_length, sample)
            rendered += shown
    return Examination(splits, rendered)


def _split(
    split: str, lines: list[str], limit: int, sample: int
) -> tuple[SplitTokens, list[RenderedExample]]:
    every = max(1, -(-len(lines) // sample)) if sample else 1
    numbers = range(1, len(lines) + 1, every)
    words = [tokens(json.loads(lines[number - 1])) for number in numbers]
    lengths = [len(asked) + len(said) for asked, said in words]
    longest = lengths.index(max(lengths)) if lengths else 0
    counted = SplitTokens(
        total=len(lines),
        examined=len(words),
        lengths=lengths,
        trained=sum(max(0, min(len(a) + len(b), limit) - len(a)) for a, b in words),
        truncated=sum(length > limit for length in lengths),
        dropped=sum(len(asked) >= min(len(asked) + len(said), limit) for asked, said in words),
        longest_line=numbers[longest] if lengths else 0,
        wrong=0,
        bad=[],
    )
    shown = sorted({*range(min(_RENDERED, len(words))), *([longest] if lengths else [])})
    return counted, [_render(split, numbers[at], words[at], limit) for at in shown]


def _render(
    split: str, number: int, words: tuple[list[str], list[str]], limit: int
) -> RenderedExample:
    asked, said = words
    every = [*asked, *said]
    bounds = sorted({0, len(asked), min(limit, len(every)), len(every)})
    pieces = [
        Piece(" ".join(every[a:b]) + " ", a >= len(asked), a >= limit, b - a)
        for a, b in itertools.pairwise(bounds)
    ]
    return RenderedExample(split, number, len(every), len(asked), pieces)
