"""Preference data: a request with a better and a worse answer, or with one that is good or bad.

Each answer becomes an example of its own, rendered exactly as a plain chat would be, so that the
objective compares answers that the endpoint could have given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from backends.base import TrainingConfig
from backends.examples import as_chat, judged
from backends.mlx.data.batching import Batch, Padding, make_batch
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

    # What `backends.mlx.data.columns` keeps of it, and makes it from:

    notes: ClassVar[tuple[str, ...]] = ()
    label: ClassVar[int] = 0

    @property
    def parts(self) -> tuple[Example, ...]:
        return self.chosen, self.rejected

    @classmethod
    def joined(cls, parts: Sequence[Example], line: int, label: int) -> Self:
        chosen, rejected = parts
        return cls(chosen, rejected, line)

    @classmethod
    def read(cls, value: Any, line: int, tokenizer: Any, config: TrainingConfig) -> list[Self]:
        """From a line's value. Raises ValueError, TypeError and KeyError."""
        chosen, rejected = (
            example_of(
                as_chat(value, answer),
                tokenizer,
                "last_answer",
                config.special_tokens,
                config.thoughts,
                config.tools,
            )
            for answer in ("chosen", "rejected")
        )
        if chosen == rejected:
            raise ValueError("the chosen and the rejected answer are the same")
        return [cls(chosen, rejected, line)]

    def fit(self, limit: int) -> Self | None:
        """It without the tokens beyond `limit`; None when either answer lies there. Two answers that
        differ only beyond it teach nothing."""
        chosen, rejected = cut(self.chosen, limit), cut(self.rejected, limit)
        if chosen is None or rejected is None or chosen == rejected:
            return None
        return replace(self, chosen=chosen, rejected=rejected)

    @classmethod
    def fits(cls, items: Sequence[Self], limit: int) -> bool:
        return all(item.fit(limit) is not None for item in items)


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

    # What `backends.mlx.data.columns` keeps of it, and makes it from:

    notes: ClassVar[tuple[str, ...]] = ()

    @property
    def label(self) -> int:
        return int(self.good)

    @property
    def parts(self) -> tuple[Example, ...]:
        return (self.example,)

    @classmethod
    def joined(cls, parts: Sequence[Example], line: int, label: int) -> Self:
        (example,) = parts
        return cls(example, bool(label), line)

    @classmethod
    def read(cls, value: Any, line: int, tokenizer: Any, config: TrainingConfig) -> list[Self]:
        """The answer of a line, or both answers of a preference. Raises ValueError, TypeError and
        KeyError."""
        settings = config.special_tokens, config.thoughts, config.tools
        answers = [
            cls(example_of(chat, tokenizer, "last_answer", *settings), good, line)
            for chat, good in judged(value)
        ]
        if len(answers) > 1 and answers[0].example == answers[1].example:
            raise ValueError("the chosen and the rejected answer are the same")
        return answers

    def fit(self, limit: int) -> Self | None:
        """It without the tokens beyond `limit`; None when its answer lies there."""
        example = cut(self.example, limit)
        return None if example is None else replace(self, example=example)

    @classmethod
    def fits(cls, items: Sequence[Self], limit: int) -> bool:
        """Whether all do. Two answers that differ only beyond the limit are both good and bad."""
        kept = [cut(item.example, limit) for item in items]
        return all(kept) and not (len(kept) > 1 and kept[0] == kept[1])


@dataclass(frozen=True, kw_only=True)
class LabelledBatch(Batch):
    """`good` `[rows]` is 1 or 0. `others` has the rows of other answers, if there are any."""

    good: NDArray[np.float32]
    others: Batch | None


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


def labelled_batch(items: Sequence[Labelled], padding: Padding) -> LabelledBatch:
    """The answers, one a row, and beside them those of other requests."""
    others = [item.other for item in items if item.other]
    return LabelledBatch(
        **vars(make_batch([item.example for item in items], padding)),
        good=np.array([item.good for item in items], np.float32),
        others=make_batch(others, padding) if others else None,
    )
