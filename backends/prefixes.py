"""Which prefixes of token sequences are cached: one index for every backend.

Sequences are cut into blocks, and a block is named by the digest of itself and all before it, so
a look-up reads a prompt once and ends at the first block that is not held. Blocks are held in
segments: runs of blocks that were added at once, each of which continues its parent. A prefix that
many sequences share is held once. Behind a block hangs the rest of the newest sequence that ended there,
which is shorter than a block: the next turn of a chat continues it.

This module knows neither what a segment contains nor where that is stored.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, takewhile
from typing import NamedTuple

BLOCK = 32  # tokens


class Rest[T](NamedTuple):
    """The end of a sequence, fewer tokens than a block."""

    tokens: list[int]
    content: T
    nbytes: int


@dataclass(eq=False, slots=True)
class Segment[T]:
    """A run of blocks: `names` has the name of each, `first` the number of blocks before it, `rests` what
    hangs behind the blocks of these places in it, `nbytes` the size of all."""

    parent: Segment[T] | None
    first: int
    names: list[bytes]
    content: T
    nbytes: int
    rests: dict[int, Rest[T]] = field(default_factory=dict)


class PrefixTree[T]:
    """Segments within a budget of bytes. The least recently used are dropped first, children before
    the parents that they need."""

    def __init__(
        self, most_bytes: int, dropped: Callable[[Segment[T]], None] | None = None
    ) -> None:
        self.nbytes = 0
        self._given = self._most_bytes = most_bytes
        self._dropped = dropped
        self._places: dict[bytes, tuple[Segment[T], int]] = {}  # a block's segment, and where in it
        # From least to most recently used. A parent is always used after its children, so that
        # the first one has none.
        self._order: OrderedDict[Segment[T], None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._order)

    def find(self, root: bytes, tokens: Sequence[int]) -> list[tuple[Segment[T], int]]:
        """The held beginning of `tokens`, as segments in their order and how many of the blocks of
        each belong to it. `root` separates what must not be shared, such as adapters."""
        last = None
        for name in _names(root, tokens):
            place = self._places.get(name)
            if place is None:
                break
            last = place
        path = list(_path(*last)) if last else []
        for segment, _ in path:  # from the last to the first
            self._order.move_to_end(segment)
        return path[::-1]

    def add(
        self,
        root: bytes,
        tokens: Sequence[int],
        bytes_per_token: int,
        cut: Callable[[int, int], T],
    ) -> Segment[T] | None:
        """Hold the whole blocks of `tokens`, as far as the budget reaches. `cut(start, stop)` gives
        the content of the tokens that are not held yet. Returns what was added."""
        path = self.find(root, tokens)
        parent, used = path[-1] if path else (None, 0)
        first = parent.first + used if parent else 0
        block_bytes = BLOCK * bytes_per_token
        room = self._most_bytes - sum(segment.nbytes for segment, _ in path)
        count = min(len(tokens) // BLOCK - first, room // block_bytes)
        if count <= 0:
            return None
        names = list(islice(_names(root, tokens), first, first + count))
        self.shrink(self._most_bytes - count * block_bytes)
        content = cut(first * BLOCK, (first + count) * BLOCK)
        return self.put(Segment(parent, first, names, content, count * block_bytes))

    def add_rest(
        self,
        root: bytes,
        tokens: Sequence[int],
        bytes_per_token: int,
        cut: Callable[[int, int], T],
    ) -> None:
        """Hold what follows the whole blocks of `tokens`, if these are held and there is room."""
        path = self.find(root, tokens)
        count = BLOCK * sum(blocks for _, blocks in path)
        nbytes = bytes_per_token * (len(tokens) - count)
        held = sum(segment.nbytes for segment, _ in path)
        if not path or not 0 < len(tokens) - count < BLOCK or held + nbytes > self._most_bytes:
            return
        segment, used = path[-1]
        before = segment.rests.pop(used - 1, None)
        self._grow(segment, -before.nbytes if before else 0)
        self.shrink(self._most_bytes - nbytes)  # the path is the last to go
        rest = Rest(list(tokens[count:]), cut(count, len(tokens)), nbytes)
        segment.rests[used - 1] = rest
        self._grow(segment, nbytes)

    def find_rest(
        self, path: Sequence[tuple[Segment[T], int]], tokens: Sequence[int]
    ) -> tuple[T, int] | None:
        """What is held behind the end of `path`, which was found for `tokens`, and how many tokens of it
        are theirs."""
        if not path:
            return None
        segment, used = path[-1]
        rest = segment.rests.get(used - 1)
        following = tokens[BLOCK * sum(blocks for _, blocks in path) :]
        pairs = zip(rest.tokens, following, strict=False) if rest else ()
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        return (rest.content, same) if rest and same else None

    def _grow(self, segment: Segment[T], nbytes: int) -> None:
        segment.nbytes += nbytes
        self.nbytes += nbytes

    def put(self, segment: Segment[T]) -> Segment[T]:
        """Hold `segment`, whose parent is held and for which there is room."""
        self.nbytes += segment.nbytes
        for position, name in enumerate(segment.names):
            self._places[name] = (segment, position)
        self._order[segment] = None
        for above, _ in _path(segment, 0):
            self._order.move_to_end(above)
        return segment

    def place(self, name: bytes) -> tuple[Segment[T], int] | None:
        """The segment that holds the block called `name`, and the block's number in it."""
        return self._places.get(name)

    def limit(self, most_bytes: int) -> None:
        """Hold no more from now on, within what the tree was given."""
        self._most_bytes = max(0, min(self._given, most_bytes))
        self.shrink(self._most_bytes)

    def shrink(self, most_bytes: int) -> None:
        """Drop segments until at most `most_bytes` are held."""
        while self.nbytes > max(most_bytes, 0):
            segment, _ = self._order.popitem(last=False)
            self.nbytes -= segment.nbytes
            for name in segment.names:
                del self._places[name]
            if self._dropped:
                self._dropped(segment)


def _names(root: bytes, tokens: Sequence[int]) -> Iterator[bytes]:
    """The name of each whole block of `tokens`; 32,000 tokens take about half a millisecond."""
    data, name, width = array("I", tokens).tobytes(), root, BLOCK * array("I").itemsize
    for start in range(0, len(data) - width + 1, width):
        name = hashlib.sha256(name + data[start : start + width]).digest()
        yield name


def _path[T](segment: Segment[T], position: int) -> Iterator[tuple[Segment[T], int]]:
    """`segment` up to its block `position` and all above it, each with its number of used blocks."""
    above: Segment[T] | None = segment
    used = position + 1
    while above is not None:
        yield above, used
        used = above.first - above.parent.first if above.parent else 0
        above = above.parent
