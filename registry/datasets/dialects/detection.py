"""What the examples of one data set are: decided by the first hundred, kept for the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from registry.datasets.dialects.pairs import lifted
from registry.datasets.files.values import BadLine, Row
from registry.datasets.formats import Format

LOOKED_AT = 100


@dataclass(frozen=True)
class Kind:
    """`format` of all examples, where tools is one with chat; whether prompts with completions
    become chats, since some of them follow a system prompt or earlier turns."""

    format: Format
    lifts: bool


class Example(NamedTuple):
    """A row that was read: whether its dialect is of the pairs, its format, what it became."""

    paired: bool
    format: Format
    row: Row


def decide(examples: Sequence[Example]) -> Kind:
    """The kind of most of the examples, of which there is at least one."""
    lifts = any(example.paired and example.format == "chat" for example in examples)
    counted = Counter(_family(example, lifts) for example in examples)
    return Kind(counted.most_common(1)[0][0], lifts)


def fitted(example: Example, kind: Kind) -> Row:
    """The example as one of this kind. Raises BadLine when it is another."""
    if _family(example, kind.lifts) == kind.format:
        raised = example.format == "completions" and kind.format == "chat"
        return lifted(example.row) if raised else example.row
    if example.paired and example.format == "chat" and kind.format == "completions":
        raise BadLine(
            f"has a system prompt or earlier turns, and none of the first {LOOKED_AT} examples "
            "has; put one that has among them, and all are read as chats."
        )
    raise BadLine(f"is a {example.format} example in a data set of {kind.format} examples.")


def _family(example: Example, lifts: bool) -> Format:
    if example.format == "tools" or (lifts and example.paired):
        return "chat"
    return example.format
