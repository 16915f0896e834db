"""Preference data: a request with a better and a worse answer.

Each answer becomes an example of its own, rendered exactly as a plain chat would be, so that the
objective compares answers that the endpoint could have given.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.base import SpecialTokens, Thoughts
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
