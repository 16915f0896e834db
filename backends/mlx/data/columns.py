"""Tokenized examples as columns of numbers, in memory or mapped from files, and read one by one.

A folder holds a file for each column and `meta.json`, which is written last and names their sizes
and checksums. Examples are kept in full: the limit on their length is applied when they are read, so
that one folder serves every `max_seq_length`.
"""

from __future__ import annotations

import json
import zlib
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self, overload

import numpy as np
from numpy.typing import NDArray

from backends.base import TrainingConfig
from backends.durable import fsync
from backends.mlx.data.examples import Example

META = "meta.json"
_BLOCK = 1 << 20  # bytes read at a time for a checksum

TYPES = {
    "lines": "I",
    "labels": "B",
    "lengths": "I",
    "learned": "I",
    "spans": "I",
    "tokens": "I",
}
"""Each column's type, as `array` names it. `lines` and `labels` have a number for each item; `lengths`
(tokens) and `learned` (spans) one for each of its examples; `spans` two for each span; `tokens` one
for each token, in 16 bits where the vocabulary allows."""

type Column = NDArray[np.unsignedinteger[Any]]


class Item(Protocol):
    """What a step learns from: one example, or several that belong together."""

    @property
    def length(self) -> int:
        """Tokens, of the longest example."""
        ...

    @property
    def line(self) -> int: ...

    @property
    def label(self) -> int:
        """What a kind wants to know of it besides its examples, 0 to 255."""
        ...

    @property
    def notes(self) -> tuple[str, ...]: ...

    @property
    def parts(self) -> tuple[Example, ...]:
        """Its examples, as many in every item of a kind."""
        ...

    @classmethod
    def joined(cls, parts: Sequence[Example], line: int, label: int) -> Self: ...

    @classmethod
    def read(cls, value: Any, line: int, tokenizer: Any, config: TrainingConfig) -> Sequence[Self]:
        """From a line's value. Raises ValueError, TypeError and KeyError."""
        ...

    def fit(self, limit: int) -> Self | None:
        """It without the tokens beyond `limit`; None when nothing is left to learn."""
        ...

    @classmethod
    def fits(cls, items: Sequence[Self], limit: int) -> bool:
        """Whether the items of one line have something to learn within `limit`. It is asked where they
        have several examples, of which one is longer; else it is enough that each has some."""
        ...


@dataclass(frozen=True)
class Columns:
    """The columns by name, and why answers are not learned as asked, counted."""

    held: Mapping[str, Column]
    notes: Mapping[str, int]

    @classmethod
    def of(cls, items: Sequence[Item], *, narrow: bool) -> Columns:
        """`narrow` says that every token fits into 16 bits."""
        made = {name: array(kind) for name, kind in TYPES.items()}
        made["tokens"] = array("H" if narrow else "I")
        notes: Counter[str] = Counter()
        for item in items:
            made["lines"].append(item.line)
            made["labels"].append(item.label)
            notes.update(item.notes)
            for part in item.parts:
                made["lengths"].append(part.length)
                made["learned"].append(len(part.learned))
                for span in part.learned:
                    made["spans"].extend(span)
                made["tokens"].extend(part.tokens)
        return cls({name: _as_column(values) for name, values in made.items()}, notes)


def _as_column(values: array[int]) -> Column:
    return np.frombuffer(values, f"u{values.itemsize}") if values else np.empty(0, values.typecode)


class Items[I: Item](Sequence[I]):
    """The items of `kind` that have something to learn within `limit` tokens, made when they are
    asked for. `lengths` `[n]` are theirs, after the cut."""

    def __init__(self, kind: type[I], columns: Columns, limit: int) -> None:
        self._kind, self._columns, self._limit = kind, columns.held, limit
        lengths, learned = self._columns["lengths"], self._columns["learned"]
        self._ends = np.cumsum(lengths, dtype=np.int64)  # of each example, in tokens
        self._span_ends = np.cumsum(learned, dtype=np.int64)
        lines = self._columns["lines"]
        self._parts = len(lengths) // len(lines) if len(lines) else 1
        longest = lengths.reshape(-1, self._parts).max(axis=1) if len(lines) else lengths
        starts = np.flatnonzero(np.diff(lines, prepend=0))  # of each line's items
        long, usable = self._by_line(longest, starts)
        kept = np.repeat(usable, np.diff(starts, append=len(lines)))
        self._rows = np.flatnonzero(kept).astype(np.uint32)
        self.truncated, self.dropped = int(long.sum()), int((~usable).sum())
        self.lengths = np.minimum(longest[kept], limit).astype(np.int32)

    def _by_line(
        self, longest: Column, starts: NDArray[np.intp]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which lines have a longer example, and which have something to learn: all or none of a
        line's items are kept."""
        if not len(starts):
            return np.empty(0, np.bool_), np.empty(0, np.bool_)
        learned, spans = self._columns["learned"], self._columns["spans"]
        first = np.full(len(learned), self._limit, np.int64)  # where each example's first span is
        some = np.flatnonzero(learned)
        first[some] = spans[2 * (self._span_ends[some] - learned[some])]
        teaching = (first < self._limit).reshape(-1, self._parts).all(axis=1)
        usable: NDArray[np.bool_] = np.logical_and.reduceat(teaching, starts)
        long: NDArray[np.bool_] = np.logical_or.reduceat(longest > self._limit, starts)
        if len(learned) > len(starts):
            ends = np.append(starts[1:], len(longest))
            for at in np.flatnonzero(usable & long):
                items = [self._whole(row) for row in range(int(starts[at]), int(ends[at]))]
                usable[at] = self._kind.fits(items, self._limit)
        return long, usable

    def _whole(self, row: int) -> I:
        first = row * self._parts
        parts = [self._example(number) for number in range(first, first + self._parts)]
        lines, labels = self._columns["lines"], self._columns["labels"]
        return self._kind.joined(parts, int(lines[row]), int(labels[row]))

    def _example(self, number: int) -> Example:
        end, count = int(self._ends[number]), int(self._columns["lengths"][number])
        last, learned = int(self._span_ends[number]), int(self._columns["learned"][number])
        numbers = self._columns["spans"][2 * (last - learned) : 2 * last].tolist()
        spans = tuple(zip(numbers[::2], numbers[1::2], strict=True))
        tokens = self._columns["tokens"][end - count : end].tolist()
        if spans and spans[-1][1] == count:
            return Example(tokens, spans[-1][0], earlier=spans[:-1])
        return Example(tokens, count, earlier=spans)

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> I: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[I]: ...

    def __getitem__(self, index: int | slice) -> I | Sequence[I]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        found = self._whole(int(self._rows[index])).fit(self._limit)
        assert found is not None, "the others are left out"
        return found


# ---------------------------------------------------------------- files


class Writer:
    """Takes columns piece by piece, into the files of the new folder `place`, or into memory where
    that is None. When a file cannot be written, memory takes them from there on, and `failed` says
    why."""

    def __init__(self, place: Path | None) -> None:
        self.place = place
        self.failed: OSError | None = None
        self._sizes = dict.fromkeys(TYPES, 0)
        self._sums = dict.fromkeys(TYPES, 0)
        self._types = {name: np.dtype(kind).str for name, kind in TYPES.items()}
        self._notes: Counter[str] = Counter()
        self._memory: dict[str, bytearray] = {name: bytearray() for name in TYPES}
        if place is not None:
            try:
                place.mkdir(parents=True)
                for name in TYPES:
                    (place / name).touch()
            except OSError as error:
                self._give_up(error)

    def add(self, columns: Columns) -> None:
        """Append `columns` to those that came before."""
        self._notes.update(columns.notes)
        for name, column in columns.held.items():
            self._types[name] = column.dtype.str
            content = memoryview(column).cast("B") if len(column) else memoryview(b"")
            if self.place is not None:
                try:
                    with (self.place / name).open("ab") as file:
                        file.write(content)
                except OSError as error:
                    self._give_up(error)
            if self.place is None:
                self._memory[name] += content
            self._sums[name] = zlib.crc32(content, self._sums[name])
            self._sizes[name] += len(content)

    def close(self, about: Mapping[str, Any]) -> Columns:
        """All columns, from the files where there are any: those are durable then, with `about`."""
        files = {
            name: {"type": kind, "bytes": self._sizes[name], "crc32": self._sums[name]}
            for name, kind in self._types.items()
        }
        meta = {**about, "files": files, "notes": dict(self._notes)}
        if self.place is not None:
            try:
                for name in files:
                    fsync(self.place / name)
                (self.place / META).write_text(json.dumps(meta))
                fsync(self.place / META)
                fsync(self.place)
            except OSError as error:
                self._give_up(error)
        if self.place is not None:
            return mapped(self.place, meta)
        held = {
            name: np.frombuffer(bytes_, self._types[name]) for name, bytes_ in self._memory.items()
        }
        return Columns(held, self._notes)

    def _give_up(self, error: OSError) -> None:
        """Read back what the files have, which may be more than was counted."""
        self.failed, place, self.place = error, self.place, None
        assert place is not None, "only files fail"
        for name, size in self._sizes.items():
            if size:
                with (place / name).open("rb") as file:
                    self._memory[name] = bytearray(file.read(size))


def mapped(folder: Path, meta: Mapping[str, Any]) -> Columns:
    """The columns of a folder whose `meta.json` says `meta`."""
    held: dict[str, Column] = {}
    for name, said in meta["files"].items():
        kind = np.dtype(said["type"])
        held[name] = np.memmap(folder / name, kind, "r") if said["bytes"] else np.empty(0, kind)
    return Columns(held, dict(meta["notes"]))


def opened(folder: Path, about: Mapping[str, Any]) -> Columns | None:
    """The columns of a folder that was written whole, with this `about`; None when there is none, or
    a file of it is not as it was written."""
    try:
        meta = json.loads((folder / META).read_text())
        if any(meta.get(name) != value for name, value in about.items()):
            return None
        if set(meta["files"]) != set(TYPES):
            return None
        for name, said in meta["files"].items():
            if (folder / name).stat().st_size != said["bytes"]:
                return None
            if _checksum(folder / name) != said["crc32"]:
                return None
        return mapped(folder, meta)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _checksum(path: Path) -> int:
    found = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            found = zlib.crc32(block, found)
    return found
