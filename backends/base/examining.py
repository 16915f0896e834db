"""A data set through a model's tokenizer."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntFlag


@dataclass(frozen=True)
class SplitTokens:
    """One split through a tokenizer. `lengths` has the tokens of each usable example, before
    any cut; the counts are of the examples that were examined."""

    total: int  # lines of the split
    examined: int  # of these, spread evenly
    lengths: list[int]
    trained: int  # tokens that the loss counts
    truncated: int  # examples longer than the limit
    dropped: int  # examples with nothing to learn within the limit
    longest_line: int  # from 1; 0 for none
    wrong: int  # examples that training would reject
    bad: list[str]  # the first of them, with line and reason
    notes: dict[str, int] = field(default_factory=dict)  # answers that are not learned, by reason
    typed: int = 0  # messages to the assistant with special tokens, which are read as text


@dataclass(frozen=True)
class Piece:
    """A run of tokens as text. `trained` ones count in the loss, `cut` ones lie beyond the limit."""

    text: str
    trained: bool
    cut: bool
    tokens: int


@dataclass(frozen=True)
class RenderedExample:
    """An example as the model reads it: `tokens[start:]` are its last answer."""

    split: str
    line: int  # from 1
    tokens: int
    start: int
    pieces: list[Piece]


@dataclass(frozen=True)
class Examination:
    """`rendered` has the first examples of each split, and its longest."""

    splits: dict[str, SplitTokens]
    rendered: list[RenderedExample]


MEASURED = struct.Struct("<II")
"""What `Backend.measure` writes for each line: its tokens before any cut, and its `RowFlag`s."""


class RowFlag(IntFlag):
    """What a tokenizer and a limit make of a row."""

    CUT = 1
    """It has more tokens than the limit."""
    UNLEARNED = 2
    """Nothing is left to learn within the limit."""
    WRONG = 4
    """Training would reject it."""
    UNENDED = 8
    """An answer is learned without the token that ends it."""
    TYPED = 16
    """A message to the assistant has special tokens, which are read as text."""


@dataclass(frozen=True)
class RenderedRow:
    """One row as the model reads it, a piece per token (or per character of several): a preference
    has two, the chosen and the rejected. `notes` say why answers are not learned."""

    examples: list[RenderedExample]
    notes: list[str]
