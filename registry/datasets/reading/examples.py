"""Reading the files of one data set: every example checked, every mistake with its place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from registry.background.progress import SILENT, Progress
from registry.datasets.dialects.detection import Kind
from registry.datasets.dialects.parts import Unused
from registry.datasets.formats import FIELDS
from registry.datasets.reading import limited
from registry.datasets.reading.file import Asked, Event, Found
from registry.errors import Invalid
from registry.models import Dataset

_SHOWN = 5  # in one sentence
_KEPT = 200  # on a page
_FILES = 20  # named of each split
_EVERY = 5_000  # examples between two reports of progress


class BadExamples(Invalid):
    """The examples are wrong; `problems` are the first 200 mistakes of `total`, in order."""

    def __init__(self, problems: Sequence[str], total: int) -> None:
        more = f" And {total - _SHOWN} more." if total > _SHOWN else ""
        super().__init__(" ".join(problems[:_SHOWN]) + more)
        self.problems = list(problems)
        self.total = total


@dataclass
class Reader:
    """Reads files of one data set: the first hundred examples decide the format of all of them.

    `columns` maps the names that training reads to the files' own; `names` the files' names to
    those by which a person knows them. Problems are collected, so that a person can fix several at
    once; `check` raises them.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    progress: Progress = SILENT
    names: Mapping[str, str] = field(default_factory=dict)
    characters: int = 0
    longest: int = 0
    read_so_far: int = 0
    problems: list[str] = field(default_factory=list)
    wrong: int = 0
    files: dict[str, list[str]] = field(default_factory=dict)
    """By split, the names of the files that it was read from; "" for files that are split."""
    left_out: list[str] = field(default_factory=list)
    kind: Kind | None = None
    _tools: bool = False
    _labels: Counter[str] = field(default_factory=Counter)
    _dialects: dict[str, list[str]] = field(default_factory=dict)
    _unused: Unused = field(default_factory=Unused)

    def read(self, path: Path, split: str = "") -> Iterator[str]:
        """Every good example of `path`, as a line of JSON without line end; `split` is the one
        that the file is, "" for one that is split.

        A JSON line that training reads as it is stays as it is, byte for byte. Raises Invalid when
        the file as a whole cannot be read.
        """
        name = self.name(path)
        self.files.setdefault(split, []).append(name)
        for event in limited.read(path, Asked(self.columns, self.kind, name)):
            self.take(event, name)
            if event.line is not None:
                yield event.line

    def take(self, event: Event, name: str) -> None:
        """Note what was read of the file that a person calls `name`."""
        if event.problem is not None:
            self._note(f"{name} {event.problem}")
        elif event.found:
            self._keep(event.found)
        elif event.line is not None:
            self._count(event.line, event.share)

    def name(self, path: Path) -> str:
        """What a person calls this file."""
        return self.names.get(path.name, path.name)

    def check(self) -> Dataset.Format:
        """The format of what was read. Raises BadExamples with the problems that `read` met."""
        if self.problems:
            raise BadExamples(self.problems, self.wrong)
        if self.kind is None:
            raise Invalid("The file holds no example.")
        return Dataset.Format("tools" if self._tools else self.kind.format)

    def schema(self) -> dict[str, Any]:
        """What a data set's row keeps: the fields of its examples, the dialects they were read
        as, what nothing reads, and the files of each split."""
        return {
            "fields": FIELDS[self.check()],
            "read_as": [f"{name} ({', '.join(keys)})" for name, keys in self._dialects.items()],
            "unused": list(self._unused),
            "files": {split: _few(names) for split, names in self.files.items()},
            "files_left_out": _few(self.left_out),
        }

    def leave_out(self, paths: Iterable[Path]) -> None:
        """Note files that are not read, since their names say no split beside others that do."""
        self.left_out += [self.name(path) for path in paths]

    def _keep(self, found: Found) -> None:
        self.kind = found.kind
        self._tools |= found.tools
        for name, keys in found.dialects.items():
            before = self._dialects.setdefault(name, [])
            before += [key for key in keys if key not in before]
        for name in found.unused:
            self._unused.add(name)

    def _count(self, line: str, share: float) -> None:
        self.characters += len(line)
        self.longest = max(self.longest, len(line))
        self.read_so_far += 1
        if self.read_so_far % _EVERY == 0:
            self.progress.part(share, examples=self.read_so_far)

    def _note(self, problem: str) -> None:
        self.wrong += 1
        if len(self.problems) < _KEPT:
            self.problems.append(problem)


def _few(names: Sequence[str]) -> list[str]:
    """The names, or the first of many and how many more there are."""
    more = len(names) - _FILES
    return [*names[:_FILES], f"{more} more"] if more > 0 else list(names)
