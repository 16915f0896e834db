"""A tokenizer without a vocabulary: a word is a token, and an answer ends with one more."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

from backends.base import (
    MEASURED,
    Examination,
    Piece,
    RenderedExample,
    RenderedRow,
    RowFlag,
    SplitTokens,
    TrainingConfig,
)
from backends.examples import is_labelled, judged
from backends.fake.examples import Run, count_learned, notes, runs
from backends.litter import tidy

_RENDERED = 3
_LEARN = TrainingConfig().learn  # what a job learns by default


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
    values: list[dict[str, Any]] = [json.loads(lines[number - 1]) for number in numbers]
    examples = [runs(value, _LEARN) for value in values]
    lengths = [sum(len(words) for words, _ in example) for example in examples]
    learned = [count_learned(example, limit) for example in examples]
    longest = lengths.index(max(lengths)) if lengths else 0
    counted = SplitTokens(
        total=len(lines),
        examined=len(examples),
        lengths=lengths,
        trained=sum(learned),
        truncated=sum(length > limit for length in lengths),
        dropped=sum(count == 0 for count in learned),
        longest_line=numbers[longest] if lengths else 0,
        wrong=0,
        bad=[],
        notes=dict(Counter(note for value in values for note in notes(value, _LEARN))),
    )
    shown = sorted({*range(min(_RENDERED, len(examples))), *([longest] if lengths else [])})
    return counted, [_render(split, numbers[at], examples[at], limit) for at in shown]


def _render(split: str, number: int, example: list[Run], limit: int) -> RenderedExample:
    every = [(word, learned) for words, learned in example for word in words]
    flags = [(learned, at >= limit) for at, (_, learned) in enumerate(every)]
    changes = [at for at in range(1, len(every)) if flags[at] != flags[at - 1]]
    pieces = [
        Piece(" ".join(word for word, _ in every[a:b]) + " ", *flags[a], b - a)
        for a, b in itertools.pairwise([0, *changes, len(every)])
    ]
    last = len(example[-1][0])
    return RenderedExample(split, number, len(every), len(every) - last, pieces)


def measure(data: Path, max_seq_length: int, target: Path) -> None:
    """See `backends.base.Backend.measure`."""
    for path in tidy(data.glob("*.jsonl")):
        with (
            path.open(encoding="utf-8", newline="\n") as lines,
            (target / f"{path.stem}.measured").open("wb") as file,
        ):
            for line in lines:
                file.write(MEASURED.pack(*_measured(json.loads(line), max_seq_length)))


def render(file: Path, offset: int, max_seq_length: int) -> RenderedRow:
    """See `backends.base.Backend.render`."""
    with file.open("rb") as lines:
        lines.seek(offset)
        value = json.loads(lines.readline())
    rendered = [_tokens(file.stem, one, max_seq_length) for one in _learned_from(value)]
    return RenderedRow(rendered, sorted(set(notes(value, _LEARN))))


def _learned_from(value: dict[str, Any]) -> list[dict[str, Any]]:
    if "chosen" not in value and not is_labelled(value):
        return [value]
    return [chat for chat, _ in judged(value)]


def _measured(value: dict[str, Any], limit: int) -> tuple[int, RowFlag]:
    examples = [runs(one, _LEARN) for one in _learned_from(value)]
    lengths = [sum(len(words) for words, _ in example) for example in examples]
    flags = RowFlag(0)
    if max(lengths) > limit:
        flags |= RowFlag.CUT | RowFlag.UNENDED
    if not all(count_learned(example, limit) for example in examples):
        flags |= RowFlag.UNLEARNED
    asked = [m for m in value.get("messages") or () if m["role"] != "assistant"]
    if any("</s>" in message["content"] for message in asked):
        flags |= RowFlag.TYPED
    return max(lengths), flags


def _tokens(split: str, value: dict[str, Any], limit: int) -> RenderedExample:
    example = runs(value, _LEARN)
    every = [(word, learned) for words, learned in example for word in words]
    pieces = [
        Piece(f"{word} ", learned, at >= limit, 1) for at, (word, learned) in enumerate(every)
    ]
    last = len(example[-1][0])
    return RenderedExample(split, 0, len(every), len(every) - last, pieces)
