"""Preference data: a request with a better and a worse answer.

Each answer becomes an example of its own, rendered exactly as a plain chat would be, so that the
objective compares answers that the endpoint could have given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from backends.base import SpecialTokens, TrainingConfig
from backends.examples import Split, as_chat, read_jsonl
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
            example_of(as_chat(value, answer), tokenizer, "last_answer", config.special_tokens)
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


def read_pairs(
    path: Path, tokenizer: Any, max_seq_length: int, special: SpecialTokens = "text"
) -> Split[Pair]:
    """Tokenize the preferences of the JSON-lines file `path`; a pair of which either answer lies
    beyond `max_seq_length` is dropped. Raises BadExample, which names the file and the line."""

    config = TrainingConfig(objective="dpo", special_tokens=special)

    def parse(value: Any, line: int) -> Pair:
        (pair,) = Pair.read(value, line, tokenizer, config)
        return pair

    def fit(pair: Pair) -> tuple[Pair | None, bool]:
        return pair.fit(max_seq_length), pair.length > max_seq_length

    return read_jsonl(path, parse, fit)
