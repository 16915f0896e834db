"""The examples of one file: rows read, their dialect found, their mistakes in words.

No Django: large files are read in a process of their own (`registry.datasets.reading.limited`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from registry.datasets.dialects.canonical import canonical
from registry.datasets.dialects.detection import LOOKED_AT, Example, Kind, decide, fitted
from registry.datasets.dialects.parts import Unused
from registry.datasets.dialects.table import Dialect
from registry.datasets.files import rows, values
from registry.datasets.files.values import BadLine, Row
from registry.datasets.formats import FIELDS, Format

_LONG = 1 << 20  # bytes of an example from which its parts are counted
_PARTS = 500_000
"""Lists and objects of an example; each takes some 60 bytes where a page shows it."""
_LOOKED_AT_BYTES = 8 << 20
_MOST_BYTES = 64 << 20
_TOO_LONG = f"{values.LONGEST_LINE >> 20} MiB."
_NOTHING: tuple[Any, ...] = (None, "", [], {})
_COLUMNS, _NAME, _CUT = 50, 200, 600
"""Columns of a shown row, and characters of their names and of their values."""


@dataclass(frozen=True)
class Asked:
    """How to read a file: mapped columns, what the examples before were, and what errors call it;
    how many rows at most (0: all; else at most 64 MiB of them, too), and with how many of them what
    they were in the file."""

    columns: Mapping[str, str] = field(default_factory=dict)
    kind: Kind | None = None
    name: str = ""
    most: int = 0
    shown: int = 0


@dataclass(frozen=True)
class Found:
    """What a file held: the kind of its examples and of those before; dialects with the fields
    that their rows had; columns and fields that nothing reads; whether tools are used; the columns
    of the file, and whether it was read to its end."""

    kind: Kind | None
    dialects: dict[str, list[str]]
    unused: list[str]
    tools: bool
    columns: list[str]
    whole: bool


class Shown(NamedTuple):
    """A row as it is in its file: where, and the text of each column, cut."""

    place: str
    fields: dict[str, str]


type Placed = tuple[str, Row | str | BadLine]
"""A row and where it stands in its file."""


class Event(NamedTuple):
    """An example as a line of JSON, a mistake with its place, or at the end what was found; the
    share of the file that is read, and the row that it was, if that was asked for."""

    share: float
    line: str | None = None
    problem: str | None = None
    found: Found | None = None
    shown: Shown | None = None


class _Read(NamedTuple):
    """An example, and the line that it is unless the data set makes it another kind."""

    example: Example
    line: str


class Reading:
    """Reads one file in this process."""

    def __init__(self, path: Path, asked: Asked) -> None:
        self.path, self.asked = path, asked
        self.kind = asked.kind
        self.share = 0.0
        self.tools = False
        self.unused = Unused()
        self.dialects: dict[str, tuple[Dialect, set[str]]] = {}
        self.shown: dict[str, Shown] = {}
        self.columns: dict[str, None] = {}
        self.size = 0

    def events(self) -> Iterator[Event]:
        """The examples and mistakes, and at the end what was found. Raises Invalid when the file
        as a whole cannot be read."""
        given = rows.rows(self.path, self._tick, self.unused.add, self.asked.name)
        read = (self._read(place, row) for place, row in self._few(given))
        first = [] if self.kind else list(_first(read))
        if examples := [item.example for _, item in first if isinstance(item, _Read)]:
            self.kind = decide(examples)
        for place, item in chain(first, read):
            if self.kind is None and isinstance(item, _Read):
                self.kind = decide([item.example])
            event = self._event(place, item)
            yield event
            if event.problem and event.problem.endswith(_TOO_LONG):
                break
        yield Event(1.0, found=self._found(whole=next(given, None) is None))

    def _few(self, given: Iterator[Placed]) -> Iterator[Placed]:
        """As many rows as are asked for, counted in `size` once they are read."""
        for number, row in enumerate(given, start=1):
            yield row
            if self.asked.most and (number >= self.asked.most or self.size > _MOST_BYTES):
                return

    def _tick(self, share: float) -> None:
        self.share = share

    def _read(self, place: str, row: Row | str | BadLine) -> tuple[str, _Read | BadLine]:
        try:
            if isinstance(row, BadLine):
                raise row
            given = values.parse(row) if isinstance(row, str) else row
            self._show(place, given)
            dialect, format, example = canonical(given, self.asked.columns, self.unused)
            same = isinstance(row, str) and example is given
            line = row if isinstance(row, str) and same else _dump(format, example)
        except BadLine as error:
            self.size += len(row) if isinstance(row, str) else 0
            if isinstance(row, str) and self.asked.shown > len(self.shown):
                self.shown.setdefault(place, Shown(place, {"": cut(row)}))
            return place, error
        except RecursionError:
            return place, BadLine("is nested too deeply.")
        self.size += len(line)
        self._see(dialect, given)
        return place, _Read(Example(dialect.paired, format, example), line)

    def _show(self, place: str, given: Row) -> None:
        """Keep what a person sees of the row beside what it becomes."""
        for key in given if self.asked.shown else ():
            if len(self.columns) < _COLUMNS and len(key) <= _NAME:
                self.columns.setdefault(key)
        if self.asked.shown > len(self.shown):
            fields = islice(given.items(), _COLUMNS)
            self.shown[place] = Shown(place, {key[:_NAME]: cut(value) for key, value in fields})

    def _see(self, dialect: Dialect, given: Row) -> None:
        """Note which of the dialect's fields a row has."""
        if dialect.name not in self.dialects:
            self.dialects[dialect.name] = (dialect, set())
        _, seen = self.dialects[dialect.name]
        if columns := self.asked.columns:
            given = {key: given.get(column) for key, column in columns.items()}
        for key in (given.keys() & dialect.known) - seen:
            if given[key] not in _NOTHING:
                seen.add(key)

    def _event(self, place: str, item: _Read | BadLine) -> Event:
        shown = self.shown.get(place)
        try:
            if isinstance(item, BadLine):
                raise item
            assert self.kind is not None
            row = fitted(item.example, self.kind)
            line = item.line if row is item.example.row else _dump(self.kind.format, row)
            if len(line) > values.LONGEST_LINE:
                raise BadLine(f"is longer than {_TOO_LONG}")
            if len(line) > _LONG and line.count("[") + line.count("{") > _PARTS:
                raise BadLine(f"holds more than {_PARTS:,} lists and objects.")
        except BadLine as error:
            return Event(self.share, problem=f"{place}: {error}", shown=shown)
        self.tools |= item.example.format == "tools"
        return Event(self.share, line=line, shown=shown)

    def _found(self, *, whole: bool) -> Found:
        return Found(
            self.kind,
            {
                name: [key for key in dialect.fields if key in fields]
                for name, (dialect, fields) in self.dialects.items()
            },
            list(self.unused),
            self.tools,
            list(self.columns),
            whole,
        )


def cut(value: Any) -> str:
    """What a person sees of a value: its text, or its JSON, of bounded length."""
    try:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    except RecursionError:
        text = "…"
    text = text if len(text) <= _CUT else f"{text[:_CUT]}…"
    return text.encode("utf-8", "replace").decode().replace("\0", "?")


def _first(
    read: Iterator[tuple[str, _Read | BadLine]],
) -> Iterator[tuple[str, _Read | BadLine]]:
    """The rows by which the kind is decided: a hundred, or fewer when they are long."""
    size = 0
    for place, item in islice(read, LOOKED_AT):
        yield place, item
        size += len(item.line) if isinstance(item, _Read) else 0
        if size > _LOOKED_AT_BYTES:
            return


def _dump(format: Format, example: Row) -> str:
    """As JSON. What no training reads may hold what JSON cannot say, and is left out then."""
    try:
        line = values.dump(example)
        line.encode()
    except (BadLine, UnicodeEncodeError):
        kept = {key: example[key] for key in FIELDS[format] if key in example}
        line = values.dump(values.checked(kept))
    return line
