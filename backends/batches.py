"""How examples are put together by their lengths alone: divided over lanes, cut into pieces, packed into
rows. Training does it, and planning counts what it would give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Measured(Protocol):
    @property
    def length(self) -> int:
        """Tokens."""
        ...


def divide[T: Measured](items: Sequence[T], parts: int) -> list[list[T]]:
    """At most `parts` non-empty groups of like length, the largest of which, with its padding, is
    as small as can be: they are worked on at the same time."""
    ordered = sorted(items, key=lambda item: -item.length)
    low, high = 0, sum(item.length for item in ordered[:1]) * len(ordered)
    while low < high:
        middle = (low + high) // 2
        if len(_filling(ordered, middle, parts)) <= parts:
            high = middle
        else:
            low = middle + 1
    return [group[::-1] for group in reversed(_filling(ordered, high, parts))]


def _filling[T: Measured](ordered: Sequence[T], most: int, parts: int) -> list[list[T]]:
    """Groups of at most `most` tokens with their padding, of items that come longest first; as soon
    as there are more than `parts`, the rest is left out."""
    groups: list[list[T]] = []
    at = 0
    while at < len(ordered) and len(groups) <= parts:
        size = max(1, most // max(1, ordered[at].length))
        groups.append(list(ordered[at : at + size]))
        at += size
    return groups


def cut[T: Measured](items: Sequence[T], parts: int, most: int) -> list[list[T]]:
    """Groups that follow each other, as few as let each of `parts`, into which a group is divided, have
    at most `most` tokens with its padding, or those of the longest item."""
    most = max(most, *(item.length for item in items))
    count = 1
    while True:
        groups = divide(items, parts * count)
        if max(len(group) * group[-1].length for group in groups) <= most:
            break
        count += 1
    return _joined(groups, parts)


def cut_packed[T: Measured](items: Sequence[T], parts: int, most: int) -> list[list[T]]:
    """As `cut`, of items that need no padding. Each part has about `most` tokens or those of the longest
    item, so that parts that are worked on at the same time are alike."""
    most = max(most, *(item.length for item in items))
    count = -(-sum(item.length for item in items) // (parts * most))
    groups = balance(items, parts * count)
    groups.sort(key=lambda group: sum(item.length for item in group))
    return _joined(groups, parts)


def _joined[T](groups: Sequence[Sequence[T]], parts: int) -> list[list[T]]:
    return [
        [item for group in groups[at : at + parts] for item in group]
        for at in range(0, len(groups), parts)
    ]


def balance[T: Measured](items: Sequence[T], parts: int) -> list[list[T]]:
    """At most `parts` non-empty groups with near-equal numbers of tokens."""
    groups: list[list[T]] = [[] for _ in range(min(parts, len(items)))]
    for item in sorted(items, key=lambda item: -item.length):
        min(groups, key=lambda group: sum(member.length for member in group)).append(item)
    return groups


def pack[T: Measured](items: Sequence[T], capacity: int) -> list[list[T]]:
    """First-fit decreasing: each item, longest first, goes into the first row with room."""
    rows: list[list[T]] = []
    room: list[int] = []
    for item in sorted(items, key=lambda item: -item.length):
        need = item.length - 1  # the last token is no input
        for at, free in enumerate(room):
            if need <= free:
                rows[at].append(item)
                room[at] -= need
                break
        else:
            rows.append([item])
            room.append(capacity - need)
    return rows
