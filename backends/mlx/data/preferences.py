"""Preference data: a request with a better and a worse answer, or with one that is good or bad.

Each answer becomes an example of its own, rendered exactly as a plain chat would be, so that the
objective compares answers that the endpoint could have given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends.base import SpecialTokens, Thoughts
from backends.examples import Split, as_chat, judged, read_jsonl
from backends.mlx.data.batching import Batch, make_batch
from backends.mlx.data.examples import Example, cut, example_of


@dataclass(frozen=True)
class Pair:
    """Two answers to one request."""

    chosen: Example
    rejected: Example
    line: int  # in its file, from 1

    @property
    def length(self) -> int:
        return max(self.chosen.length, self.rejected.length)


def read_pairs(
    path: Path,
    tokenizer: Any,
    max_seq_length: int,
    special: SpecialTokens = "text",
    thoughts: Thoughts = "kept",
) -> Split[Pair]:
    """Tokenize the preferences of the JSON-lines file `path`; a pair of which either answer lies
    beyond `max_seq_length` is dropped. Raises BadExample, which names the file and the line."""

    def parse(value: Any, line: int) -> Pair:
        chosen, rejected = (
            example_of(as_chat(value, answer), tokenizer, "last_answer", special, thoughts)
            for answer in ("chosen", "rejected")
        )
        if chosen == rejected:
            raise ValueError("the chosen and the rejected answer are the same")
        return Pair(chosen, rejected, line)

    def fit(pair: Pair) -> tuple[Pair | None, bool]:
        chosen, rejected = cut(pair.chosen, max_seq_length), cut(pair.rejected, max_seq_length)
        long = pair.length > max_seq_length
        # Two answers that differ only beyond the limit teach nothing.
        if chosen is None or rejected is None or chosen == rejected:
            return None, long
        return Pair(chosen, rejected, pair.line), long

    return read_jsonl(path, parse, fit)


# ---------------------------------------------------------------- labelled answers


@dataclass(frozen=True)
class Labelled:
    """An answer that is good or bad. `other` is this request with the answer to another one, where
    there is another."""

    example: Example
    good: bool
    line: int  # in its file, from 1
    other: Example | None = None

    @property
    def length(self) -> int:
        return max(self.example.length, self.other.length if self.other else 0)


@dataclass(frozen=True, kw_only=True)
class LabelledBatch(Batch):
    """`good` `[rows]` is 1 or 0. `others` has the rows of other answers, if there are any."""

    good: NDArray[np.float32]
    others: Batch | None


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

    def parse(value: Any, line: int) -> list[Labelled]:
        answers = [
            Labelled(example_of(chat, tokenizer, "last_answer", special, thoughts), good, line)
            for chat, good in judged(value)
        ]
        if len(answers) > 1 and answers[0].example == answers[1].example:
            raise ValueError("the chosen and the rejected answer are the same")
        return answers

    def fit(answers: list[Labelled]) -> tuple[list[Labelled] | None, bool]:
        long = max(answer.length for answer in answers) > max_seq_length
        kept = [(answer, cut(answer.example, max_seq_length)) for answer in answers]
        found = [replace(answer, example=example) for answer, example in kept if example]
        # Two answers that differ only beyond the limit are both good and bad.
        same = len(found) > 1 and found[0].example == found[1].example
        return (None if len(found) < len(answers) or same else found), long

    split = read_jsonl(path, parse, fit)
    return Split([one for group in split.examples for one in group], split.truncated, split.dropped)


def with_others(items: Sequence[Labelled], max_seq_length: int) -> list[Labelled]:
    """Each request with the answer of the item before it, which it was not given to."""
    if len(items) < 2:
        return list(items)
    return [
        replace(item, other=_mixed(item.example, items[n - 1].example, max_seq_length))
        for n, item in enumerate(items)
    ]


def _mixed(one: Example, another: Example, limit: int) -> Example | None:
    """What comes before the learned tokens of `one`, then those of `another`, within the limit."""
    first, begin = one.learned[0][0], another.learned[0][0]
    moved = first - begin
    mixed = Example(
        [*one.tokens[:first], *another.tokens[begin:]],
        another.start + moved,
        earlier=tuple((start + moved, end + moved) for start, end in another.earlier),
    )
    return cut(mixed, limit)


def labelled_batch(items: Sequence[Labelled], pad_to: int) -> LabelledBatch:
    """The answers, one a row, and beside them those of other requests."""
    others = [item.other for item in items if item.other]
    return LabelledBatch(
        **vars(make_batch([item.example for item in items], pad_to)),
        good=np.array([item.good for item in items], np.float32),
        others=make_batch(others, pad_to) if others else None,
    )
