"""Examples, preferences and labelled answers read line by line into memory: what training, which reads them from
columns of numbers, is compared with."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from backends.base import Learn, SpecialTokens, Thoughts, TrainingConfig
from backends.examples import Split, read_jsonl
from backends.mlx.data.examples import Example
from backends.mlx.data.preferences import Labelled, Pair


def read_split(
    path: Path,
    tokenizer: Any,
    max_seq_length: int,
    learn: Learn,
    special: SpecialTokens = "text",
    thoughts: Thoughts = "kept",
) -> Split[Example]:
    """Tokenize the JSON-lines file `path`. Raises BadExample, which names the file and the line."""
    config = TrainingConfig(learn=learn, special_tokens=special, thoughts=thoughts)
    notes: Counter[str] = Counter()

    def parse(value: Any, line: int) -> Example:
        (example,) = Example.read(value, line, tokenizer, config)
        notes.update(example.notes)
        return example

    def fit(example: Example) -> tuple[Example | None, bool]:
        return example.fit(max_seq_length), example.length > max_seq_length

    return replace(read_jsonl(path, parse, fit), notes=dict(notes))


def read_pairs(
    path: Path,
    tokenizer: Any,
    max_seq_length: int,
    special: SpecialTokens = "text",
    thoughts: Thoughts = "kept",
) -> Split[Pair]:
    """Tokenize the preferences of the JSON-lines file `path`; a pair of which either answer lies
    beyond `max_seq_length` is dropped. Raises BadExample, which names the file and the line."""

    config = TrainingConfig(objective="dpo", special_tokens=special, thoughts=thoughts)

    def parse(value: Any, line: int) -> Pair:
        (pair,) = Pair.read(value, line, tokenizer, config)
        return pair

    def fit(pair: Pair) -> tuple[Pair | None, bool]:
        return pair.fit(max_seq_length), pair.length > max_seq_length

    return read_jsonl(path, parse, fit)


def read_labelled(
    path: Path,
    tokenizer: Any,
    max_seq_length: int,
    special: SpecialTokens = "text",
    thoughts: Thoughts = "kept",
) -> Split[Labelled]:
    """Tokenize the labelled answers of the JSON-lines file `path`, or both answers of each of its
    preferences; one that lies beyond `max_seq_length` is dropped with the other of its pair. Raises
    BadExample, which names the file and the line."""
    config = TrainingConfig(objective="kto", special_tokens=special, thoughts=thoughts)

    def parse(value: Any, line: int) -> list[Labelled]:
        return Labelled.read(value, line, tokenizer, config)

    def fit(answers: list[Labelled]) -> tuple[list[Labelled] | None, bool]:
        long = max(answer.length for answer in answers) > max_seq_length
        if not Labelled.fits(answers, max_seq_length):
            return None, long
        return [kept for answer in answers if (kept := answer.fit(max_seq_length))], long

    split = read_jsonl(path, parse, fit)
    return Split([one for group in split.examples for one in group], split.truncated, split.dropped)
